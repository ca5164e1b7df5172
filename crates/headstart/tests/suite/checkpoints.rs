//! Checkpoints of a known net as people have them: below other names, beside counters, under the names of other libraries.

use std::fs;
use std::path::Path;

use headstart::parameters::{Parameters, Role};
use headstart::resnet::{Net, Recipe, Surroundings};
use headstart::weights::{Scope, apply, read};
use safetensors::tensor::{Dtype, TensorView, serialize};

fn net() -> Net {
    let around =
        Surroundings { height: 32, width: 32, preprocess: None, upsample: 1, classes: Some(5) };
    Net::new(&Recipe::named("torchvision-resnet18").unwrap(), &around).unwrap()
}

/// torchvision's name of a tensor.
fn name(net: &Net, node: usize, role: Role) -> String {
    let own = &net.graph.nodes[node].name;
    let part = match role {
        Role::Kernel | Role::Gamma => "weight",
        Role::Bias | Role::Beta => "bias",
        Role::MovingMean => "running_mean",
        Role::MovingVariance => "running_var",
    };
    format!("{own}.{part}")
}

/// Writes every tensor with values of its own number, in 16 bits, under the name that `of` makes of torchvision's, and counters.
fn write(path: &Path, net: &Net, of: &dyn Fn(&str) -> String, counters: &[&str]) {
    let zeros = Parameters::zeros(&net.graph);
    let mut data: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = Vec::new();
    for (i, t) in zeros.tensors.iter().enumerate() {
        let shape = match t.shape[..] {
            [h, w, c, n] => vec![n, c, h, w],
            [i, o] => vec![o, i],
            ref other => other.to_vec(),
        };
        let bytes = (1.0 + i as f32 / 128.0).to_le_bytes()[2..].repeat(t.values.len());
        data.push((of(&name(net, t.node, t.role)), shape, Dtype::BF16, bytes));
    }
    for counter in counters {
        data.push((counter.to_string(), vec![], Dtype::I64, vec![3; 8]));
    }
    let views = data.iter().map(|(name, shape, dtype, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

/// Hugging Face's name: `resnet.encoder.stages.0.layers.1.layer.0.convolution.weight`.
fn hugging_face(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let kind =
        |layer: &str| if layer.starts_with("conv") { "convolution" } else { "normalization" };
    match parts[..] {
        ["fc", part] => format!("classifier.1.{part}"),
        [layer, part] => format!("resnet.embedder.embedder.{}.{part}", kind(layer)),
        [layer, block, "downsample", at, part] => {
            let stage = layer[5..].parse::<usize>().unwrap() - 1;
            let kind = ["convolution", "normalization"][at.parse::<usize>().unwrap()];
            format!("resnet.encoder.stages.{stage}.layers.{block}.shortcut.{kind}.{part}")
        }
        [layer, block, own, part] => {
            let stage = layer[5..].parse::<usize>().unwrap() - 1;
            let at = own[own.len() - 1..].parse::<usize>().unwrap() - 1;
            format!("resnet.encoder.stages.{stage}.layers.{block}.layer.{at}.{}.{part}", kind(own))
        }
        _ => panic!("{name}"),
    }
}

/// The name by the position of torchvision's child: `nn.Sequential(*net.children())`.
fn by_position(name: &str) -> String {
    const CHILDREN: [&str; 10] = [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc",
    ];
    let (child, rest) = name.split_once('.').unwrap();
    format!("{}.{rest}", CHILDREN.iter().position(|c| *c == child).unwrap())
}

/// What a file calls a tensor.
type Renamed = Box<dyn Fn(&str) -> String>;

#[test]
fn a_known_net_is_found_whatever_stands_before_and_beside_its_names() {
    let net = net();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let prefixed = |prefix: &'static str| move |name: &str| format!("{prefix}{name}");
    let mut files: Vec<(String, Renamed, bool)> = Vec::new();
    for prefix in [
        "",
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model_state_dict.",
        "net.",
        "weights.",
        "backbone.",
        "encoder.",
        "resnet.",
        "model.backbone.",
        "state_dict.module.model.",
    ] {
        files.push((prefix.to_string(), Box::new(prefixed(prefix)), true));
    }
    files.push(("Hugging Face".into(), Box::new(hugging_face), true));
    files.push(("positions".into(), Box::new(by_position), true));
    files.push(("fastai".into(), Box::new(|name| format!("model.0.{}", by_position(name))), true));
    let counters = ["epoch", "n_averaged", "train_acc.total", "bn1.num_batches_tracked"];
    for (what, of, _) in files {
        write(&path, &net, &of, &counters);
        let mut p = Parameters::zeros(&net.graph);
        // The head has the same place everywhere but in other libraries.
        apply(&read(&path).unwrap(), &net, &mut p, Scope::Base)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let head = net.graph.nodes.len() - 2;
        for (i, t) in p.tensors.iter().enumerate().filter(|(_, t)| t.node != head) {
            let wanted = f32::from_bits((1.0 + i as f32 / 128.0).to_bits() & 0xffff_0000);
            assert!(t.values.iter().all(|v| (v - wanted).abs() < 1e-6), "{what}: {}", t.name);
        }
    }
    // Whole numbers under a layer's own name are no counter.
    write(&path, &net, &|name| name.to_string(), &["layer9.0.conv1.weight"]);
    let mut p = Parameters::zeros(&net.graph);
    let refused = read(&path).and_then(|file| apply(&file, &net, &mut p, Scope::Base));
    assert!(refused.is_err_and(|e| e.to_string().contains("layer9.0.conv1.weight")));
}

#[test]
fn a_count_of_keras_beside_the_weights_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k.weights.h5");
    let mut file = hdf5_pure::FileBuilder::new();
    let mut layers = file.create_group("layers");
    for layer in ["conv2d", "normalization"] {
        let mut group = layers.create_group(layer);
        let mut vars = group.create_group("vars");
        vars.create_dataset("0").with_f32_data(&[1.0, 2.0, 3.0]).with_shape(&[3]);
        // `Normalization.adapt` counts what it has seen.
        if layer == "normalization" {
            vars.create_dataset("1").with_f32_data(&[1.0, 1.0, 1.0]).with_shape(&[3]);
            vars.create_dataset("2").with_i64_data(&[8]).with_shape(&[1]);
        }
        group.add_group(vars.finish());
        layers.add_group(group.finish());
    }
    file.add_group(layers.finish());
    fs::write(&path, file.finish().unwrap()).unwrap();
    let names: Vec<String> = read(&path).unwrap().listing.into_iter().map(|t| t.name).collect();
    assert_eq!(
        names,
        ["layers/conv2d/vars/0", "layers/normalization/vars/0", "layers/normalization/vars/1"]
    );
}
