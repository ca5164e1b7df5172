//! Image folders, archives, CIFAR-10 files and made-up images: layouts, splits, errors.

use std::fs;
use std::io::Write;

use headstart::dataset::{DataOptions, Dataset, Grouping, Limits, Subset, open};
use headstart::split::train_test_split;
use tempfile::tempdir;

use crate::support::{fill, plain, png, tar_gz, tar_to, words, write};

fn names(subset: &Subset) -> Vec<String> {
    (0..subset.len()).map(|i| subset.name(i).to_string()).collect()
}

fn reasons(data: &Dataset) -> Vec<String> {
    data.skipped.iter().map(|s| format!("{}: {}", s.name, s.reason)).collect()
}

#[test]
fn class_folders_are_ordered_labelled_and_split_as_scikit_learn_does() {
    let dir = tempdir().unwrap();
    for (class, count) in [("zebra", 11), ("ant", 9), ("Mole", 10)] {
        fill(dir.path(), class, count);
    }
    let all = plain(dir.path()).unwrap();
    assert_eq!(all.classes, ["Mole", "ant", "zebra"]);
    assert_eq!(all.train.class_counts(), [10, 9, 11]);
    assert!(all.validation.is_none() && all.test.is_none() && all.skipped.is_empty());
    let mut sorted = names(&all.train);
    sorted.sort();
    assert_eq!(names(&all.train), sorted);

    let options = DataOptions { validation_split: 0.2, test_split: 0.1, ..DataOptions::default() };
    let data = open(dir.path(), &options).unwrap();
    let first = train_test_split(30, 0.1, 42).unwrap();
    let second = train_test_split(27, 0.2, 42).unwrap();
    let pick = |rows: &[usize]| -> Vec<String> {
        rows.iter().map(|&i| all.train.name(i).to_string()).collect()
    };
    let inner = |rows: &[usize]| pick(&rows.iter().map(|&i| first.train[i]).collect::<Vec<_>>());
    assert_eq!(names(data.test.as_ref().unwrap()), pick(&first.test));
    assert_eq!(names(data.validation.as_ref().unwrap()), inner(&second.test));
    assert_eq!(names(&data.train), inner(&second.train));
    for i in 0..data.train.len() {
        let class = &data.classes[data.train.label(i)];
        let (folder, file) = data.train.name(i).split_once('/').unwrap();
        assert_eq!(folder, class);
        let image = data.train.image(i).unwrap();
        assert_eq!((image.height, image.width, data.train.size(i)), (3, 4, (3, 4)));
        assert_eq!(image.pixels[..3], [file[..3].parse().unwrap(), 7, 9]);
    }
    assert_eq!(
        data.describe().to_string(),
        "train: 21 images 3x4x3, 3 classes\nvalidation: 6 images 3x4x3, 3 classes\n\
         test: 3 images 3x4x3, 2 of 3 classes"
    );
}

#[test]
fn the_limit_cuts_training_images_only() {
    let dir = tempdir().unwrap();
    fill(dir.path(), "a", 40);
    fill(dir.path(), "b", 20);
    let options = DataOptions::default();
    let whole = open(dir.path(), &options).unwrap();
    let cut = open(dir.path(), &DataOptions { limit: Some(12), ..options.clone() }).unwrap();
    assert_eq!(cut.train.len(), 12);
    let counts = cut.train.class_counts();
    assert!((7..=9).contains(&counts[0]), "{counts:?}");
    assert_eq!(names(cut.validation.as_ref().unwrap()), names(whole.validation.as_ref().unwrap()));
    let every = open(dir.path(), &DataOptions { limit: Some(999), ..options.clone() }).unwrap();
    assert_eq!(names(&every.train), names(&whole.train));
    assert!(open(dir.path(), &DataOptions { limit: Some(0), ..options }).is_err());
}

