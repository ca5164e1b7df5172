//! Every reader of foreign bytes, by name: what a fuzzer calls with bytes. A reader may refuse them; it may not panic, take more
//! memory than its limit, or more time than the bytes are worth.

use std::fs;
use std::path::{Path, PathBuf};

use headstart::class_weight::ClassWeight;
use headstart::config::TrainConfig;
use headstart::dataset::{Corrections, DataOptions, Limits, open};
use headstart::history::History;
use headstart::metrics::Report;
use headstart::run_folder::RunFolder;
use headstart::weights::inspect;
use headstart::{Model, augment, compare, image};

/// A name, and what to do with bytes in a folder of its own.
pub type Target = (&'static str, fn(&Path, &[u8]));

/// All of them; each has its examples in `corpus/NAME`.
pub const TARGETS: [Target; 20] = [
    ("jpeg", |_, bytes| picture(bytes)),
    ("image", |_, bytes| picture(bytes)),
    ("header", header),
    ("archive", |folder, bytes| data(&file(folder, "x.tar", bytes))),
    ("table", |folder, bytes| data(&file(folder, "x.csv", bytes))),
    ("parquet", |folder, bytes| data(&file(folder, "x.parquet", bytes))),
    ("cifar", cifar),
    ("classes", classes),
    ("corrections", corrections),
    ("torch", |folder, bytes| weights(&file(folder, "x.pth", bytes))),
    ("hdf5", |folder, bytes| weights(&file(folder, "x.h5", bytes))),
    ("keras", |folder, bytes| weights(&file(folder, "x.keras", bytes))),
    ("safetensors", |folder, bytes| weights(&file(folder, "x.safetensors", bytes))),
    ("tfjs", tfjs),
    ("card", card),
    ("config", config),
    ("results", results),
    ("report", report),
    ("events", events),
    ("words", words),
];

fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("the folder of the target can be written");
    path
}

fn picture(bytes: &[u8]) {
    let read = [image::decode("x", bytes), image::decode_draft("x", bytes, 2)];
    for image in read.into_iter().flatten() {
        assert_eq!(image.pixels.len(), image.width * image.height * 3);
    }
}

/// Without decoding: what opening a data set looks at in each file.
fn header(folder: &Path, bytes: &[u8]) {
    for class in ["a", "b"] {
        fs::create_dir_all(folder.join("photos").join(class)).expect("a folder");
        file(folder, &format!("photos/{class}/x.png"), bytes);
    }
    let limits = Limits { decoded_bytes: 0, ..Limits::default() };
    drop(open(folder.join("photos"), &DataOptions { limits, ..options() }));
}

fn options() -> DataOptions {
    DataOptions { threads: 1, empty_classes: true, ..DataOptions::default() }
}

fn data(path: &Path) {
    if let Ok(data) = open(path, &options()) {
        for i in 0..data.train.len().min(8) {
            drop(data.train.image(i));
        }
    }
}

fn cifar(folder: &Path, bytes: &[u8]) {
    fs::create_dir_all(folder.join("cifar")).expect("a folder");
    let (names, records) = bytes.split_at(bytes.len().min(64));
    file(folder, "cifar/batches.meta.txt", names);
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"] {
        file(folder, &format!("cifar/{name}.bin"), records);
    }
    file(folder, "cifar/test_batch.bin", records);
    data(&folder.join("cifar"));
}

