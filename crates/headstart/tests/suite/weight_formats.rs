//! Every format of weights: files that Keras and PyTorch wrote, and every net in every format it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5_pure::{AttrValue, File, FileBuilder};
use headstart::Compute;
use headstart::execute::{Execute, Executor};
use headstart::export::{WeightFormat, script, write_weights};
use headstart::model::Model;
use headstart::parameters::{Parameters, Role, layer_shapes};
use headstart::plan::{Plan, Request};
use headstart::resnet::{Naming, Net, Recipe, Stage, Surroundings};
use headstart::weights::model_file::ModelCard;
use headstart::weights::{Format, Scope, apply, inspect, read};
use safetensors::SafeTensors;

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    tensor.data().as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// The small nets of golden/keras_files/generate.py.
fn small(kind: &str) -> Net {
    let mut recipe = Recipe::named(if kind == "v2" { "resnet50v2" } else { "resnet50" }).unwrap();
    let stage = |filters, blocks, stride| Stage { filters, blocks, stride };
    recipe.stages = match kind {
        "v2" => vec![stage(4, 2, 2), stage(6, 2, 1)],
        _ => vec![stage(4, 2, 1), stage(6, 1, 2)],
    };
    let preprocess = Some(recipe.preprocess);
    let around = Surroundings { height: 32, width: 32, preprocess, upsample: 1, classes: Some(3) };
    Net::new(&recipe, &around).unwrap()
}

fn keras_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bytes = &include_bytes!("../golden/keras_files/files.tar.gz")[..];
    tar::Archive::new(flate2::read::GzDecoder::new(bytes)).unpack(folder.path()).unwrap();
    folder
}

#[test]
fn files_that_keras_wrote_hold_what_it_put_there() {
    let folder = keras_files();
    for (kind, file, format) in [
        ("v1", "old.h5", Format::KerasH5),
        ("v1", "v1.h5", Format::KerasH5),
        ("v1", "seq.h5", Format::KerasH5),
        ("v1", "v1.weights.h5", Format::Keras3),
        ("v1", "seq.weights.h5", Format::Keras3),
        ("v1", "fun.weights.h5", Format::Keras3),
        ("v1", "v1.keras", Format::KerasArchive),
        ("v1", "seq.keras", Format::KerasArchive),
        ("v2", "v2.h5", Format::KerasH5),
        ("v2", "v2.weights.h5", Format::Keras3),
        ("v2", "v2.keras", Format::KerasArchive),
    ] {
        let net = small(kind);
        let mut p = Parameters::zeros(&net.graph);
        let read = read(folder.path().join(file)).unwrap();
        assert_eq!(read.format, format, "{file}");
        let report = apply(&read, &net, &mut p, Scope::All).unwrap();
        assert_eq!((report.missing.len(), report.unused.len()), (0, 0), "{file}: {report}");
        let expected =
            fs::read(folder.path().join(format!("{kind}.expected.safetensors"))).unwrap();
        let expected = SafeTensors::deserialize(&expected).unwrap();
        for t in &p.tensors {
            assert_eq!(t.values, floats(&expected, &t.name), "{file}: {}", t.name);
        }
        // Formats that say their epsilon say the nets' own.
        assert_eq!(read.epsilon.is_empty(), matches!(format, Format::Keras3) || file == "old.h5");
        assert!(read.epsilon.values().all(|&e| e == 1.001e-5), "{file}");
        let mut base = Parameters::zeros(&net.graph);
        let report = apply(&read, &net, &mut base, Scope::Base).unwrap();
        assert_eq!((report.missing.len(), report.unused.len()), (2, 2), "{file}");
    }
}