#[test]
fn split_folders_are_found_below_a_single_top_folder() {
    let dir = tempdir().unwrap();
    for (folder, count) in [
        ("top/Train/cat", 5),
        ("top/Train/test", 4),
        ("top/valid/cat", 2),
        ("top/test/cat", 3),
        ("top/test/test", 1),
        ("top/extra/x", 2),
    ] {
        fill(dir.path(), folder, count);
    }
    write(dir.path(), "top/README.md", b"text");
    write(dir.path(), "top/stray.png", &png(1, 1, [0; 3]));
    let options = DataOptions { validation_split: 0.5, test_split: 0.5, ..DataOptions::default() };
    let data = open(dir.path(), &options).unwrap();
    assert_eq!(data.classes, ["cat", "test"]);
    assert_eq!(data.train.len(), 9);
    assert_eq!(data.validation.as_ref().unwrap().class_counts(), [2, 0]);
    assert_eq!(data.test.as_ref().unwrap().class_counts(), [3, 1]);
    assert_eq!(data.train.name(0), "Train/cat/000.png");
    let reasons = reasons(&data);
    // Every image beside the parts is counted, and its folder named.
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    for (i, reason) in reasons[..2].iter().enumerate() {
        let name = dir.path().join(format!("top/extra/x/00{i}.png"));
        let text = "one of 2 images in extra, which is beside Train, test, valid and so of no part; if it is a class, move \
                    it into Train";
        assert_eq!(*reason, format!("{}: {text}", name.display()));
    }
    assert!(reasons[2].contains("/top/stray.png: "), "{reasons:?}");
}

#[test]
fn a_class_may_be_called_train() {
    let dir = tempdir().unwrap();
    fill(dir.path(), "train", 2);
    fill(dir.path(), "car", 2);
    assert_eq!(plain(dir.path()).unwrap().classes, ["car", "train"]);
}

#[test]
fn images_in_nested_folders_belong_to_their_class() {
    let dir = tempdir().unwrap();
    fill(dir.path(), "a/deep/er", 2);
    fill(dir.path(), "a", 1);
    fill(dir.path(), "b", 1);
    let data = plain(dir.path()).unwrap();
    assert_eq!(
        names(&data.train),
        ["a/000.png", "a/deep/er/000.png", "a/deep/er/001.png", "b/000.png"]
    );
}

#[test]
fn bad_files_are_skipped_with_their_reason() {
    for decoded_bytes in [0, 1 << 30] {
        let dir = tempdir().unwrap();
        fill(dir.path(), "a", 3);
        fill(dir.path(), "b", 3);
        let good = png(40, 40, [1, 2, 3]);
        write(dir.path(), "a/empty.jpg", b"");
        write(dir.path(), "a/text.png", b"this is text");
        write(dir.path(), "a/notes.txt", b"this is text");
        write(dir.path(), "a/.hidden.png", b"x");
        write(dir.path(), ".git/x.png", b"x");
        write(dir.path(), "b/half.png", &good[..good.len() / 2]);
        write(dir.path(), "b/anim.gif", b"GIF89a......");
        write(dir.path(), "b/really_a_png.jpg", &good);
        write(dir.path(), "b/no_extension", &good);
        let limits = Limits { decoded_bytes, ..Limits::default() };
        let options = DataOptions { validation_split: 0.0, limits, ..DataOptions::default() };
        let data = open(dir.path(), &options).unwrap();
        assert_eq!(data.train.len(), 8);
        assert_eq!(data.train.is_in_memory(), decoded_bytes > 0);
        let reasons = reasons(&data);
        assert_eq!(reasons.len(), 4, "{reasons:?}");
        for (reason, (name, part)) in reasons.iter().zip([
            ("a/empty.jpg", "empty"),
            ("a/text.png", "74 68 69 73"),
            ("b/anim.gif", "GIF"),
            ("b/half.png", "PNG"),
        ]) {
            assert!(reason.contains(&format!("{name}: ")) && reason.contains(part), "{reason}");
        }
        assert!(data.describe().to_string().ends_with("skipped: 4 files"));
        assert!(data.train.uniform_size().is_none());
    }
}

#[test]
fn an_image_that_goes_bad_later_is_an_error_that_names_it() {
    let dir = tempdir().unwrap();
    fill(dir.path(), "a", 2);
    fill(dir.path(), "b", 2);
    let limits = Limits { decoded_bytes: 0, ..Limits::default() };
    let options = DataOptions { validation_split: 0.0, limits, ..DataOptions::default() };
    let data = open(dir.path(), &options).unwrap();
    let before = data.train.fingerprint();
    assert!(data.train.image(1).is_ok());
    write(dir.path(), "a/001.png", b"gone");
    let error = data.train.image(1).unwrap_err().to_string();
    assert!(error.contains("001.png"), "{error}");
    fs::remove_file(dir.path().join("a/001.png")).unwrap();
    assert!(data.train.image(1).unwrap_err().to_string().contains("001.png"));
    assert_ne!(before, open(dir.path(), &options).unwrap().train.fingerprint());
}

