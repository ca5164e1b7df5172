//! Data sets split by class and by group: no group in two parts, the same rows as the splits' own functions.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use headstart::dataset::{DataOptions, Dataset, Grouping, Subset, open};
use headstart::split::{group_train_test_split, stratified_train_test_split};

use crate::support::{png, write};

/// A picture of its own for each `seed`; `shade` is added to it.
fn picture(seed: u32, shade: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 24, 24);
    encoder.set_color(png::ColorType::Rgb);
    let mut random = headstart::split::RandomState::new(seed);
    let blocks: Vec<u8> = (0..144).map(|_| random.interval(200) as u8).collect();
    let pixels: Vec<u8> = (0..24 * 24)
        .flat_map(|i| [blocks[i / 48 * 12 + i % 24 / 2].saturating_add(shade); 3])
        .collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    out
}

/// Options with a fifth for testing and a quarter of the rest for validation.
fn options(stratify: bool, group: Option<&str>) -> DataOptions {
    let group = group.map(|text| text.parse::<Grouping>().unwrap());
    DataOptions {
        validation_split: 0.25,
        test_split: 0.2,
        stratify,
        group,
        ..DataOptions::default()
    }
}

fn parts(data: &Dataset) -> [&Subset; 3] {
    [&data.train, data.validation.as_ref().unwrap(), data.test.as_ref().unwrap()]
}

fn names(part: &Subset) -> Vec<&str> {
    (0..part.len()).map(|i| part.name(i)).collect()
}

/// Fails if a group has images in two parts; the number of groups.
#[track_caller]
fn untorn(data: &Dataset) -> usize {
    let groups = |part: &Subset| part.groups().unwrap().into_iter().collect::<BTreeSet<usize>>();
    let [train, validation, test] = parts(data).map(groups);
    assert!(train.is_disjoint(&validation) && train.is_disjoint(&test), "{data:?}");
    assert!(validation.is_disjoint(&test), "{data:?}");
    train.len() + validation.len() + test.len()
}

/// Twelve plants of 1 to 6 photos in two classes; the last one is in both.
fn plants(root: &Path) {
    for plant in 0..12u32 {
        for i in 0..=plant % 6 {
            let class = if plant % 2 == 0 { "roses" } else { "tulips" };
            let class = if plant == 11 && i > 2 { "roses" } else { class };
            write(
                root,
                &format!("{class}/bed/plant{plant:02}/{i}.png"),
                &picture(plant * 9 + i, 0),
            );
        }
    }
    write(root, "roses/alone.png", &picture(900, 0));
}

#[test]
fn folders_stay_whole_also_across_classes() {
    let place = tempfile::tempdir().unwrap();
    plants(place.path());
    for stratify in [false, true] {
        let data = open(place.path(), &options(stratify, Some("folder"))).unwrap();
        assert_eq!(untorn(&data), 13);
        let total: usize = parts(&data).iter().map(|part| part.len()).sum();
        assert_eq!(total, 43);
        // Plants are told apart by the folders below the class.
        let plant = |name: &str| name.split('/').nth(2).unwrap_or_default().to_string();
        let plants = |part: &Subset| names(part).into_iter().map(plant).collect::<BTreeSet<_>>();
        let [train, validation, test] = parts(&data).map(plants);
        assert!(train.is_disjoint(&validation) && train.is_disjoint(&test));
        assert!(validation.is_disjoint(&test));
    }
    // Without groups they are torn.
    let data = open(place.path(), &options(false, None)).unwrap();
    assert_eq!(data.train.groups(), None);
    // The rows are those of the function, over all images in order, by the order of the names.
    let all =
        DataOptions { validation_split: 0.0, test_split: 0.0, ..options(false, Some("folder")) };
    let whole = open(place.path(), &all).unwrap();
    let split = group_train_test_split(&whole.train.groups().unwrap(), 0.2, 42).unwrap();
    let data = open(place.path(), &options(false, Some("folder"))).unwrap();
    let expected: Vec<&str> = split.test.iter().map(|&i| whole.train.name(i)).collect();
    assert_eq!(names(data.test.as_ref().unwrap()), expected);
}

