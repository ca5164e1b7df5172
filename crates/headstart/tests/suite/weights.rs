//! Weight files: what is read, what is written, and the real ImageNet weights where they are at hand.

use hdf5_pure::{AttrValue, FileBuilder};
use headstart::Device;
use headstart::image::{Decode, Fit, Interpolation};
use headstart::inference::{executor, read_floats};
use headstart::model::Model;
use headstart::parameters::Role;
use headstart::preprocess::Preprocess;
use headstart::weights::model_file::{ModelCard, Progress, VERSION};
use headstart::weights::{Scope, Tensor, embedded, inspect, open, read};
use safetensors::tensor::{Dtype, TensorView, serialize};

use crate::support;

fn card(architecture: &str, classes: &[&str]) -> ModelCard {
    ModelCard {
        task: headstart::Task::default(),
        version: VERSION,
        architecture: architecture.into(),
        classes: classes.iter().map(|c| c.to_string()).collect(),
        height: 32,
        width: 32,
        interpolation: Interpolation::Bicubic,
        fit: Fit::Stretch,
        decode: Decode::Full,
        upsample: 1,
        preprocess: Preprocess::Unit,
        temperature: None,
        calibration: None,
        trained: None,
        progress: None,
    }
}

#[test]
fn a_card_says_what_becomes_of_other_proportions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    for (fit, version) in [(Fit::Stretch, 1), (Fit::Pad, 3), (Fit::Crop { share: 0.9 }, 3)] {
        let model = Model::new(ModelCard { fit, ..card("resnet20", &["a", "b"]) }, 1).unwrap();
        model.save(&path).unwrap();
        let back = Model::open(&path).unwrap();
        assert_eq!((back.card.fit, back.card.version), (fit, version));
        assert_eq!(back.target().fit, fit);
    }
    // A share that keeps nothing asks for an image of any size.
    for share in [0.0, -1.0, 1e-300, 1.5] {
        let fit = Fit::Crop { share };
        let model = Model::new(ModelCard { fit, ..card("resnet20", &["a", "b"]) }, 1).unwrap();
        model.save(&path).unwrap();
        assert!(Model::open(&path).is_err(), "{share}");
    }
}

#[test]
fn a_card_says_how_jpegs_are_decoded_and_one_that_does_not_means_in_full() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    for (decode, fit, version) in [
        (Decode::Full, Fit::Stretch, 1),
        (Decode::Full, Fit::Pad, 3),
        (Decode::Reduced, Fit::Stretch, 4),
        (Decode::Reduced, Fit::Pad, 4),
    ] {
        let card = ModelCard { decode, fit, ..card("resnet20", &["a", "b"]) };
        Model::new(card, 1).unwrap().save(&path).unwrap();
        let back = Model::open(&path).unwrap();
        assert_eq!((back.card.decode, back.card.version), (decode, version));
        assert_eq!(back.target().decode, decode);
        // Files of models that decode in full are those of earlier versions.
        let bytes = std::fs::read(&path).unwrap();
        let says = String::from_utf8_lossy(&bytes).contains("decode");
        assert_eq!(says, decode == Decode::Reduced);
        assert_eq!(back.card.to_string().contains("JPEGs decoded reduced"), says);
    }
}

#[test]
fn a_model_file_comes_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let model = Model::new(card("resnet20", &["a", "b"]), 3).unwrap();
    let progress = Progress { phase: "head".into(), epochs: 2, steps: 7, seed: 42, place: None };
    let state =
        vec![Tensor { name: "predictions/bias".into(), shape: vec![2], values: vec![0.5, -1.0] }];
    model.save_with(&path, Some(progress.clone()), &state).unwrap();
    let file = read(&path).unwrap();
    assert_eq!(file.optimizer, state);
    assert_eq!(file.card.as_ref().unwrap().progress, Some(progress));
    let again = Model::open(&path).unwrap();
    assert_eq!(again.parameters, model.parameters);
    assert_eq!(again.card.classes, ["a", "b"]);
    // Equal models are equal files.
    let second = folder.path().join("n.safetensors");
    model.save_with(&second, file.card.unwrap().progress, &state).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), std::fs::read(second).unwrap());
}

#[test]
fn variances_that_have_no_root_are_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let mut model = Model::imagenet("resnet20").unwrap();
    let at = model.parameters.tensors.iter().position(|t| t.role == Role::MovingVariance).unwrap();
    // What rounding leaves below 0 has a root with the epsilon that is added.
    model.parameters.tensors[at].values[0] = -1e-7;
    model.save(&path).unwrap();
    assert!(Model::open(&path).is_ok());
    model.parameters.tensors[at].values[..2].copy_from_slice(&[-0.5, -2.0]);
    model.save(&path).unwrap();
    let error = Model::open(&path).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("moving_variance, found 2 of 16 below it, down to -2"), "{text}");
    assert!(error.hint().unwrap().contains("a mean of squares"), "{error:?}");
}