#[test]
fn fingerprints_follow_content_names_labels_and_order() {
    let dir = tempdir().unwrap();
    fill(dir.path(), "a", 3);
    fill(dir.path(), "b", 3);
    let print = || plain(dir.path()).unwrap().train.fingerprint();
    let first = print();
    assert_eq!(first.len(), 64);
    assert_eq!(first, print());
    let data = plain(dir.path()).unwrap();
    assert_ne!(first, data.train.select(&[1, 0, 2, 3, 4, 5]).fingerprint());
    assert_ne!(first, data.train.select(&[0, 1, 2, 3, 4]).fingerprint());
    assert_eq!(first, data.train.select(&[0, 1, 2, 3, 4, 5]).fingerprint());
    write(dir.path(), "a/000.png", &png(4, 3, [0, 7, 10]));
    let changed = print();
    assert_ne!(first, changed);
    fs::rename(dir.path().join("a/002.png"), dir.path().join("a/003.png")).unwrap();
    assert_ne!(changed, print());
}

#[test]
fn layouts_that_cannot_be_meant_are_refused() {
    let check = |make: &dyn Fn(&std::path::Path), parts: &[&str]| {
        let dir = tempdir().unwrap();
        make(dir.path());
        let text = words(plain(dir.path()));
        for part in parts {
            assert!(text.contains(part), "{part:?} not in: {text}");
        }
    };
    check(&|_| (), &["no images"]);
    check(&|d| write(d, "1.png", &png(1, 1, [0; 3])), &["1 image and no folders", "cats/"]);
    check(&|d| fill(d, "only", 3), &["two classes", "only"]);
    check(&|d| fill(d, "top/only", 3), &["two classes", "only"]);
    check(
        &|d| {
            fill(d, "a", 1);
            fs::create_dir(d.join("b")).unwrap();
        },
        &["/b:", "at least one training image", "none", "remove the class"],
    );
    check(
        &|d| {
            fill(d, "a", 1);
            write(d, "b/x.png", b"bad");
            write(d, "b/y.png", b"");
        },
        &["/b:", "2 in all", "b/x.png"],
    );
    check(
        &|d| {
            write(d, "a/x.png", b"");
            write(d, "b/x.png", b"");
        },
        &["in class folders", "2 in all", "an empty file"],
    );
    check(
        &|d| {
            fill(d, "train/cat", 1);
            fill(d, "train/dog", 1);
            fill(d, "test/Dogs", 1);
        },
        &["test/Dogs", "they lack", "nearest names are dog, cat"],
    );
    check(
        &|d| {
            fill(d, "val/cat", 1);
            fill(d, "test/cat", 1);
        },
        &["train", "test, val"],
    );
    check(
        &|d| {
            fill(d, "train/cat", 1);
            fill(d, "val/cat", 1);
            fill(d, "valid/cat", 1);
        },
        &["both val and valid"],
    );
    check(
        &|d| {
            fill(d, "train/cat", 1);
            fill(d, "train/dog", 1);
            write(d, "test/cat/x.txt", b"none");
        },
        &["test image that can be read", "none"],
    );
    // In an archive, as not every file system tells the two apart.
    let (dir, image) = (tempdir().unwrap(), png(1, 1, [0; 3]));
    let entries: Vec<(&str, &[u8])> = vec![("x/cat/1.png", &image), ("x/Cat/1.png", &image)];
    write(dir.path(), "case.tar.gz", &tar_gz(&entries));
    let data = plain(&dir.path().join("case.tar.gz")).unwrap();
    assert_eq!(data.warnings, ["the classes Cat and cat differ only in case"]);
}