#[test]
fn classes_stay_in_proportion() {
    let place = tempfile::tempdir().unwrap();
    for (class, count) in [("a", 40), ("b", 20), ("c", 8)] {
        for i in 0..count {
            write(place.path(), &format!("{class}/{i:02}.png"), &png(4, 3, [i as u8, 7, 9]));
        }
    }
    let data = open(place.path(), &options(true, None)).unwrap();
    let counts = parts(&data).map(Subset::class_counts);
    assert_eq!(counts, [vec![24, 12, 4], vec![8, 4, 2], vec![8, 4, 2]]);
    let whole = DataOptions { validation_split: 0.0, test_split: 0.0, ..DataOptions::default() };
    let whole = open(place.path(), &whole).unwrap();
    let split = stratified_train_test_split(&whole.train.labels(), 0.2, 42).unwrap();
    let expected: Vec<&str> = split.test.iter().map(|&i| whole.train.name(i)).collect();
    assert_eq!(names(data.test.as_ref().unwrap()), expected);
    // Where scikit-learn refuses: the only image of a class is trained on.
    write(place.path(), "d/1.png", &png(4, 3, [1, 2, 3]));
    let data = open(place.path(), &options(true, None)).unwrap();
    let counts = parts(&data).map(Subset::class_counts);
    assert_eq!(counts, [vec![24, 12, 4, 1], vec![8, 4, 2, 0], vec![8, 4, 2, 0]]);
    let lacks = |what: &str| {
        format!("the {what} split has no images of d (1 image): too few to split by class")
    };
    assert_eq!(data.warnings, [lacks("test"), lacks("validation")]);
    // A part with fewer images than there are classes has one of as many as it can.
    let few = DataOptions { test_split: 0.02, ..options(true, None) };
    write(place.path(), "d/2.png", &png(4, 3, [1, 2, 4]));
    let data = open(place.path(), &few).unwrap();
    let test = data.test.as_ref().unwrap().class_counts();
    assert_eq!((test.iter().sum::<usize>(), *test.iter().max().unwrap()), (2, 1));
    let expected = "the test split has no images of d (2 images), c (8 images)";
    assert!(data.warnings[0].starts_with(expected), "{:?}", data.warnings);
}

#[test]
fn classes_of_few_images_stay_in_proportion() {
    let place = tempfile::tempdir().unwrap();
    for class in ["a", "b", "c", "d", "e"] {
        for i in 0..6 {
            write(
                place.path(),
                &format!("{class}/{i}.png"),
                &png(4, 3, [i as u8, 7, class.as_bytes()[0]]),
            );
        }
    }
    let usual = DataOptions { validation_split: 0.1, ..options(true, None) };
    for seed in 0..20 {
        let data = open(place.path(), &DataOptions { seed, ..usual.clone() }).unwrap();
        let [train, validation, test] = parts(&data).map(Subset::class_counts);
        assert!(test.iter().all(|count| [1, 2].contains(count)), "{test:?}");
        // scikit-learn refuses to hold out 3 of 24 images of five classes.
        assert_eq!(validation.iter().sum::<usize>(), 3);
        assert!(validation.iter().all(|&count| count <= 1), "{validation:?}");
        assert!(train.iter().all(|&count| count >= 3), "{train:?}");
    }
    // If no class has two images, no part can have them in proportion.
    let single = tempfile::tempdir().unwrap();
    for class in ["a", "b", "c", "d", "e"] {
        write(single.path(), &format!("{class}/1.png"), &png(4, 3, [1, 7, class.as_bytes()[0]]));
    }
    let error = open(single.path(), &usual).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("test split: expected at least two images of every class"), "{text}");
    assert!(text.contains("one of a, b, c, ..."), "{text}");
    assert!(error.hint().unwrap().contains("--stratify"), "{error:?}");
}

