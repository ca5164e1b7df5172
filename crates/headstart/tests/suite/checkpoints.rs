//! Checkpoints of a known net as people have them: below other names, beside counters, under the names of other libraries.

use std::fs;
use std::path::Path;

use headstart::parameters::{Parameters, Role};
use headstart::resnet::{Net, Recipe, Surroundings};
use headstart::weights::{Scope, apply, inspect, read};
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

/// A tensor of a file: its name, its shape there, and the value of all its elements.
type Stored = (String, Vec<usize>, f32);

/// Every tensor of a net with a value of its own number, above `base`, under the name that `of` makes of torchvision's.
fn tensors(net: &Net, of: &dyn Fn(&str) -> String, base: f32) -> Vec<Stored> {
    let zeros = Parameters::zeros(&net.graph);
    let stored = |(i, t): (usize, &headstart::parameters::Parameter)| {
        let shape = match t.shape[..] {
            [h, w, c, n] => vec![n, c, h, w],
            [i, o] => vec![o, i],
            ref other => other.to_vec(),
        };
        (of(&name(net, t.node, t.role)), shape, base + i as f32 / 128.0)
    };
    zeros.tensors.iter().enumerate().map(stored).collect()
}

/// Writes tensors in 16 bits, and counters.
fn save(path: &Path, tensors: &[Stored], counters: &[&str]) {
    let mut data: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = Vec::new();
    for (name, shape, value) in tensors {
        let bytes = value.to_le_bytes()[2..].repeat(shape.iter().product());
        data.push((name.clone(), shape.clone(), Dtype::BF16, bytes));
    }
    for counter in counters {
        data.push((counter.to_string(), vec![], Dtype::I64, vec![3; 8]));
    }
    let views = data.iter().map(|(name, shape, dtype, bytes)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(path, serialize(views, None).unwrap()).unwrap();
}

fn write(path: &Path, net: &Net, of: &dyn Fn(&str) -> String, counters: &[&str]) {
    save(path, &tensors(net, of, 1.0), counters);
}

fn plain(name: &str) -> String {
    name.to_string()
}

/// Loads a file into a net; the first value of its first layer, and what was said of copies.
fn load(path: &Path, net: &Net, scope: Scope) -> headstart::Result<(f32, String)> {
    let mut p = Parameters::zeros(&net.graph);
    let report = apply(&read(path)?, net, &mut p, scope)?;
    Ok((p.tensors[0].values[0], report.copy.unwrap_or_default()))
}

fn refused(path: &Path, net: &Net, scope: Scope) -> String {
    let error = load(path, net, scope).unwrap_err();
    format!("{error} ({})", error.hint().unwrap_or("no hint"))
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
fn values_of_python_beside_the_weights_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = &include_bytes!("../golden/torch/beside.tar.gz")[..];
    tar::Archive::new(flate2::read::GzDecoder::new(bytes)).unpack(folder.path()).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 17);
    for path in names {
        let file = read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let found: Vec<_> = file.tensors.iter().map(|t| (t.name.as_str(), &t.values[..])).collect();
        let turned = [0.0, 3.0, 1.0, 4.0, 2.0, 5.0];
        assert!(
            found.iter().any(|(name, values)| name.ends_with("conv1/kernel") && *values == turned),
            "{found:?}"
        );
    }
}

#[test]
fn of_several_copies_the_average_is_taken_where_it_fits() {
    let net = net();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let both = |one: &str, other: &str| {
        let one = tensors(&net, &|name| format!("{one}{name}"), 1.0);
        let other = tensors(&net, &|name| format!("{other}{name}"), 5.0);
        save(&path, &[one, other].concat(), &[]);
    };
    for (one, other, taken, said) in [
        ("params.", "params_ema.", 5.0, "params_ema, a moving average (EMA)"),
        ("student.", "teacher.", 5.0, "teacher, a moving average (EMA)"),
        ("model.", "swa_model.module.", 5.0, "swa_model.module, a moving average (EMA)"),
        ("model.", "modelEMA.", 5.0, "modelEMA, a moving average (EMA)"),
        // MMEngine swaps them when it saves.
        (
            "state_dict.backbone.",
            "ema_state_dict.module.backbone.",
            1.0,
            "state_dict.backbone, a moving average (EMA)",
        ),
        // The keys of MoCo, the target of BYOL and the momentum encoder help to train the other.
        ("module.encoder_q.", "module.encoder_k.", 1.0, "module.encoder_q"),
        ("module.base_encoder.", "module.momentum_encoder.", 1.0, "module.base_encoder"),
        ("online.", "target.", 1.0, "online"),
    ] {
        both(one, other);
        let found = load(&path, &net, Scope::All).unwrap();
        assert_eq!(found, (taken, said.to_string()), "{one} {other}");
    }
    // An average without a head is taken where no head is needed.
    let raw = tensors(&net, &|name| format!("model.{name}"), 1.0);
    let average = tensors(&net, &|name| format!("ema.{name}"), 5.0);
    let average = average.into_iter().filter(|t| !t.0.contains("fc."));
    save(&path, &raw.into_iter().chain(average).collect::<Vec<_>>(), &[]);
    assert_eq!(load(&path, &net, Scope::Base).unwrap().0, 5.0);
    assert_eq!(load(&path, &net, Scope::All).unwrap(), (1.0, "model".to_string()));
}