/// `load_digits` and `train_test_split(images, target, test_size=0.2, random_state=42)` of scikit-learn 1.9.1.
#[test]
fn the_sample_is_scikit_learns_digits_split_by_scikit_learn() {
    let data = plain(std::path::Path::new("sample")).unwrap();
    let test = data.test.as_ref().unwrap();
    assert_eq!((data.classes.len(), data.train.len(), test.len()), (10, 1437, 360));
    let names = |s: &Subset| (0..5).map(|i| s.name(i).to_string()).collect::<Vec<_>>();
    assert_eq!(names(&data.train), ["1734", "0855", "1642", "0175", "0925"]);
    assert_eq!(names(test), ["1245", "0220", "1518", "0438", "1270"]);
    assert_eq!(data.train.labels()[..10], [6, 0, 0, 3, 0, 5, 0, 0, 4, 1]);
    assert_eq!(test.labels()[..10], [6, 9, 3, 7, 2, 1, 5, 2, 5, 2]);
    assert_eq!(data.train.class_counts(), [145, 154, 144, 149, 135, 135, 146, 145, 144, 140]);
    let first = [
        [0, 0, 3, 14, 1, 0, 0, 0],
        [0, 0, 12, 12, 0, 0, 0, 0],
        [0, 3, 16, 6, 0, 0, 0, 0],
        [0, 5, 16, 2, 0, 0, 0, 0],
        [0, 6, 16, 2, 5, 2, 0, 0],
        [0, 4, 16, 2, 12, 15, 2, 0],
        [0, 1, 14, 13, 2, 13, 11, 0],
        [0, 0, 3, 11, 16, 13, 4, 0],
    ];
    let want: Vec<u8> =
        first.concat().into_iter().flat_map(|ink| [(ink * 255 / 16) as u8; 3]).collect();
    assert_eq!(data.train.image(0).unwrap().pixels[..], want);
    // The test set is the same whatever the seed; the validation split is not.
    let options = DataOptions { seed: 1, ..DataOptions::default() };
    let other = open("sample", &options).unwrap();
    assert_eq!(other.test.unwrap().fingerprint(), test.fingerprint());
    assert_eq!((other.train.len(), other.validation.unwrap().len()), (1293, 144));
}

#[test]
fn sources_that_are_no_data_set_are_refused() {
    let dir = tempdir().unwrap();
    let text = |name: &str| words(plain(&dir.path().join(name)));
    let gzip = |text: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    };
    let colours = [9; 768];
    let gif = [b"GIF89a\x01\0\x01\0\x87\0\0".as_slice(), &colours, b",\0\0\0\0\x01\0\x01\0\0\x02"]
        .concat();
    // The header of a first entry of this name, which is all that tells.
    let zip = |name: &str| {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.extend([0; 22]);
        bytes.extend([name.len() as u8, 0, 0, 0]);
        [&bytes, name.as_bytes(), &[7; 600]].concat()
    };
    assert!(text("nowhere/x").contains("nowhere does not exist"), "{}", text("nowhere/x"));
    for (name, bytes, part) in [
        ("empty.tar", &b""[..], "an empty file"),
        ("x.zip", b"PK\x03\x04....", "a zip file"),
        ("x.png", &png(1, 1, [0; 3]), "a single image"),
        ("x.gif", &gif, "a single image"),
        ("x.dat", &b"some text that is no archive ".repeat(40), "a text file"),
        ("short.dat", b"some text", "a text file"),
        ("x.bin", &[1; 600], "complete .tar"),
        ("x.json", b"{\"images\": []}", "found JSON (save its table as CSV"),
        ("x.jsonl", b"{\"image\": 1}\n{\"image\": 2}\n", "lines of JSON (save its table as CSV"),
        ("x.csv.gz", &gzip(b"path,label\na.png,a\n"), "compressed by gzip (unpack it with gunzip"),
        ("x.json.gz", &gzip(b"[1]"), "JSON, compressed by gzip (unpack it with gunzip, save its"),
        ("x.xlsx", &zip("[Content_Types].xml"), "a spreadsheet (save its table as CSV"),
        ("x.ods", &zip("mimetype"), "a spreadsheet (save its table as CSV"),
        ("x.export", &zip("xl/workbook.xml"), "a spreadsheet or other document (save its"),
        ("x.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "old Excel or Office file (save its"),
        ("many.zip", &zip("daisy/0.png"), "a zip file (unpack it"),
        ("x.npz", &zip("arr_0.npy"), "NumPy arrays (write its images as files"),
        ("x.rar", b"Rar!\x1a\x07\x01\0", "a RAR file (unpack it"),
        ("x.sqlite", b"SQLite format 3\0", "an SQLite database (save its"),
        ("text.tar", &b"a page that was got instead ".repeat(40), "complete .tar"),
        ("x.txt", &b"some text that is no table ".repeat(40), "a column path"),
        ("cut.tar.gz", &tar_gz(&[("a/x.png", &png(4, 4, [0; 3]))])[..60], "complete .tar"),
        ("junk.tar.gz", b"\x1f\x8bjunkjunkjunk", "complete .tar"),
        ("none.tar.gz", &tar_gz(&[("a/x.txt", b"x")]), "two classes"),
    ] {
        write(dir.path(), name, bytes);
        assert!(text(name).contains(part), "{name}: {}", text(name));
    }
    let by_name = |name: &str| words(open(name, &DataOptions::default()));
    assert!(by_name("cifar10").contains("headstart data get cifar10"));
    assert!(by_name("samples").contains("did you mean sample"), "{}", by_name("samples"));
    assert!(by_name("photographs").contains("sample and synthetic need no files"));
    assert!(by_name("synthetic:1x2").contains("CLASSESxCOUNTxSIZE"));
    for bad in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
        let options = DataOptions { validation_split: bad, ..DataOptions::default() };
        assert!(words(open("synthetic", &options)).contains("validation split"));
        let options = DataOptions { test_split: bad, ..DataOptions::default() };
        assert!(words(open("synthetic", &options)).contains("test split"));
    }
}