#[test]
fn a_column_groups_the_images_of_a_table() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let mut table = String::from("path;label;Patient No;folder\n");
    for i in 0..40u32 {
        write(root, &format!("scans/{i}.png"), &png(4, 3, [i as u8, 1, 2]));
        let patient = if i == 3 { String::new() } else { (i * 7 % 11).to_string() };
        table +=
            &format!("scans/{i}.png;{};{patient};x{}\n", ["ill", "well"][i as usize % 2], i / 4);
    }
    let path = root.join("list.csv");
    fs::write(&path, &table).unwrap();
    let data = open(&path, &options(false, Some("patient no"))).unwrap();
    assert_eq!(untorn(&data), 12);
    // Numbers are ordered by value.
    let all = DataOptions {
        validation_split: 0.0,
        test_split: 0.0,
        ..options(false, Some("patient no"))
    };
    let whole = open(&path, &all).unwrap().train;
    let groups = whole.groups().unwrap();
    assert_eq!(groups.len(), whole.len());
    for (i, group) in groups.iter().enumerate() {
        let number: usize = whole.name(i)[6..].trim_end_matches(".png").parse().unwrap();
        let expected = if number == 3 { 11 } else { number * 7 % 11 };
        assert_eq!(*group, expected, "{number}");
    }
    assert_eq!(untorn(&open(&path, &options(true, Some("column:folder"))).unwrap()), 10);
    let error = open(&path, &options(false, Some("patientno"))).unwrap_err();
    assert!(error.to_string().contains("a column patientno"), "{error}");
    assert!(error.hint().unwrap().contains("Patient No"), "{error:?}");
    // All images are in one folder.
    let text = open(&path, &options(false, Some("folder"))).unwrap_err().to_string();
    assert!(text.contains("at least one group on each side"), "{text}");
    let text = open("synthetic:2x10x8", &options(false, Some("patient"))).unwrap_err().to_string();
    assert!(text.contains("--group patient") && text.contains("no table"), "{text}");
    let text = open("sample", &options(false, Some("folder"))).unwrap_err().to_string();
    assert!(text.contains("images without folders"), "{text}");
}

#[test]
fn images_that_look_the_same_stay_together() {
    let place = tempfile::tempdir().unwrap();
    for i in 0..30u32 {
        let class = ["a", "b"][i as usize % 2];
        write(place.path(), &format!("{class}/{i:02}.png"), &picture(i, 0));
        if i % 3 == 0 {
            // A little lighter, and the same bytes under another name.
            write(place.path(), &format!("{class}/{i:02}-light.png"), &picture(i, 2));
            write(place.path(), &format!("b/{i:02}-copy.png"), &picture(i, 0));
        }
    }
    let limits = headstart::dataset::Limits { decoded_bytes: 0, ..Default::default() };
    let on_disk = DataOptions { limits, ..options(false, Some("duplicates")) };
    for options in [options(false, Some("duplicates")), options(true, Some("duplicates")), on_disk]
    {
        let data = open(place.path(), &options).unwrap();
        assert_eq!(untorn(&data), 30);
        let number = |name: &str| name.split(['/', '-', '.']).nth(1).unwrap().to_string();
        let numbers = |part: &Subset| names(part).into_iter().map(number).collect::<BTreeSet<_>>();
        let [train, validation, test] = parts(&data).map(numbers);
        assert!(train.is_disjoint(&validation) && train.is_disjoint(&test));
        assert!(validation.is_disjoint(&test));
        // What data check finds is not in two splits.
        let found = headstart::inspect::inspect(&data, 0, &mut |_, _| ()).unwrap();
        assert_eq!(found.leaks, 0);
        assert_eq!(found.exact_duplicates.len() + found.near_duplicates.len(), 20);
    }
    let torn = open(place.path(), &options(false, None)).unwrap();
    assert!(headstart::inspect::inspect(&torn, 0, &mut |_, _| ()).unwrap().leaks > 0);
}

#[test]
fn groups_in_the_datas_own_splits_are_a_warning() {
    let place = tempfile::tempdir().unwrap();
    for (i, part) in ["train", "train", "train", "test"].into_iter().enumerate() {
        for class in ["a", "b"] {
            let name = format!("{part}/{class}/plant{}/{i}.png", i % 3);
            write(place.path(), &name, &picture(i as u32, 0));
        }
    }
    let options = DataOptions { test_split: 0.0, ..options(false, Some("folder")) };
    let data = open(place.path(), &options).unwrap();
    assert!(data.warnings.iter().any(|w| w.contains("1 groups")), "{:?}", data.warnings);
}