#[test]
fn floats_of_16_bits_in_either_order_are_read() {
    let folder = keras_files();
    let bytes = &include_bytes!("../golden/keras_files/half.tar.gz")[..];
    tar::Archive::new(flate2::read::GzDecoder::new(bytes)).unpack(folder.path()).unwrap();
    let expected = fs::read(folder.path().join("v1.expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&expected).unwrap();
    for file in ["little-v1.h5", "big-v1.h5", "little-v1.weights.h5", "big-v1.weights.h5"] {
        let net = small("v1");
        let mut p = Parameters::zeros(&net.graph);
        let read = read(folder.path().join(file)).unwrap();
        assert!(read.listing.iter().filter(|t| t.dtype == "f16").count() > 20, "{file}");
        apply(&read, &net, &mut p, Scope::All).unwrap();
        for t in &p.tensors {
            for (half, full) in t.values.iter().zip(floats(&expected, &t.name)) {
                // Eleven bits of it, or the smallest step of 16 bits.
                let step = (full.abs() / 2048.0).max(3e-8) * 1.01;
                assert!((half - full).abs() <= step, "{file}: {}: {half} {full}", t.name);
            }
        }
    }
}

#[test]
fn keras_v2_nets_give_kerass_probabilities() {
    let folder = keras_files();
    for kind in ["v1", "v2"] {
        let net = small(kind);
        let mut p = Parameters::zeros(&net.graph);
        let file = read(folder.path().join(format!("{kind}.weights.h5"))).unwrap();
        apply(&file, &net, &mut p, Scope::All).unwrap();
        let golden = fs::read(folder.path().join(format!("{kind}.expected.safetensors"))).unwrap();
        let golden = SafeTensors::deserialize(&golden).unwrap();
        let outputs = vec![net.graph.output()];
        let request = Request {
            batch: 4,
            sources: vec![0],
            outputs,
            trainable: None,
            dtype: headstart_kernels::element::DType::F32,
        };
        let plan = Plan::new(&net.graph, request).unwrap();
        let compute = Arc::new(Compute::new(2).unwrap());
        let mut e = Executor::new(Arc::clone(&net.graph), plan, compute, &p, 0).unwrap();
        e.forward(&[(&floats(&golden, "images")).into()], 4).unwrap();
        let expected = floats(&golden, "probabilities");
        assert_eq!(expected.len(), e.output(0, 4).len());
        for (ours, keras) in e.output(0, 4).iter().zip(&expected) {
            assert!((ours - keras).abs() <= 1e-5, "{kind}: {ours} {keras}");
        }
    }
}

fn net(name: &str, classes: Option<usize>) -> Net {
    let recipe = Recipe::named(name).unwrap();
    let side = recipe.image_size;
    let around = Surroundings { height: side, width: side, preprocess: None, upsample: 1, classes };
    Net::new(&recipe, &around).unwrap()
}

/// Parameters whose tensors are told apart by their value.
fn numbered(net: &Net) -> Parameters {
    let mut p = Parameters::zeros(&net.graph);
    for (i, t) in p.tensors.iter_mut().enumerate() {
        t.values.fill(1.0 + i as f32 / 1024.0);
    }
    p
}

fn torch_name(net: &Net, node: usize, role: Role) -> String {
    let kind = match role {
        Role::Kernel | Role::Gamma => "weight",
        Role::Bias | Role::Beta => "bias",
        Role::MovingMean => "running_mean",
        Role::MovingVariance => "running_var",
    };
    format!("{}.{kind}", net.graph.nodes[node].name)
}

fn torch_shape(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [height, width, inputs, out] => vec![out, inputs, height, width],
        [inputs, out] => vec![out, inputs],
        _ => shape.to_vec(),
    }
}

fn joined(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

#[test]
fn torchvision_lists_the_same_names_and_shapes() {
    let listing = include_str!("../reference/torchvision_states.tsv");
    let mut seen = 0;
    for name in Recipe::names().filter(|n| n.starts_with("torchvision")) {
        let net = net(name, Some(1000));
        let mut theirs: Vec<&str> =
            listing.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix('\t')).collect();
        let mut ours = Vec::new();
        for node in 0..net.graph.nodes.len() {
            for (role, shape) in layer_shapes(&net.graph, node) {
                let name = torch_name(&net, node, role);
                ours.push(format!("{name}\t{}", joined(&torch_shape(&shape))));
            }
        }
        ours.sort();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{name}");
        seen += ours.len();
    }
    assert_eq!(seen, listing.lines().count());
}

/// The whole model of that name, its tensors numbered, made without a random initialisation.
fn model(name: &str) -> Model {
    let card = Model::imagenet("resnet20").unwrap().card;
    let recipe = Recipe::named(name).unwrap();
    let card = ModelCard { architecture: name.into(), preprocess: recipe.preprocess, ..card };
    let net = net(name, Some(1000));
    Model { parameters: numbered(&net), recipe, card, net }
}

#[test]
fn a_file_for_keras_has_the_groups_that_keras_makes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.weights.h5");
    for name in ["resnet50", "resnet50v2"] {
        write_weights(&model(name), WeightFormat::Keras, &path).unwrap();
        let file = File::open(&path).unwrap();
        let listing = include_str!("../reference/keras3_layouts.tsv");
        let lines = listing.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix('\t'));
        let mut groups = 0;
        for line in lines {
            let [group, layer, shapes] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let group = file.group(group).unwrap();
            assert_eq!(group.attrs().unwrap()["name"], AttrValue::String(layer.into()), "{line}");
            let shapes: Vec<&str> = shapes.split(',').collect();
            assert_eq!(group.datasets().unwrap().len(), shapes.len(), "{line}");
            for (i, shape) in shapes.iter().enumerate() {
                let found = group.dataset(&i.to_string()).unwrap().shape().unwrap();
                let found: Vec<usize> = found.iter().map(|&d| d as usize).collect();
                assert_eq!(joined(&found), *shape, "{line}");
            }
            groups += 1;
        }
        assert_eq!(groups, file.group("layers").unwrap().groups().unwrap().len(), "{name}");
        assert!(groups > 100);
    }
}