#[test]
fn folders_of_nothing_but_archives_say_so() {
    let dir = tempdir().unwrap();
    let text = |name: &str| words(plain(&dir.path().join(name)));
    write(dir.path(), "zips/0.zip", b"PK");
    write(dir.path(), "zips/1.zip", b"PK");
    write(dir.path(), "zips/README.md", b"text");
    assert!(text("zips").contains("found nothing but archives, such as 0.zip (unpack them"));
    write(dir.path(), "shards/train-0.tar.gz", b"\x1f\x8b");
    assert!(text("shards").contains("such as train-0.tar.gz (unpack them"), "{}", text("shards"));
    assert!(text("shards").contains("gunzip them"), "{}", text("shards"));
    for class in ["a", "b"] {
        write(dir.path(), &format!("classes/{class}/images.zip"), b"PK");
    }
    assert!(text("classes").contains("nothing but archives, such as images.zip"));
    // With images it is a folder of images.
    fill(dir.path(), "mixed/a", 2);
    fill(dir.path(), "mixed/b", 2);
    write(dir.path(), "mixed/all.zip", b"PK");
    write(dir.path(), "mixed/a/all.zip", b"PK");
    assert_eq!(plain(&dir.path().join("mixed")).unwrap().train.len(), 4);
    write(dir.path(), "plain/0.png", &png(1, 1, [0; 3]));
    write(dir.path(), "plain/0.zip", b"PK");
    assert!(!text("plain").contains("nothing but archives"), "{}", text("plain"));
}

#[test]
fn archives_hold_what_folders_hold() {
    let dir = tempdir().unwrap();
    let images: Vec<Vec<u8>> = (0..4).map(|i| png(4, 3, [i, 0, 0])).collect();
    let long = format!("top/train/b/{}.png", "long".repeat(40));
    let entries: Vec<(&str, &[u8])> = vec![
        ("LICENSE", b"text"),
        ("top/", b""),
        ("./top/train/a/1.png", &images[1]),
        ("top/train/a/0.png", &images[0]),
        (&long, &images[2]),
        ("top/train/b/bad.jpg", b""),
        ("top/train/b/._x.png", b"mac"),
        ("top/test/a/0.png", &images[3]),
        ("top/train/a/../../../../etc/evil.png", &images[3]),
        ("top/train/a/0.png", &images[3]),
    ];
    write(dir.path(), "set.tar.gz", &tar_gz(&entries));
    write(dir.path(), "set.tar", &tar_to(Vec::new(), &entries));
    for file in ["set.tar.gz", "set.tar"] {
        for decoded_bytes in [0, 1 << 30] {
            let limits = Limits { decoded_bytes, ..Limits::default() };
            let options = DataOptions { validation_split: 0.0, limits, ..DataOptions::default() };
            let data = open(dir.path().join(file), &options).unwrap();
            assert_eq!(data.name, "set");
            assert_eq!(data.classes, ["a", "b"]);
            let short = long.strip_prefix("top/").unwrap();
            assert_eq!(names(&data.train), ["train/a/0.png", "train/a/1.png", short]);
            // The later of two entries of one name counts, as when unpacking.
            assert_eq!(data.train.image(0).unwrap().pixels[0], 3);
            assert_eq!(data.train.image(2).unwrap().pixels[0], 2);
            assert_eq!(data.test.as_ref().unwrap().len(), 1);
            let reasons = reasons(&data).join("\n");
            assert!(reasons.contains("evil.png: a path that leads out"), "{reasons}");
            assert!(reasons.contains("bad.jpg: an empty file"), "{reasons}");
            assert_eq!(data.skipped.len(), 2, "{reasons}");
        }
    }
}