#[test]
fn of_several_nets_the_one_asked_for_is_taken() {
    let around =
        Surroundings { height: 32, width: 32, preprocess: None, upsample: 1, classes: Some(5) };
    let larger = Net::new(&Recipe::named("torchvision-resnet34").unwrap(), &around).unwrap();
    let net = net();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let student = tensors(&net, &|name| format!("student.{name}"), 1.0);
    let teacher = tensors(&larger, &|name| format!("teacher.{name}"), 5.0);
    save(&path, &[student, teacher].concat(), &[]);
    assert_eq!(load(&path, &net, Scope::All).unwrap(), (1.0, "student".to_string()));
    assert_eq!(load(&path, &larger, Scope::All).unwrap().0, 5.0);
    let fits = inspect(&path).unwrap().fits;
    let found: Vec<_> = fits.iter().map(|fit| (fit.net.as_str(), fit.copy.as_deref())).collect();
    let teacher = Some("teacher, a moving average (EMA)");
    assert_eq!(
        found,
        [("torchvision-resnet18", Some("student")), ("torchvision-resnet34", teacher)]
    );
}

#[test]
fn a_head_beside_the_backbone_is_the_nets() {
    let net = net();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let place = |head: &'static str| {
        move |name: &str| match name.strip_prefix("fc.") {
            Some(role) => format!("{head}.{role}"),
            None => format!("model.backbone.{name}"),
        }
    };
    for head in ["model.head.fc", "model.classifier", "head", "state.2"] {
        write(&path, &net, &place(head), &[]);
        load(&path, &net, Scope::All).unwrap_or_else(|e| panic!("{head}: {e}"));
    }
    // Two dense layers compute something else.
    let mut list = tensors(&net, &place("projector.0"), 1.0);
    list.push(("projector.2.weight".into(), vec![5, 5], 1.0));
    save(&path, &list, &[]);
    let text = refused(&path, &net, Scope::All);
    assert!(text.contains("fc/kernel") && text.contains("the net without this head"), "{text}");
    load(&path, &net, Scope::Base).unwrap();
}

#[test]
fn layers_inside_the_nets_blocks_are_refused() {
    let net = net();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    for (name, shape, value, there) in [
        ("layer1.0.se.fc.0.weight", vec![8, 8], 1.0, "layer1.0.se.fc.0/kernel"),
        ("layer1.0.conv1.bias", vec![64], 1.0, "layer1.0.conv1/bias"),
        ("conv1.bias", vec![64], 1.0, "conv1/bias"),
        ("layer4.1.bn3.weight", vec![512], 1.0, "layer4.1.bn3/gamma"),
        // Changes nothing.
        ("layer1.0.conv1.bias", vec![64], 0.0, ""),
        ("fc2.weight", vec![3, 512], 1.0, ""),
    ] {
        let mut list = tensors(&net, &plain, 1.0);
        list.push((name.to_string(), shape, value));
        save(&path, &list, &[]);
        if there.is_empty() {
            load(&path, &net, Scope::Base).unwrap_or_else(|e| panic!("{name}: {e}"));
            continue;
        }
        let text = refused(&path, &net, Scope::Base);
        assert!(text.contains(there) && text.contains("only layers that the net has"), "{text}");
        assert!(inspect(&path).unwrap().fits.is_empty(), "{name}");
    }
}

#[test]
fn what_a_file_lacks_is_said_as_it_is() {
    let net = net();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let all = tensors(&net, &plain, 1.0);
    let some = |list: &[Stored], of: &dyn Fn(&str) -> Option<String>| -> Vec<Stored> {
        let renamed = list.iter().filter_map(|(name, s, v)| Some((of(name)?, s.clone(), *v)));
        renamed.collect()
    };
    let without_head = some(&all, &|name| (!name.starts_with("fc.")).then(|| name.to_string()));
    let pruned = some(&all, &|name| Some(name.replace("conv1.weight", "conv1.weight_orig")));
    let normed = some(&all, &|name| Some(name.replace("conv1.weight", "conv1.weight_g")));
    let moments = some(&all, &|name| Some(format!("state.{name}.exp_avg")));
    for (list, said) in [
        (without_head, "the net without this head"),
        (pruned, "prune.remove"),
        (normed, "remove_weight_norm"),
        (moments, "an optimizer's state"),
        (all[..9].to_vec(), "the weights are of another net"),
    ] {
        save(&path, &list, &[]);
        let text = refused(&path, &net, Scope::All);
        assert!(text.contains(said), "{said}: {text}");
    }
    let part = folder.path().join("model-00001-of-00002.safetensors");
    save(&part, &all[..60], &[]);
    assert!(refused(&part, &net, Scope::All).contains("one of several parts"));
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
