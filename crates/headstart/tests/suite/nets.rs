//! Every net of the table against Keras's own listing of its layers.

use headstart::resnet::{FreezePoint, Net, Recipe, Surroundings};
use headstart::summary::{Row, Summary};

fn around(size: usize, upsample: usize, classes: Option<usize>) -> Surroundings {
    Surroundings { height: size, width: size, preprocess: None, upsample, classes }
}

fn base(name: &str) -> Net {
    Net::new(&Recipe::named(name).unwrap(), &around(224, 1, None)).unwrap()
}

fn line(row: &Row) -> String {
    let shape: Vec<String> = row.output_shape.iter().map(usize::to_string).collect();
    let index = row.index.unwrap();
    let (name, kind, params) = (&row.name, row.kind, row.params);
    format!("{index}\t{name}\t{kind}\t{}\t{params}\t{}", shape.join("x"), row.inputs.join(","))
}

#[test]
fn layers_are_those_of_keras() {
    for (name, listing) in [
        ("resnet50", include_str!("../reference/keras_resnet50_layers.tsv")),
        ("resnet101", include_str!("../reference/keras_resnet101_layers.tsv")),
        ("resnet152", include_str!("../reference/keras_resnet152_layers.tsv")),
        ("resnet50v2", include_str!("../reference/keras_resnet50v2_layers.tsv")),
        ("resnet101v2", include_str!("../reference/keras_resnet101v2_layers.tsv")),
        ("resnet152v2", include_str!("../reference/keras_resnet152v2_layers.tsv")),
    ] {
        let net = base(name);
        let all = vec![true; net.graph.nodes.len()];
        let ours: Vec<String> = Summary::new(&net, &all).rows.iter().map(line).collect();
        let keras: Vec<&str> = listing.lines().skip(1).collect();
        assert_eq!(ours.len(), keras.len(), "{name}");
        for (ours, keras) in ours.iter().zip(keras) {
            // Keras numbers the input layers of one process.
            let mut keras = keras.to_string();
            for number in 1..4 {
                keras = keras.replace(&format!("input_layer_{number}"), "input_layer");
            }
            assert_eq!(ours.trim_end(), keras.trim_end(), "{name}");
        }
    }
}

#[test]
fn totals_are_those_of_keras() {
    let net = base("resnet50");
    let summary = Summary::new(&net, &vec![true; net.graph.nodes.len()]);
    assert_eq!((summary.base_layers(), summary.total()), (175, 23_587_712));
    assert_eq!(summary.trainable(), 23_534_592);

    let net = Net::new(&Recipe::named("resnet50").unwrap(), &around(32, 7, Some(10))).unwrap();
    let point = net.freeze_point("100").unwrap();
    let summary = Summary::new(&net, &net.trainable(point));
    assert_eq!(summary.trainable(), 19_473_418);
    assert_eq!(summary.total(), 23_587_712 + 20_490);
    assert_eq!(Summary::new(&net, &net.head_only()).trainable(), 20_490);
}

#[test]
fn a_cifar_net_has_the_parameters_of_its_paper() {
    // He et al. 2015, table 6: 0.27M, 0.46M, 0.66M, 0.85M.
    for (name, millions) in
        [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85)]
    {
        let net = Net::new(&Recipe::named(name).unwrap(), &around(32, 1, Some(10))).unwrap();
        let total = Summary::new(&net, &net.head_only()).total() as f64 / 1e6;
        assert!((total - millions).abs() < 0.015, "{name}: {total}");
    }
}

#[test]
fn freeze_points_are_indices_or_names_of_the_net() {
    let net = base("resnet50");
    assert_eq!(net.freeze_point("0").unwrap(), FreezePoint(0));
    assert_eq!(net.freeze_point("174").unwrap(), FreezePoint(174));
    assert_eq!(net.freeze_point("conv4_block2_3_bn").unwrap(), FreezePoint(100));
    assert_eq!(net.layer_name(FreezePoint(100)), Some("conv4_block2_3_bn"));
    let error = net.freeze_point("175").unwrap_err();
    assert_eq!(
        error.to_string(),
        "freeze point: expected a layer name or an index from 0 to 174, found 175"
    );
    let error = net.freeze_point("conv4_blok2_3_bn").unwrap_err();
    assert!(error.hint().unwrap().contains("conv4_block2_3_bn"), "{error}");
    assert!(net.freeze_point("").is_err());
}

#[test]
fn a_misspelt_model_is_an_error_with_near_names() {
    let error = Recipe::named("resnet5O").unwrap_err();
    assert!(error.hint().unwrap().contains("resnet50"));
}

#[test]
fn surroundings_that_cannot_be_are_errors() {
    let recipe = Recipe::named("resnet50").unwrap();
    for around in [around(0, 1, None), around(32, 0, None), around(32, 1, Some(0))] {
        assert!(Net::new(&recipe, &around).is_err());
    }
}