#[test]
fn an_inspection_refuses_what_loading_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let net = Model::imagenet("resnet20").unwrap();
    // The refusal of weights of which those with a name that is `bad` are `value`.
    let says = |bad: &dyn Fn(&str) -> bool, value: f32| {
        let mut model = net.clone();
        model
            .parameters
            .tensors
            .iter_mut()
            .filter(|t| bad(&t.name))
            .for_each(|t| t.values.fill(value));
        model.save(&path).unwrap();
        let found = inspect(&path).unwrap();
        let fit = found.fits.iter().find(|fit| fit.net == "resnet20").unwrap().clone();
        assert_eq!(fit.refused, Model::open(&path).err().map(|error| error.to_string()));
        fit.refused.unwrap_or_default()
    };
    let variance = |name: &str| name.ends_with("moving_variance");
    let first = |name: &str| name == "conv1_bn/moving_variance";
    assert_eq!(says(&|_| false, 0.0), "");
    let found = says(&first, -2.0);
    assert!(found.contains("variances of 0 or more in conv1_bn"), "{found}");
    assert!(found.contains("16 of 16 below it, down to -2"), "{found}");
    let found = says(&variance, 1e20);
    assert!(found.contains("variances of 1e14 at most") && found.contains("up to 1"), "{found}");
    let found = says(&variance, 0.0);
    assert!(found.contains("found 0 in all"), "{found}");
    // A single layer whose input never changes is no damage.
    assert_eq!(says(&first, 0.0), "");
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        for tensor in ["conv1_conv/kernel", "predictions/kernel"] {
            let found = says(&|name| name == tensor, bad);
            assert!(found.contains(&format!("finite numbers in {tensor}")), "{found}");
        }
    }
}

#[test]
fn safetensors_of_half_precision_are_read_and_of_others_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let put = |dtype, bytes: &[u8], count| {
        let view = TensorView::new(dtype, vec![count], bytes).unwrap();
        std::fs::write(&path, serialize([("a/bias", view)], None).unwrap()).unwrap();
        read(&path).map(|file| file.tensors[0].values.clone())
    };
    // 1, -2.5, the least number above 0, the largest.
    let halves: Vec<u8> =
        [0x3c00u16, 0xc100, 0x0001, 0x7bff].iter().flat_map(|b| b.to_le_bytes()).collect();
    let values = [1.0, -2.5, 2f32.powi(-24), 65504.0];
    assert_eq!(put(Dtype::F16, &halves, 4).unwrap(), values);
    let brain: Vec<u8> = [0x3f80u16, 0xc020, 0x7f7f].iter().flat_map(|b| b.to_le_bytes()).collect();
    let largest = f32::from_bits(0x7f7f_0000);
    assert_eq!(put(Dtype::BF16, &brain, 3).unwrap(), [1.0, -2.5, largest]);
    let error = put(Dtype::I32, &[0; 8], 2).unwrap_err().to_string();
    assert!(error.contains("a/bias") && error.contains("I32"), "{error}");
}

#[test]
fn the_weights_inside_the_program_are_a_whole_classifier() {
    let model = Model::from_file(embedded::cifar10().unwrap()).unwrap();
    assert_eq!(model.card.architecture, embedded::CIFAR10_MODEL);
    assert_eq!((model.card.classes.len(), &*model.card.classes[0]), (10, "airplane"));
    assert_eq!(open(embedded::CIFAR10).unwrap(), embedded::cifar10().unwrap());
    let mut fresh = Model::new(card("resnet20", &["a", "b"]), 3).unwrap();
    let report = fresh.load(&embedded::cifar10().unwrap(), Scope::Base).unwrap();
    assert_eq!(report.missing, ["predictions/kernel", "predictions/bias"]);
    assert!(open("cifar100").unwrap_err().to_string().contains("cifar100"));
}

/// Keras's legacy layout, with the head of another number of classes.
fn keras_h5(model: &Model, suffix: &str) -> Vec<u8> {
    let mut file = FileBuilder::new();
    let nodes: Vec<&str> = model.net.graph.nodes.iter().map(|n| n.name.as_str()).collect();
    file.set_attr(
        "layer_names",
        AttrValue::StringArray(nodes.iter().map(|n| n.to_string()).collect()),
    );
    for (id, name) in nodes.iter().enumerate() {
        let tensors: Vec<_> = model.parameters.tensors.iter().filter(|t| t.node == id).collect();
        let mut group = file.create_group(name);
        let names: Vec<String> = tensors.iter().map(|t| format!("{}{suffix}", t.name)).collect();
        if !names.is_empty() {
            group.set_attr("weight_names", AttrValue::StringArray(names));
        }
        let mut inner = group.create_group(name);
        for t in tensors {
            let shape: Vec<u64> = t.shape.iter().map(|&d| d as u64).collect();
            let name = format!("{}{suffix}", t.role.name());
            inner.create_dataset(&name).with_f32_data(&t.values).with_shape(&shape);
        }
        group.add_group(inner.finish());
        file.add_group(group.finish());
    }
    file.finish().unwrap()
}

