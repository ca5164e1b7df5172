//! Exports for PyTorch: the state dict against what PyTorch lists (`golden/pytorch/generate.py`), and the module beside it,
//! run by Python where there is one with torch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use headstart::Dataset;
use headstart::export::{WeightFormat, script, write_weights};
use headstart::image::{Decode, Fit, Interpolation, Rgb8, jpeg, picture};
use headstart::model::Model;
use headstart::preprocess::Preprocess;
use headstart::resnet::Recipe;
use headstart::weights::model_file::ModelCard;
use safetensors::SafeTensors;

use crate::support::{skip, varied};

const CLASSES: [&str; 4] = ["plain", "two words", "Größe", "\"quoted\" \\ 'x' \u{7}\n\"\"\""];
/// The largest difference between probabilities there and here.
const BOUND: f32 = 1e-5;

fn model(architecture: &str, size: usize, upsample: usize, preprocess: Preprocess) -> Model {
    let card = Model::imagenet("resnet20").unwrap().card;
    let card = ModelCard {
        architecture: architecture.into(),
        classes: CLASSES.map(String::from).to_vec(),
        height: size,
        width: size + 5,
        interpolation: Interpolation::Bicubic,
        fit: Fit::Stretch,
        upsample,
        preprocess,
        ..card
    };
    Model::new(card, 7).unwrap()
}

/// Names, shapes, and the values at three places.
fn listing(file: &[u8]) -> Vec<String> {
    let file = SafeTensors::deserialize(file).unwrap();
    let mut lines = Vec::new();
    for (name, view) in file.iter() {
        let shape: Vec<String> = view.shape().iter().map(usize::to_string).collect();
        let values: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let probes = [1, values.len() / 3, values.len() - 2].map(|i| values[i].to_string());
        lines.push(format!("{name}\t{}\t{}", shape.join("x"), probes.join(",")));
    }
    lines.sort();
    lines
}

#[test]
fn the_state_dict_is_what_pytorch_lists() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let golden = include_str!("../golden/pytorch/states.tsv");
    for name in
        ["resnet50", "resnet50v2", "torchvision-resnet18", "torchvision-resnet50", "resnet20"]
    {
        let mut model = model(name, 32, 1, Preprocess::Unit);
        for t in &mut model.parameters.tensors {
            t.values.iter_mut().enumerate().for_each(|(i, v)| *v = i as f32);
        }
        write_weights(&model, WeightFormat::Pytorch, &path).unwrap();
        let lines = golden.lines().filter_map(|l| l.strip_prefix(name)?.strip_prefix('\t'));
        let mut theirs: Vec<&str> = lines.collect();
        theirs.sort_unstable();
        assert!(theirs.len() > 90, "{name}: {}", theirs.len());
        assert_eq!(listing(&fs::read(&path).unwrap()), theirs, "{name}");
        // It is still a model file.
        let mut read = Model::open(&path).unwrap();
        // Names of classes of others control no terminal.
        assert_eq!(read.card.classes[..3], model.card.classes[..3], "{name}");
        assert!(!read.card.classes[3].contains(char::is_control), "{:?}", read.card.classes);
        read.card.classes.clone_from(&model.card.classes);
        assert_eq!(read, model, "{name}");
    }
}

#[test]
fn the_recorded_differences_are_small_and_of_every_net() {
    let text = include_str!("../golden/pytorch/probabilities.tsv");
    let rows: Vec<Vec<&str>> = text.lines().skip(2).map(|l| l.split('\t').collect()).collect();
    for name in Recipe::names() {
        let row = rows.iter().find(|r| r[0].split([' ', ',']).next() == Some(name));
        let row = row.unwrap_or_else(|| panic!("{name} is not in probabilities.tsv"));
        for difference in &row[2..4] {
            assert!(difference.parse::<f32>().unwrap() <= BOUND, "{row:?}");
        }
    }
}

#[test]
fn the_module_says_first_what_the_net_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my net.safetensors");
    for (name, words) in [
        ("resnet50", ["torchvision", "strides", "biases", "1.001e-5"]),
        ("resnet101v2", ["resnetv2_101", "strides", "biases", "1.001e-5"]),
        ("resnet20", ["torchvision and timm", "projection", "16, 32 and 64", "not fit"]),
        ("torchvision-resnet34", ["models.resnet34(num_classes=4)", "takes", "both", "leaves"]),
    ] {
        let model = model(name, 32, 3, Preprocess::Caffe);
        write_weights(&model, WeightFormat::Pytorch, &path).unwrap();
        let module = folder.path().join("my_net_model.py");
        assert_eq!(WeightFormat::Pytorch.files(&path), [path.clone(), module.clone()]);
        let source = fs::read_to_string(module).unwrap();
        let first: Vec<&str> = source.lines().take(6).collect();
        for word in words.iter().chain(&["Written by `headstart export`"]) {
            assert!(first.join("\n").contains(word), "{name}: no {word} in {first:#?}");
        }
        for part in ["upsampling (x3", "caffe", "TEMPERATURE = 1.0", "Resampling.BICUBIC"] {
            assert!(source.contains(part), "{name}: no {part} in {source}");
        }
        for line in source.lines() {
            assert!(line.chars().count() <= 100, "{name}: {line}");
        }
        let lines = script(&model, WeightFormat::Pytorch, &path);
        assert!(lines.contains("from my_net_model import load, predict"), "{lines}");
        assert!(lines.contains(&format!("sys.path.insert(0, {:?})", folder.path())), "{lines}");
        let torchvision = lines.contains("torchvision.models.resnet34(num_classes=4)");
        assert_eq!(torchvision, name == "torchvision-resnet34", "{lines}");
    }
}