#[test]
fn a_file_for_keras_has_the_temperature_in_its_head() {
    let folder = tempfile::tempdir().unwrap();
    let head = |temperature| {
        let path = folder.path().join("m.weights.h5");
        let mut model = model("resnet20");
        model.card.temperature = temperature;
        write_weights(&model, WeightFormat::Keras, &path).unwrap();
        let file = File::open(&path).unwrap();
        let vars = file.group("layers/dense/vars").unwrap();
        let values = |i: &str| vars.dataset(i).unwrap().read_f32().unwrap();
        let first = file.group("layers/conv2d/vars").unwrap().dataset("0").unwrap();
        [values("0"), values("1"), first.read_f32().unwrap()]
    };
    let ([kernel, bias, first], [own_kernel, own_bias, own_first]) = (head(None), head(Some(2.5)));
    let divided = |values: &[f32]| -> Vec<f32> {
        values.iter().map(|&v| (f64::from(v) / 2.5) as f32).collect()
    };
    assert!(own_kernel == divided(&kernel) && own_bias == divided(&bias));
    assert!(kernel != own_kernel && first == own_first);
}

/// Keras's legacy layout.
fn legacy(net: &Net, p: &Parameters, path: &Path) {
    let mut file = FileBuilder::new();
    let mut names = Vec::new();
    for (id, node) in net.graph.nodes.iter().enumerate() {
        let tensors: Vec<_> = p.tensors.iter().filter(|t| t.node == id).collect();
        if tensors.is_empty() {
            continue;
        }
        names.push(node.name.clone());
        let mut group = file.create_group(&node.name);
        let list = tensors.iter().map(|t| format!("{}:0", t.name)).collect();
        group.set_attr("weight_names", AttrValue::StringArray(list));
        let mut inner = group.create_group(&node.name);
        for t in tensors {
            let shape: Vec<u64> = t.shape.iter().map(|&d| d as u64).collect();
            let name = format!("{}:0", t.role.name());
            inner.create_dataset(&name).with_f32_data(&t.values).with_shape(&shape);
        }
        group.add_group(inner.finish());
        file.add_group(group.finish());
    }
    file.set_attr("layer_names", AttrValue::StringArray(names));
    fs::write(path, file.finish().unwrap()).unwrap();
}