#[test]
fn keras_files_load_with_and_without_the_variable_suffix() {
    let folder = tempfile::tempdir().unwrap();
    let source = Model::new(card("resnet20", &["a", "b", "c"]), 5).unwrap();
    for suffix in ["", ":0"] {
        let path = folder.path().join("w.h5");
        std::fs::write(&path, keras_h5(&source, suffix)).unwrap();
        let file = read(&path).unwrap();
        assert!(file.card.is_none());
        let mut model = Model::new(card("resnet20", &["x", "y"]), 1).unwrap();
        let head = model.parameters.find("predictions/kernel").unwrap().clone();
        let report = model.load(&file, Scope::Base).unwrap();
        assert_eq!(report.missing, ["predictions/kernel", "predictions/bias"]);
        assert_eq!(report.unused, ["predictions/kernel", "predictions/bias"]);
        assert_eq!(report.applied.len() + 2, model.parameters.tensors.len());
        let name = "conv3_block2_1_conv/kernel";
        assert_eq!(model.parameters.find(name), source.parameters.find(name));
        assert_eq!(model.parameters.find("predictions/kernel"), Some(&head));
        // With all in scope the head's shapes do not fit, and nothing changes.
        let before = model.parameters.clone();
        let error = model.load(&file, Scope::All).unwrap_err().to_string();
        assert!(error.contains("[64, 2]") && error.contains("[64, 3]"), "{error}");
        assert_eq!(model.parameters, before);
    }
}

#[test]
fn damaged_keras_files_are_errors_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let source = Model::new(card("resnet20", &["a", "b"]), 5).unwrap();
    let good = keras_h5(&source, "");
    let path = folder.path().join("w.h5");
    let mut model = Model::new(card("resnet20", &["a", "b"]), 1).unwrap();
    for cut in (16..good.len()).step_by(good.len() / 40) {
        std::fs::write(&path, &good[..cut]).unwrap();
        let loaded = read(&path).and_then(|file| model.load(&file, Scope::All));
        assert!(loaded.is_err(), "{cut} of {} bytes", good.len());
    }
    // Bytes changed in the header and the group structure: an error or other numbers, no panic.
    for at in (8..4096).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        std::fs::write(&path, bad).unwrap();
        let _ = read(&path).and_then(|file| model.load(&file, Scope::All));
    }
}

#[test]
fn damaged_model_files_are_errors_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    Model::new(card("resnet20", &["a", "b"]), 3).unwrap().save(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    for cut in (0..good.len()).step_by(good.len() / 60) {
        std::fs::write(&path, &good[..cut]).unwrap();
        assert!(Model::open(&path).is_err(), "{cut} of {} bytes", good.len());
    }
    for at in (0..good.len().min(20_000)).step_by(11) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        std::fs::write(&path, bad).unwrap();
        let _ = Model::open(&path);
    }
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(good[8..8 + header].to_vec()).unwrap();
    for (from, to, expected) in [
        (r#"\"version\":1"#, r#"\"version\":9"#, "newer"),
        (r#"\"upsample\":1"#, r#"\"upsample\":0"#, "sizes in range"),
        ("resnet20", "resnet99", "resnet20"),
    ] {
        assert!(text.contains(from), "{text}");
        let bad = [&good[..8], text.replace(from, to).as_bytes(), &good[8 + header..]].concat();
        std::fs::write(&path, bad).unwrap();
        let error = Model::open(&path).unwrap_err();
        let all = format!("{error} {}", error.hint().unwrap_or(""));
        assert!(all.contains(expected), "{all}");
    }
}

#[test]
fn real_imagenet_weights_give_kerass_probabilities() {
    let path = support::shared("resnet50_weights_tf_dim_ordering_tf_kernels.h5");
    let Some(path) = path else { return };
    let file = read(&path).unwrap();
    let mut model = Model::imagenet("resnet50").unwrap();
    let report = model.load(&file, Scope::All).unwrap();
    assert_eq!((report.applied.len(), report.missing.len(), report.unused.len()), (320, 0, 0));
    // The images and what Keras makes of them: golden/imagenet/generate.py.
    let pixel = |image: usize, y: usize, x: usize, c: usize| -> f32 {
        let shade =
            if image == 0 { y * 3 + x * 5 + c * 80 } else { (y / 16 + x / 16) * 97 + c * x };
        (shade % 256) as f32
    };
    let images: Vec<f32> = (0..2 * 224 * 224 * 3)
        .map(|i| pixel(i / (224 * 224 * 3), i / (224 * 3) % 224, i / 3 % 224, i % 3))
        .collect();
    let device = Device::cpu(0).unwrap();
    let mut e = executor(&model, &device, 2, &[0], &[model.output()]).unwrap();
    e.forward(&[(&images).into()], 2).unwrap();
    let keras: Vec<f32> = include_str!("../golden/imagenet/probabilities.txt")
        .split_whitespace()
        .map(|v| v.parse().unwrap())
        .collect();
    let ours = read_floats(&mut *e, 0).unwrap();
    assert_eq!(ours.len(), keras.len());
    let worst = ours.iter().zip(&keras).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(ours.iter().all(|p| p.is_finite()) && worst <= 1e-5, "{worst}");
    assert!(keras.iter().fold(0.0f32, |m, &p| m.max(p)) > 0.05);
}