#[test]
fn a_file_that_is_no_export_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (path, module) = (folder.path().join("a.safetensors"), folder.path().join("a_model.py"));
    let model = model("resnet20", 16, 1, Preprocess::Unit);
    fs::write(&module, "mine = 1\n").unwrap();
    let error = write_weights(&model, WeightFormat::Pytorch, &path).unwrap_err();
    assert!(error.to_string().contains("a_model.py"), "{error}");
    assert!(error.hint().unwrap().contains("--out"), "{error}");
    assert_eq!(fs::read_to_string(&module).unwrap(), "mine = 1\n");
    assert!(!path.exists());
    fs::remove_file(&module).unwrap();
    // Written again, both are new.
    for _ in 0..2 {
        write_weights(&model, WeightFormat::Pytorch, &path).unwrap();
    }
    for (name, way) in [
        ("a.pth", "torch.save(load().state_dict()"),
        ("a.onnx", "--format onnx"),
        ("a.weights.h5", "--format keras"),
    ] {
        let error =
            write_weights(&model, WeightFormat::Pytorch, &folder.path().join(name)).unwrap_err();
        assert!(error.hint().unwrap().contains(way), "{error}: {:?}", error.hint());
    }
    let error = write_weights(&model, WeightFormat::Keras, Path::new("a.keras")).unwrap_err();
    assert!(error.hint().unwrap().contains("model.save(\"NAME.keras\")"), "{error}");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 2);
}

/// A Python with torch and Pillow: that of `HEADSTART_PYTHON`, or the first on the path.
fn python() -> Option<String> {
    let given = std::env::var("HEADSTART_PYTHON").ok();
    let names = given.into_iter().chain(["python3".into(), "python".into()]);
    let has = |name: &String| {
        let done = Command::new(name).args(["-c", "import torch, PIL"]).output();
        done.is_ok_and(|done| done.status.success())
    };
    let found = names.into_iter().find(has);
    if found.is_none() {
        skip::skipped("exports for PyTorch were not run: no Python with torch and Pillow");
    }
    found
}

const RUN: &str = r#"
import importlib, json, sys
folder, names, files = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
sys.path.insert(0, folder)
out = {}
for name in names:
    module = importlib.import_module(f"{name}_model")
    net = module.load()
    out[name] = [dict(module.predict(net, file, top=4)) for file in files]
    images = module.pixels(files[0])[None]
    assert net(images.float()).equal(net(images)) and net.features(images).dim() == 2
print(json.dumps(out))
"#;

#[test]
fn python_predicts_what_is_predicted_here() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = Dataset::load("synthetic:4x6x37").unwrap();
    let mut files: Vec<PathBuf> = (0..4)
        .map(|i| {
            let path = folder.path().join(format!("{i}.png"));
            fs::write(&path, picture::png(&data.train.image(i).unwrap()).unwrap()).unwrap();
            path
        })
        .collect();
    // A large photo, which is decoded at a quarter of its size.
    let pixels: Vec<u8> =
        (0..1300 * 1100 * 3).map(|i| (i % 3900 / 31 + i / 30_000) as u8).collect();
    let photo = jpeg(&Rgb8::new(1300, 1100, pixels).unwrap(), 80).unwrap();
    files.push(folder.path().join("large.jpg"));
    fs::write(&files[4], photo).unwrap();
    let mut models = BTreeMap::new();
    for (name, net, size, upsample, preprocess) in [
        ("cifar", "resnet20", 16, 2, Preprocess::Torch),
        ("v1", "resnet50", 48, 1, Preprocess::Caffe),
        ("v2", "resnet50v2", 48, 1, Preprocess::Tf),
        ("basic", "torchvision-resnet18", 50, 1, Preprocess::Unit),
        ("bottleneck", "torchvision-resnet50", 24, 2, Preprocess::Torch),
    ] {
        let mut model = varied(model(net, size, upsample, preprocess));
        model.card.temperature = (name != "v1").then_some(1.7);
        model.card.decode = if name == "v2" { Decode::Full } else { Decode::Reduced };
        let path = folder.path().join(format!("{name}.safetensors"));
        write_weights(&model, WeightFormat::Pytorch, &path).unwrap();
        models.insert(name, model);
    }
    let names: Vec<&str> = models.keys().copied().collect();
    let mut command = Command::new(python);
    command.args(["-c", RUN]).arg(folder.path()).arg(names.join(",")).args(&files);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    type Tables = BTreeMap<String, Vec<BTreeMap<String, f32>>>;
    let theirs: Tables = serde_json::from_slice(&done.stdout).unwrap();
    for (name, model) in models {
        let mut farthest = 0.0_f32;
        for (file, table) in files.iter().zip(&theirs[name]) {
            let ours = model.predict(file).unwrap();
            assert_eq!((ours.len(), table.len()), (CLASSES.len(), CLASSES.len()));
            for choice in ours {
                let far = (choice.probability - table[&choice.class]).abs();
                assert!(far <= BOUND, "{name}, {}: {far}", file.display());
                farthest = farthest.max(far);
            }
        }
        println!("{name}: {farthest:.1e}");
    }
}
