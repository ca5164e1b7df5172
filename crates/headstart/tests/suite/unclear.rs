//! Folders that could be classes or parts, and tables whose columns or paths are not plain.

use std::fs;
use std::path::Path;

use headstart::dataset::{DataOptions, Dataset, Grouping, open};

use crate::support::{plain, png, words, write};

/// `count` different images in each folder.
fn images(root: &Path, folders: &[&str], count: u8) {
    for folder in folders {
        for i in 0..count {
            let own = folder.bytes().fold(7u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
            write(root, &format!("{folder}/{i}.png"), &png(4, 3, [own, i, 9]));
        }
    }
}

/// The classes, and images for training, validation and testing.
fn read(root: &Path) -> (Vec<String>, [usize; 3]) {
    let data = plain(root).unwrap();
    let count = |part: &Option<headstart::dataset::Subset>| part.as_ref().map_or(0, |p| p.len());
    (data.classes.clone(), [data.train.len(), count(&data.validation), count(&data.test)])
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

#[test]
fn parts_are_known_by_each_other_although_one_lacks_a_class_or_has_a_number() {
    let place = tempfile::tempdir().unwrap();
    images(
        place.path(),
        &["train_224/a", "train_224/b", "train_224/c", "val_224/a", "val_224/b"],
        3,
    );
    assert_eq!(read(place.path()), (strings(&["a", "b", "c"]), [9, 6, 0]));
    // Images that lie beside class folders are in no class.
    write(place.path(), "train_224/x.png", &png(4, 3, [1, 1, 1]));
    write(place.path(), "val_224/x.png", &png(4, 3, [2, 1, 1]));
    let data = plain(place.path()).unwrap();
    let skipped = data.skipped.iter();
    let loose = skipped
        .filter(|s| s.name.ends_with("_224/x.png") && s.reason == "not inside a class folder");
    assert_eq!((loose.count(), data.skipped.len()), (2, 2));
    assert_eq!((data.train.len(), data.validation.unwrap().len()), (9, 6));
    // A folder inside those of the parts.
    let place = tempfile::tempdir().unwrap();
    images(place.path(), &["train/images/a", "train/images/b", "val/images/a"], 3);
    assert_eq!(read(place.path()), (strings(&["a", "b"]), [6, 3, 0]));
}

#[test]
fn folders_that_hold_mostly_the_same_folders_are_no_classes() {
    for (folders, said) in [
        (
            &["real/a", "real/b", "sketch/a", "sketch/b", "sketch/c"][..],
            "hold mostly the same folders: a, b",
        ),
        (
            &[
                "fold1/a", "fold1/b", "fold1/c", "fold2/a", "fold2/b", "fold2/c", "fold3/a",
                "fold3/b",
            ],
            "fold1, fold2, fold3",
        ),
        (
            &["siteA/train/a", "siteA/train/b", "siteA/test/a", "siteB/train/a", "siteB/test/a"],
            "siteA, siteB, which all hold the same folders: test, train",
        ),
        (
            &[
                "train/images/a",
                "train/images/b",
                "train/masks/a",
                "train/masks/b",
                "test/images/a",
            ],
            "images, masks, which all hold the same folders: a, b",
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        images(place.path(), folders, 3);
        // What lies beside them changes nothing.
        images(place.path(), &["docs"], 1);
        fs::create_dir(place.path().join("notes")).unwrap();
        if said.contains("images, masks") {
            fs::remove_dir_all(place.path().join("docs")).unwrap();
        }
        let text = words(plain(place.path()));
        assert!(text.contains(said) && text.contains("a folder for each class"), "{text}");
        let grouped = DataOptions {
            group: Some(Grouping::Folder),
            empty_classes: true,
            ..DataOptions::default()
        };
        // Test images have no masks.
        if !said.contains("masks") {
            open(place.path(), &grouped).unwrap();
        }
    }
}

#[test]
fn classes_may_hold_folders() {
    for (folders, classes) in [
        (&["cat/images", "dog/images"][..], &["cat", "dog"][..]),
        (&["train/n1/images", "train/n2/images"], &["n1", "n2"]),
        (
            &[
                "roses/bed1",
                "roses/bed2",
                "roses/bed3",
                "tulips/bed3",
                "tulips/bed4",
                "tulips/bed5",
            ],
            &["roses", "tulips"],
        ),
    ] {
        let place = tempfile::tempdir().unwrap();
        images(place.path(), folders, 4);
        assert_eq!(read(place.path()).0, strings(classes), "{folders:?}");
    }
    // Files about images are no class.
    let place = tempfile::tempdir().unwrap();
    images(place.path(), &["images/train/a", "images/train/b", "images/val/a"], 3);
    write(place.path(), "labels/train/0.txt", b"0 0.5 0.5 1 1");
    assert_eq!(read(place.path()), (strings(&["a", "b"]), [6, 3, 0]));
}

#[test]
fn test_images_without_labels_are_named_as_that() {
    // Dogs vs. Cats, as it is unpacked.
    for folders in [["train", "test1"], ["train", "test_224"], ["images", "masks"]] {
        let place = tempfile::tempdir().unwrap();
        images(place.path(), &folders, 4);
        let text = words(plain(place.path()));
        assert!(
            text.contains("with images directly inside") && text.contains("train/cats"),
            "{text}"
        );
    }
    let place = tempfile::tempdir().unwrap();
    images(place.path(), &["train/a", "train/b", "test/images"], 3);
    let data = plain(place.path()).unwrap();
    assert!(data.test.is_none() && data.skipped.len() == 3);
    let reason =
        "one of 3 images without labels, as test has no class folders; `headstart predict`";
    assert!(data.skipped[0].reason.starts_with(reason), "{:?}", data.skipped);
    // For a model as well.
    for folder in ["test", "test/images", "test_224"] {
        let place = tempfile::tempdir().unwrap();
        images(place.path(), &[folder], 2);
        let options = DataOptions { classes: Some(strings(&["a", "b"])), ..DataOptions::default() };
        let text = words(open(place.path(), &options));
        assert!(text.contains("without labels, as test"), "{text}");
    }
    let place = tempfile::tempdir().unwrap();
    images(place.path(), &["val_224/a", "test_224/a", "test_224/b"], 2);
    let options = DataOptions { classes: Some(strings(&["a", "b"])), ..DataOptions::default() };
    let data = open(place.path(), &options).unwrap();
    assert_eq!((data.validation.unwrap().len(), data.test.unwrap().len()), (2, 4));
}

/// A table beside images `IMAGES/CLASS/0.png` to `3.png` of the classes a and b.
fn table(root: &Path, name: &str, text: &str) -> headstart::Result<Dataset> {
    if !root.join("i").exists() {
        images(root, &["i/a", "i/b"], 4);
    }
    write(root, name, text.as_bytes());
    let options = DataOptions { validation_split: 0.0, ..DataOptions::default() };
    open(root.join(name), &options)
}

fn rows(path: impl Fn(&str, usize) -> String) -> String {
    let rows = ["a", "b"].into_iter().flat_map(|class| (0..4).map(move |i| (class, i)));
    rows.map(|(class, i)| path(class, i)).collect::<Vec<_>>().join("\n")
}

#[test]
fn columns_of_splits_with_other_names_are_warned_of() {
    let place = tempfile::tempdir().unwrap();
    for name in ["data_split", "mode", "tvt", "data set"] {
        let part = |i: usize| if i < 3 { "train" } else { "Test" };
        let rows = rows(|class, i| format!("i/{class}/{i}.png,{class},{}", part(i)));
        let data = table(place.path(), "t.csv", &format!("path,label,{name}\n{rows}\n")).unwrap();
        let said =
            format!("all cells of {name} are words such as train and test, and are not used");
        assert!(data.warnings.iter().any(|w| w.starts_with(&said)), "{:?}", data.warnings);
    }
    let rows = rows(|class, i| format!("i/{class}/{i}.png,{class},{i}"));
    let data = table(place.path(), "t.csv", &format!("path,label,number\n{rows}\n")).unwrap();
    assert!(data.warnings.is_empty(), "{:?}", data.warnings);
}

#[test]
fn a_class_whose_files_are_missing_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let text = format!(
        "path,label\n{}\ni/c/0.png,c\ni/c/1.png,c\n",
        rows(|class, i| format!("i/{class}/{i}.png,{class}"))
    );
    let text = words(table(place.path(), "t.csv", &text));
    let parts =
        ["at least one training image of the class c", "files that cannot be used, 2 in all"];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    let text = format!(
        "path,label\n{}\n",
        rows(|class, i| format!("i/{}/{i}.png,{class}", class.replace('b', "z")))
    );
    let text = words(table(place.path(), "t.csv", &text));
    assert!(text.contains("at least one training image of the class b"), "{text}");
}

#[test]
fn spellings_of_one_path_are_one_image() {
    let place = tempfile::tempdir().unwrap();
    images(place.path(), &["i/a", "i/b"], 4);
    let absolute = place.path().join("i/a/0.png").display().to_string();
    for other in ["i\\a\\0.png", "i//a/0.png", "./i/a/0.png", "i/b/../a/0.png", &absolute] {
        let all = rows(|class, i| format!("i/{class}/{i}.png,{class}"));
        let text = words(table(place.path(), "t.csv", &format!("path,label\n{all}\n{other},b\n")));
        assert!(
            text.contains("one label for each image") && text.contains("both a and b"),
            "{text}"
        );
        let data =
            table(place.path(), "t.csv", &format!("path,label\n{all}\n{other},a\n")).unwrap();
        assert_eq!((data.train.len(), data.skipped.len()), (8, 1), "{other}");
    }
}

#[test]
fn headers_may_have_spaces_and_the_nearest_file_is_named() {
    let place = tempfile::tempdir().unwrap();
    let text =
        words(table(place.path(), "t.csv", "Photo Place,Class Label\ni/a/0.png,x\ni/b/0.png,y\n"));
    assert!(
        text.contains("a column path") && text.contains("columns Photo Place, Class Label"),
        "{text}"
    );
    for path in ["i/a/0", "i/a/0.PNG", "i/a/0.jpg", "'i/a/0.png'", "a/0"] {
        let text =
            words(table(place.path(), "t.csv", &format!("path,label\n{path},x\ni/zz/9,y\n")));
        let near = Path::new("i/a/0.png").display().to_string();
        assert!(
            text.contains("the nearest file that is there is") && text.contains(&near),
            "{path}: {text}"
        );
    }
}

#[test]
fn other_names_of_columns_are_known_and_empty_rows_are_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let rows = rows(|class, i| format!("i/{class}/{i}.png,{class}"));
    for header in
        ["image_path,labels", "Image Name,target", "img,class_name", "filepaths,Class Name"]
    {
        let data = table(place.path(), "t.csv", &format!("{header}\n{rows}\n,\n,\n")).unwrap();
        assert_eq!((data.classes.len(), data.train.len()), (2, 8), "{header}");
        assert!(data.warnings.is_empty(), "{:?}", data.warnings);
    }
}

#[test]
fn negative_whole_numbers_are_in_order() {
    let place = tempfile::tempdir().unwrap();
    let labels = ["10", "-1", "2", "9"];
    let rows = rows(|class, i| format!("i/{class}/{i}.png,{}", labels[i]));
    let data = table(place.path(), "t.csv", &format!("path,label\n{rows}\n")).unwrap();
    assert_eq!(data.classes, ["-1", "2", "9", "10"]);
}

#[test]
fn corrections_are_read_as_tables_are() {
    let utf16 = |text: &str| {
        let units = std::iter::once(0xfeff).chain(text.encode_utf16());
        units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
    };
    for bytes in [
        b"path;class\na/0.png;b\n".to_vec(),
        b"path\tclass\na/0.png\tb\n".to_vec(),
        b"\xef\xbb\xbfPath,Class,note\na/0.png, b,x\n".to_vec(),
        b"path,class\na\\0.png,b\n".to_vec(),
        b"path,class\n./a//0.png,b\n".to_vec(),
        utf16("path,class\r\na/0.png,b\r\n"),
    ] {
        let place = tempfile::tempdir().unwrap();
        images(place.path(), &["a", "b"], 4);
        write(place.path(), "corrections.csv", &bytes);
        let data = plain(place.path()).unwrap();
        assert_eq!(data.train.class_counts(), [3, 5], "{}", String::from_utf8_lossy(&bytes));
        assert!(data.warnings.is_empty(), "{:?}", data.warnings);
    }
    let place = tempfile::tempdir().unwrap();
    images(place.path(), &["a", "b"], 4);
    write(place.path(), "corrections.csv", b"path,class\na/0.png,b\na\\0.png,a\n");
    let text = words(plain(place.path()));
    assert!(text.contains("one class for each image") && text.contains("both b and a"), "{text}");
    write(place.path(), "corrections.csv", b"path,kind\na/0.png,b\n");
    let text = words(plain(place.path()));
    assert!(text.contains("the columns path and class"), "{text}");
}