/// The list of class names beside shards.
fn classes(folder: &Path, bytes: &[u8]) {
    fs::create_dir_all(folder.join("shards")).expect("a folder");
    let mut shard = Vec::new();
    let image: &[u8] = b"P3 1 1 255 1 2 3\n";
    for (name, text) in [("a.ppm", image), ("a.cls", b"0"), ("b.ppm", image), ("b.cls", b"1")] {
        // A header of tar: name, modes and owners, size, time, checksum, kind.
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..124].copy_from_slice(b"0000644\x000000000\x000000000\x00");
        header[124..148].copy_from_slice(format!("{:011o}\000000000000\0", text.len()).as_bytes());
        header[148..156].fill(b' ');
        header[156] = b'0';
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        shard.extend(header);
        shard.extend(text);
        shard.resize(shard.len().next_multiple_of(512), 0);
    }
    shard.resize(shard.len() + 1024, 0);
    file(folder, "shards/x.tar", &shard);
    file(folder, "shards/classes.txt", bytes);
    data(&folder.join("shards"));
}

/// The labels that are mended beside a folder's classes.
fn corrections(folder: &Path, bytes: &[u8]) {
    for name in ["a/1.ppm", "a/2.ppm", "b/1.ppm", "b/2.ppm"] {
        let path = folder.join("photos").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, b"P3 1 1 255 1 2 3\n").expect("the folder of the target can be written");
    }
    file(folder, "photos/corrections.csv", bytes);
    data(&folder.join("photos"));
    if let Ok(table) = Corrections::read(folder.join("photos")) {
        // What is read is written so that it is read again as the same.
        table.write().expect("the folder of the target can be written");
        assert!(Corrections::read(folder.join("photos")).is_ok_and(|again| again == table));
    }
}

fn weights(path: &Path) {
    drop(inspect(path));
}

fn tfjs(folder: &Path, bytes: &[u8]) {
    file(folder, "group1-shard1of1.bin", &[0; 64]);
    weights(&file(folder, "model.json", bytes));
}

/// The text of a model's card, in a file without tensors.
fn card(folder: &Path, bytes: &[u8]) {
    let mut text = String::new();
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => text += &format!("\\u{:04x}", c as u32),
            c => text.push(c),
        }
    }
    let header = format!("{{\"__metadata__\":{{\"headstart\":\"{text}\"}}}}");
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    drop(Model::open(file(folder, "x.safetensors", &bytes)));
}

fn config(folder: &Path, bytes: &[u8]) {
    let path = file(folder, "config.toml", bytes);
    if let Ok(config) = TrainConfig::read(&path) {
        drop(config.check());
    }
    drop(TrainConfig::of_run(folder));
    file(folder, "results.csv", History::default().to_csv().expect("text").as_bytes());
    drop(compare::read(folder));
}

fn results(folder: &Path, bytes: &[u8]) {
    drop(History::read_csv(file(folder, "results.csv", bytes)));
}

fn report(folder: &Path, bytes: &[u8]) {
    if let Ok(report) = Report::read(file(folder, "report.json", bytes)) {
        drop(report.to_string());
    }
}

fn events(folder: &Path, bytes: &[u8]) {
    let run = folder.join("run");
    fs::create_dir_all(&run).expect("a folder");
    file(&run, "events.jsonl", bytes);
    let run = RunFolder::resume(&run).expect("a run's folder").with_tensorboard(2);
    drop({ run }.cut_events(bytes.len() as u64 / 2));
}

/// Texts of flags: augmentations, class weights, synthetic data and patterns of shards.
fn words(folder: &Path, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(list) = text.parse::<augment::List>() {
        // What is read is written so that it is read again as the same.
        let again: Vec<_> = list.0.iter().map(|one| one.to_string().parse()).collect();
        assert!(
            again.into_iter().zip(&list.0).all(|(again, one)| again.ok().as_ref() == Some(one))
        );
    }
    drop(text.parse::<ClassWeight>());
    drop(ClassWeight::read(file(folder, "weights.json", bytes)));
    let source = text.replace(['/', '\0'], "");
    if source.starts_with("synthetic:") || source.contains('{') {
        let limits = Limits { decoded_bytes: 1 << 20, ..Limits::default() };
        drop(open(folder.join(&source), &DataOptions { limits: limits.clone(), ..options() }));
        drop(open(source, &DataOptions { limits, ..options() }));
    }
}