#[test]
fn archives_past_the_limits_are_refused() {
    let dir = tempdir().unwrap();
    let bomb = vec![0u8; 3 << 20];
    let image = png(4, 4, [1; 3]);
    let entries: Vec<(&str, &[u8])> =
        vec![("a/x.png", &image), ("b/x.png", &image), ("b/bomb.png", &bomb), ("b/z.bin", &bomb)];
    write(dir.path(), "x.tar.gz", &tar_gz(&entries));
    let path = dir.path().join("x.tar.gz");
    let with = |limits| {
        let options = DataOptions { validation_split: 0.0, limits, ..DataOptions::default() };
        open(&path, &options)
    };
    let tight = with(Limits { unpacked_bytes: 1 << 20, ..Limits::default() });
    assert!(words(tight).contains("more data than the limit"));
    let tight = with(Limits { encoded_bytes: 1 << 20, ..Limits::default() });
    assert!(words(tight).contains("more than 1 MiB of images"));
    let data = with(Limits { file_bytes: 1 << 20, ..Limits::default() }).unwrap();
    assert_eq!(data.train.len(), 2);
    let reasons = reasons(&data);
    assert!(
        reasons.len() == 1 && reasons[0].ends_with(":b/bomb.png: a file of 3 MiB"),
        "{reasons:?}"
    );
}

fn cifar_batch(labels: &[u8]) -> Vec<u8> {
    let record = |&label: &u8| {
        let planes = [vec![label; 1024], vec![100 + label; 1024], vec![200; 1024]].concat();
        [vec![label], planes].concat()
    };
    labels.iter().flat_map(record).collect()
}

#[test]
fn cifar_files_are_read_from_folder_and_archive() {
    let dir = tempdir().unwrap();
    let folder = "cifar-10-batches-bin";
    let mut files: Vec<(String, Vec<u8>)> = (1..=5)
        .map(|i| (format!("{folder}/data_batch_{i}.bin"), cifar_batch(&[i, 9 - i])))
        .collect();
    files.push((format!("{folder}/test_batch.bin"), cifar_batch(&[3])));
    files.push((
        format!("{folder}/batches.meta.txt"),
        b"a0\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n".to_vec(),
    ));
    for (name, bytes) in &files {
        write(dir.path(), name, bytes);
    }
    let entries: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    write(dir.path(), "c.tar.gz", &tar_gz(&entries));
    let mut prints = Vec::new();
    for source in ["", folder, "c.tar.gz"] {
        let data = plain(&dir.path().join(source)).unwrap();
        assert_eq!(data.classes[0], "a0");
        assert_eq!(data.train.labels(), [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]);
        assert_eq!(data.train.uniform_size(), Some((32, 32)));
        let image = data.train.image(1).unwrap();
        assert!(image.pixels.chunks(3).all(|p| p == [8, 108, 200]));
        assert_eq!(
            (data.train.name(9), data.test.as_ref().unwrap().name(0)),
            ("train/00009", "test/00000")
        );
        prints.push(data.train.fingerprint());
    }
    assert!(prints.iter().all(|p| *p == prints[0]));

    let path = dir.path().join(folder);
    let text = || words(plain(&path));
    write(&path, "batches.meta.txt", b"one\n");
    assert!(text().contains("batches.meta.txt"));
    fs::remove_file(path.join("batches.meta.txt")).unwrap();
    assert_eq!(plain(&path).unwrap().classes[9], "truck");
    write(&path, "data_batch_2.bin", &cifar_batch(&[1])[1..]);
    assert!(text().contains("data_batch_2.bin") && text().contains("3072 bytes"));
    write(&path, "data_batch_2.bin", &cifar_batch(&[10]));
    assert!(text().contains("10 in record 0"));
    fs::remove_file(path.join("data_batch_2.bin")).unwrap();
    assert!(text().contains("data_batch_2.bin") && text().contains("none"));

    let python: Vec<(&str, &[u8])> = vec![
        ("cifar-10-batches-py/data_batch_1", b"x"),
        ("cifar-10-batches-py/batches.meta", b"x"),
    ];
    write(dir.path(), "py.tar.gz", &tar_gz(&python));
    assert!(words(plain(&dir.path().join("py.tar.gz"))).contains("pickle"));
}