/// `torch.save` of a state dict: a zip of a pickle of protocol 2 and one file a storage.
fn pth(net: &Net, p: &Parameters, path: &Path) {
    use std::io::Write;
    let text = |s: &str| [&b"X"[..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat();
    let int = |n: usize| [&b"J"[..], &(n as u32).to_le_bytes()].concat();
    let tuple = |items: &[usize]| {
        let items: Vec<u8> = items.iter().flat_map(|&n| int(n)).collect();
        [&b"("[..], &items, b"t"].concat()
    };
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let stored = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    let mut pickle = b"\x80\x02}(".to_vec();
    for (i, t) in p.tensors.iter().enumerate() {
        let shape = torch_shape(&t.shape);
        let strides: Vec<usize> =
            (0..shape.len()).map(|a| shape[a + 1..].iter().product()).collect();
        pickle.extend(text(&torch_name(net, t.node, t.role)));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend(text("storage"));
        pickle.extend(b"ctorch\nFloatStorage\n");
        pickle.extend([text(&i.to_string()), text("cpu"), int(t.values.len())].concat());
        pickle.extend(b"tQ");
        pickle.extend([int(0), tuple(&shape), tuple(&strides)].concat());
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        zip.start_file(format!("net/data/{i}"), stored).unwrap();
        // Every value of a numbered tensor is the same, whatever the layout.
        zip.write_all(&t.values[0].to_le_bytes().repeat(t.values.len())).unwrap();
    }
    pickle.extend(b"u.");
    zip.start_file("net/data.pkl", stored).unwrap();
    zip.write_all(&pickle).unwrap();
    zip.start_file("net/version", stored).unwrap();
    zip.write_all(b"3\n").unwrap();
    zip.finish().unwrap();
}

/// Reads a file into the net again and compares.
#[track_caller]
fn comes_back(path: &Path, net: &Net, wanted: &Parameters) {
    let mut p = Parameters::zeros(&net.graph);
    let file = read(path).unwrap();
    let report = apply(&file, net, &mut p, Scope::All).unwrap();
    assert!(report.missing.is_empty() && report.unused.is_empty(), "{}: {report}", path.display());
    for (ours, theirs) in p.tensors.iter().zip(&wanted.tensors) {
        let same = ours.values.iter().zip(&theirs.values).all(|(a, b)| (a - b).abs() <= 1e-6);
        assert!(same, "{}: {}", path.display(), ours.name);
    }
}

#[test]
fn every_net_loads_every_format_that_exists_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut loaded = 0;
    for name in Recipe::names() {
        let model = model(name);
        let (net, p) = (&model.net, &model.parameters);
        let mut files: Vec<PathBuf> = Vec::new();
        write_weights(&model, WeightFormat::Pytorch, &path("m.safetensors")).unwrap();
        write_weights(&model, WeightFormat::Keras, &path("m.weights.h5")).unwrap();
        files.extend([path("m.safetensors"), path("m.weights.h5")]);
        if model.recipe.naming == Naming::Torchvision {
            pth(net, p, &path("m.pth"));
            files.push(path("m.pth"));
        } else {
            legacy(net, p, &path("m.h5"));
            files.push(path("m.h5"));
        }
        for file in files {
            comes_back(&file, net, p);
            fs::remove_file(file).unwrap();
            loaded += 1;
        }
    }
    assert_eq!(loaded, 15 * 3);
}

#[test]
fn numbers_of_16_and_64_bits_are_read_and_counters_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.safetensors");
    let source = net("torchvision-resnet18", Some(5));
    let p = numbered(&source);
    use safetensors::tensor::{Dtype, TensorView, serialize};
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64] {
        let number = |v: f32| match dtype {
            // 1.5 and its like are exact in all.
            Dtype::F16 => (0x3c00u16 + ((v - 1.0) * 1024.0) as u16).to_le_bytes().to_vec(),
            Dtype::BF16 => v.to_le_bytes()[2..].to_vec(),
            Dtype::F64 => f64::from(v).to_le_bytes().to_vec(),
            _ => v.to_le_bytes().to_vec(),
        };
        let mut data: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = p
            .tensors
            .iter()
            .map(|t| {
                let bytes = number(t.values[0]).repeat(t.values.len());
                (torch_name(&source, t.node, t.role), torch_shape(&t.shape), dtype, bytes)
            })
            .collect();
        data.push(("bn1.num_batches_tracked".into(), vec![], Dtype::I64, vec![0; 8]));
        let views = data.iter().map(|(name, shape, dtype, bytes)| {
            (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        fs::write(&path, serialize(views, None).unwrap()).unwrap();
        let mut wanted = p.clone();
        if dtype == Dtype::BF16 {
            for v in wanted.tensors.iter_mut().flat_map(|t| &mut t.values) {
                *v = f32::from_bits(v.to_bits() & 0xffff_0000);
            }
        }
        comes_back(&path, &source, &wanted);
    }
}

#[test]
fn weights_of_a_deeper_net_do_not_pass_for_a_shallower_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    // Every tensor of resnet20 is in resnet32, with the same shape.
    let deep = net("resnet32", Some(10));
    let mut deeper = Model::imagenet("resnet32").unwrap();
    deeper.card.classes.truncate(10);
    deeper.parameters = numbered(&deep);
    deeper.net = deep;
    deeper.save(&path).unwrap();
    let shallow = net("resnet20", Some(10));
    let mut p = Parameters::zeros(&shallow.graph);
    let before = p.clone();
    for scope in [Scope::Base, Scope::All] {
        let error = apply(&read(&path).unwrap(), &shallow, &mut p, scope).unwrap_err();
        // Which of the blocks 4 and 5 it names is open: the file's tensors have no order.
        let text = error.to_string();
        assert!(
            text.contains("_conv/kernel of shape [3, 3, ") && text.contains("beside"),
            "{text}"
        );
        assert_eq!(p, before);
    }
}

#[test]
fn inspection_finds_the_net_its_head_and_its_classes() {
    let folder = keras_files();
    let found = inspect(folder.path().join("v1.weights.h5")).unwrap();
    assert_eq!((found.format, found.fits.len()), (Format::Keras3, 0));
    assert!(
        found.tensors.iter().any(|t| t.name == "layers/conv2d/vars/0" && t.shape == [7, 7, 3, 64])
    );
    let path = folder.path().join("m.safetensors");
    let torch = net("torchvision-resnet18", Some(7));
    pth(&torch, &numbered(&torch), &folder.path().join("t.pth"));
    let found = inspect(folder.path().join("t.pth")).unwrap();
    assert_eq!(found.parameters, 11_176_512 + 9600 + 513 * 7);
    let fits: Vec<_> = found.fits.iter().map(|f| (f.net.as_str(), f.head, f.classes)).collect();
    assert_eq!(fits, [("torchvision-resnet18", true, Some(7))]);
    let mut cifar = Model::imagenet("resnet20").unwrap();
    cifar.parameters = numbered(&cifar.net);
    write_weights(&cifar, WeightFormat::Pytorch, &path).unwrap();
    let found = inspect(&path).unwrap();
    let fits: Vec<_> = found.fits.iter().map(|f| (f.net.as_str(), f.classes)).collect();
    assert_eq!((found.format, fits), (Format::Model, vec![("resnet20", Some(1000))]));
    assert_eq!(found.class_names.unwrap().len(), 1000);
}

/// A TensorFlow.js model of `net`, every weight in the given encoding.
fn tfjs(
    folder: &Path,
    net: &Net,
    p: &Parameters,
    quantized: Option<&str>,
    epsilon: f32,
) -> PathBuf {
    let mut bytes = Vec::new();
    let mut weights = Vec::new();
    for t in &p.tensors {
        let mut entry = serde_json::json!({"name": t.name, "shape": t.shape, "dtype": "float32"});
        let (scale, min) = (1.0 / 256.0, -0.5);
        let step = |v: f32| ((v - min) / scale).round();
        for &v in &t.values {
            match quantized {
                None => bytes.extend(v.to_le_bytes()),
                Some("uint8") => bytes.push(step(v) as u8),
                Some("uint16") => bytes.extend((step(v) as u16).to_le_bytes()),
                _ => bytes.extend(0x3e00u16.to_le_bytes()), // 1.5
            }
        }
        if let Some(dtype) = quantized {
            entry["quantization"] = serde_json::json!({"dtype": dtype, "scale": scale, "min": min});
        }
        weights.push(entry);
    }
    let norms = net.graph.nodes.iter().filter(|n| n.name.contains("bn"));
    let layers: Vec<_> = norms
        .map(|n| {
            let config = serde_json::json!({"name": n.name, "epsilon": epsilon});
            serde_json::json!({"class_name": "BatchNormalization", "config": config})
        })
        .collect();
    let config = serde_json::json!({"class_name": "Model", "config": {"layers": layers}});
    let cut = bytes.len() / 3;
    fs::create_dir_all(folder.join("shards")).unwrap();
    fs::write(folder.join("a.bin"), &bytes[..cut]).unwrap();
    fs::write(folder.join("shards/b.bin"), &bytes[cut..]).unwrap();
    let manifest = serde_json::json!([{"paths": ["a.bin", "shards/b.bin"], "weights": weights}]);
    let model = serde_json::json!({
        "format": "layers-model", "modelTopology": {"model_config": config}, "weightsManifest": manifest
    });
    fs::write(folder.join("model.json"), model.to_string()).unwrap();
    folder.join("model.json")
}

#[test]
fn tensorflow_js_models_load_quantized_or_not_and_bring_their_epsilon() {
    let folder = tempfile::tempdir().unwrap();
    let net = net("resnet20", Some(3));
    let mut p = Parameters::zeros(&net.graph);
    // Exact in every encoding: -0.5 + 128 / 256 and so on.
    for (i, t) in p.tensors.iter_mut().enumerate() {
        t.values.fill([0.0, 0.25, 0.375][i % 3]);
    }
    for quantized in [None, Some("uint8"), Some("uint16"), Some("float16")] {
        if quantized == Some("float16") {
            p.tensors.iter_mut().for_each(|t| t.values.fill(1.5));
        }
        let file = read(tfjs(folder.path(), &net, &p, quantized, 1e-3)).unwrap();
        assert_eq!(file.format, Format::TensorflowJs);
        let mut loaded = Parameters::zeros(&net.graph);
        let report = apply(&file, &net, &mut loaded, Scope::All).unwrap();
        assert!(report.unused.is_empty());
        for (ours, theirs) in loaded.tensors.iter().zip(&p.tensors) {
            let more = if ours.role == Role::MovingVariance { 1e-3 - 1e-5 } else { 0.0 };
            let want = theirs.values[0] + more;
            assert!(
                ours.values.iter().all(|v| (v - want).abs() <= 1e-7 * (1.0 + want)),
                "{quantized:?}: {} {} {want}",
                ours.name,
                ours.values[0]
            );
        }
    }
    // A smaller epsilon than the net's cannot make a variance negative: gamma gives way.
    p.tensors.iter_mut().for_each(|t| t.values.fill(0.0));
    p.tensors.iter_mut().filter(|t| t.role == Role::Gamma).for_each(|t| t.values.fill(1.0));
    // Where all are 0 the file is refused.
    let last = p.tensors.iter_mut().rfind(|t| t.role == Role::MovingVariance).unwrap();
    last.values.fill(0.25);
    let file = read(tfjs(folder.path(), &net, &p, None, 2.5e-6)).unwrap();
    let mut loaded = Parameters::zeros(&net.graph);
    apply(&file, &net, &mut loaded, Scope::All).unwrap();
    let gamma = &loaded.find("conv1_bn/gamma").unwrap().values;
    assert!(gamma.iter().all(|g| (g - 2.0).abs() <= 1e-6), "{gamma:?}");
    assert_eq!(loaded.find("conv1_bn/moving_variance").unwrap().values, [0.0; 16]);
}

#[test]
fn scripts_name_the_net_the_classes_and_what_comes_before() {
    let path = Path::new("x \"y\".weights.h5");
    let mut model = Model::imagenet("resnet101v2").unwrap();
    model.card.upsample = 7;
    (model.card.height, model.card.width) = (32, 32);
    let text = script(&model, WeightFormat::Keras, path);
    let scale = "keras.applications.resnet_v2.preprocess_input";
    for part in ["ResNet101V2(", "classes=1000", "UpSampling2D(7)", "(32, 32, 3)", "y\\\".w", scale]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let model = Model::imagenet("torchvision-resnet34").unwrap();
    let text = script(&model, WeightFormat::Keras, path);
    assert!(text.contains("(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)"), "{text}");
    assert!(text.contains("momentum=0.9, epsilon=1e-5"), "{text}");
    let error = write_weights(&model, WeightFormat::Keras, Path::new("x.h5")).unwrap_err();
    assert!(error.to_string().contains(".weights.h5"), "{error}");
    assert!(!Path::new("x.h5").exists());
}
