//! Labels that corrections.csv mends.

use std::fs;
use std::path::Path;

use headstart::Dataset;
use headstart::dataset::{Corrections, DataOptions, open};
use headstart::image::{Rgb8, picture};

fn image(root: &Path, name: &str, grey: u8) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, picture::png(&Rgb8::new(3, 3, vec![grey; 27]).unwrap()).unwrap()).unwrap();
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..6 {
        image(folder.path(), &format!("train/day/{i}.png"), 200 + i);
        image(folder.path(), &format!("train/night/{i}.png"), 10 + i);
        image(folder.path(), &format!("test/day/{i}.png"), 220 + i);
    }
    folder
}

/// Name and class of each training and test image.
fn labels(data: &Dataset) -> Vec<(String, String)> {
    let parts = [Some(&data.train), data.validation.as_ref(), data.test.as_ref()];
    let each = parts.into_iter().flatten().flat_map(|part| {
        (0..part.len()).map(|i| (part.path(i).into_owned(), data.classes[part.label(i)].clone()))
    });
    let mut all: Vec<_> = each.collect();
    all.sort();
    all
}

fn opened(root: &Path) -> headstart::Result<Dataset> {
    open(root, &DataOptions { validation_split: 0.0, ..DataOptions::default() })
}

#[test]
fn a_label_is_mended_an_image_left_out_and_all_is_taken_back() {
    let folder = folder();
    let root = folder.path();
    let before = labels(&opened(root).unwrap());
    let files = |root: &Path| fs::read_dir(root.join("train/day")).unwrap().count();
    let mut corrections = Corrections::read(root).unwrap();
    corrections.set("train/day/2.png", Some("night"));
    corrections.set("test/day/0.png", Some("night"));
    corrections.set("train/night/1.png", None);
    corrections.write().unwrap();
    let data = opened(root).unwrap();
    let after = labels(&data);
    assert_eq!((after.len(), files(root)), (before.len() - 1, 6));
    for (name, class) in &after {
        let moved = name.ends_with("train/day/2.png") || name.ends_with("test/day/0.png");
        let old = &before.iter().find(|(other, _)| other == name).unwrap().1;
        assert_eq!(class != old, moved, "{name}: {class}");
    }
    assert_eq!(data.skipped.len(), 1, "{:?}", data.skipped);
    assert!(data.skipped[0].name.ends_with("train/night/1.png"));
    assert!(data.warnings.is_empty(), "{:?}", data.warnings);
    let mut again = Corrections::read(root).unwrap();
    assert_eq!(again, corrections);
    for (path, _) in corrections.rows() {
        assert!(again.undo(path));
    }
    assert!(!again.undo("train/day/2.png"));
    again.write().unwrap();
    assert!(!root.join("corrections.csv").exists());
    assert_eq!(labels(&opened(root).unwrap()), before);
}

#[test]
fn a_models_classes_decide_which_corrections_count() {
    let folder = folder();
    let root = folder.path();
    fs::write(
        root.join("corrections.csv"),
        "path,class\ntrain/day/0.png,night\ntrain/day/1.png,dusk\n",
    )
    .unwrap();
    let error = opened(root).unwrap_err();
    let text = format!("{error} {}", error.hint().unwrap_or_default());
    for part in ["corrections.csv", "dusk for train/day/1.png", "night"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let classes = Some(vec!["day".to_string(), "night".to_string()]);
    let options = DataOptions { validation_split: 0.0, classes, ..DataOptions::default() };
    let data = open(root, &options).unwrap();
    assert_eq!(data.train.class_counts(), [4, 7]);
    assert!(data.skipped[0].reason.contains("dusk"), "{:?}", data.skipped);
}

#[test]
fn paths_begin_in_the_folder_that_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for i in 0..3 {
        image(root, &format!("photos/day/{i}.png"), 200 + i);
        image(root, &format!("photos/night/{i}.png"), 10 + i);
    }
    let mut corrections = Corrections::read(root).unwrap();
    corrections.set("photos/day/0.png", Some("night"));
    corrections.write().unwrap();
    let data = opened(root).unwrap();
    assert_eq!(data.train.class_counts(), [2, 4]);
    assert!(data.warnings.is_empty(), "{:?}", data.warnings);
    let options = DataOptions { validation_split: 0.0, corrected: false, ..DataOptions::default() };
    assert_eq!(open(root, &options).unwrap().train.class_counts(), [3, 3]);
}

#[test]
fn what_is_no_table_of_corrections_is_said_and_what_is_gone_is_a_warning() {
    let folder = folder();
    let root = folder.path();
    let write = |text: &[u8]| fs::write(root.join("corrections.csv"), text).unwrap();
    for bad in [&b"name,label\nx,y\n"[..], b"path,class\na,b,c\n", b"", b"path\n\x00"] {
        write(bad);
        let error = opened(root).unwrap_err().to_string();
        assert!(error.contains("corrections.csv") && error.contains("path and class"), "{error}");
    }
    // As Excel writes it.
    write("\u{feff}path,class\r\ntrain/day/0.png,night\r\ngone.png,night\r\n".as_bytes());
    let data = opened(root).unwrap();
    assert_eq!(data.train.class_counts(), [5, 7]);
    assert!(
        data.warnings.iter().any(|w| w.contains("1 of its 2") && w.contains("gone.png")),
        "{:?}",
        data.warnings
    );
}

#[test]
fn names_with_accents_are_found_however_they_are_written() {
    let folder = folder();
    let root = folder.path();
    image(root, "train/day/cafe\u{301} \"1\", x.png", 99);
    let mut corrections = Corrections::read(root).unwrap();
    corrections.set("train/day/caf\u{e9} \"1\", x.png", Some("night"));
    corrections.write().unwrap();
    assert_eq!(opened(root).unwrap().train.class_counts(), [6, 7]);
}