#[test]
fn made_up_images_are_reproducible_and_do_not_depend_on_threads() {
    let with = |seed, threads| {
        let options = DataOptions { seed, threads, ..DataOptions::default() };
        open("synthetic:4x40x8", &options).unwrap()
    };
    let (a, b, c) = (with(1, 1), with(1, 3), with(2, 1));
    assert_eq!(a.train.fingerprint(), b.train.fingerprint());
    assert_ne!(a.train.fingerprint(), c.train.fingerprint());
    assert_eq!((a.train.len(), a.validation.unwrap().len(), a.test.unwrap().len()), (36, 4, 8));
    assert_eq!(a.classes, ["0-disc", "1-square", "2-ring", "3-cross"]);
}

#[cfg(unix)]
#[test]
fn links_and_odd_names_do_no_harm() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let dir = tempdir().unwrap();
    fill(dir.path(), "a", 2);
    fill(dir.path(), "b", 1);
    let outside = tempdir().unwrap();
    fill(outside.path(), "more", 2);
    symlink(dir.path(), dir.path().join("a/loop")).unwrap();
    symlink(outside.path().join("more"), dir.path().join("c")).unwrap();
    symlink("nowhere.png", dir.path().join("b/broken.png")).unwrap();
    symlink("circle.png", dir.path().join("b/circle.png")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"b/\xff\xfe.png");
    fs::write(dir.path().join(odd), png(2, 2, [0; 3])).unwrap();
    let data = plain(dir.path()).unwrap();
    assert_eq!(data.train.class_counts(), [2, 2, 2]);
    assert!(data.train.image(3).is_ok());
    let reasons = reasons(&data);
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].contains("/a/loop: a link to a folder that contains it"));
}

#[test]
fn parts_may_be_folders_in_folders_of_their_own_names() {
    let dir = tempdir().unwrap();
    for part in ["seg_train", "seg_test"] {
        fill(dir.path(), &format!("in/{part}/{part}/daisy/plant1"), 3);
        fill(dir.path(), &format!("in/{part}/{part}/rose"), 3);
    }
    fill(dir.path(), "in/seg_pred/seg_pred", 2);
    let data = plain(dir.path()).unwrap();
    assert_eq!(data.classes, ["daisy", "rose"]);
    assert_eq!(data.train.len(), 6);
    assert_eq!(data.test.as_ref().unwrap().len(), 6);
    assert_eq!(data.train.name(0), "seg_train/seg_train/daisy/plant1/000.png");
    let reasons = reasons(&data);
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("as seg_pred has no class folders"), "{reasons:?}");
    let group = Some(Grouping::Folder);
    let options = DataOptions { validation_split: 0.0, group, ..DataOptions::default() };
    let groups = open(dir.path(), &options).unwrap().train.groups().unwrap();
    // The photos of one plant are together, and those directly in a class folder apart.
    assert!(groups[..3].iter().all(|g| *g == groups[0]), "{groups:?}");
    assert!(groups[3..].iter().all(|g| *g != groups[0]), "{groups:?}");
    // Not where one of them holds classes itself.
    fill(dir.path(), "in/seg_test/rose", 1);
    assert!(words(plain(dir.path())).contains("seg_test"));
}
