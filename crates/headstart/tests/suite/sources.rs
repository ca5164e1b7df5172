//! WebDataset shards and manifests: what they hold, and what is wrong with them.

use std::fs;
use std::path::Path;

use headstart::dataset::{DataOptions, Dataset, Limits, Subset, open};
use proptest::prelude::*;
use tempfile::tempdir;

use crate::support::{fill, plain, png, tar_gz, tar_to, words, write};

pub fn names(subset: &Subset) -> Vec<String> {
    (0..subset.len()).map(|i| subset.name(i).to_string()).collect()
}

pub fn reasons(data: &Dataset) -> Vec<String> {
    data.skipped.iter().map(|s| format!("{}: {}", s.name, s.reason)).collect()
}

pub fn shard(entries: &[(&str, &[u8])]) -> Vec<u8> {
    tar_to(Vec::new(), entries)
}

/// Two images with whole-number labels; their red value is the label.
fn numbered(first: u8, second: u8) -> Vec<u8> {
    let text = [first.to_string(), format!("{second}\n")];
    shard(&[
        ("000.png", &png(4, 3, [first, 7, 9])),
        ("000.cls", text[0].as_bytes()),
        ("000.json", b"{}"),
        ("001.cls", text[1].as_bytes()),
        ("001.seg.v2.png", &png(4, 3, [second, 7, 9])),
    ])
}

/// Opens with images decoded at once and on access, which must agree.
pub fn both(path: &Path) -> Dataset {
    let at_once = plain(path).unwrap();
    let limits = Limits { decoded_bytes: 0, ..Limits::default() };
    let options = DataOptions { validation_split: 0.0, limits, ..DataOptions::default() };
    let on_access = open(path, &options).unwrap();
    assert!(at_once.train.is_in_memory() && !on_access.train.is_in_memory());
    assert_eq!(names(&at_once.train), names(&on_access.train));
    for i in 0..at_once.train.len() {
        assert_eq!(at_once.train.image(i).unwrap(), on_access.train.image(i).unwrap());
        assert_eq!(at_once.train.label(i), on_access.train.label(i));
    }
    on_access
}

#[test]
fn shards_are_read_from_a_folder_a_pattern_and_alone() {
    let dir = tempdir().unwrap();
    write(dir.path(), "set/train-000000.tar", &numbered(10, 2));
    write(dir.path(), "set/train-000001.tar", &numbered(2, 10));
    write(dir.path(), "set/val-000000.tar", &numbered(10, 10));
    write(dir.path(), "set/notes.txt", b"text");
    let data = both(&dir.path().join("set"));
    // Whole numbers are in order of value, not of code points.
    assert_eq!(data.classes, ["2", "10"]);
    assert_eq!(data.train.labels(), [1, 0, 0, 1]);
    assert_eq!(data.train.name(1), "train-000000.tar/001.seg.v2.png");
    assert_eq!(data.train.image(1).unwrap().pixels[0], 2);
    assert_eq!(data.validation.as_ref().unwrap().labels(), [1, 1]);
    assert!(data.test.is_none() && data.skipped.is_empty());

    let pattern = dir.path().join("set/train-{000000..000001}.tar");
    assert_eq!(names(&both(&pattern).train), names(&data.train));
    let alone = both(&dir.path().join("set/train-000000.tar"));
    assert_eq!(names(&alone.train), ["000.png", "001.seg.v2.png"]);

    write(dir.path(), "set/classes.txt", b"a\nb\ncat\nd\ne\nf\ng\nh\ni\nj\nsea lion\n");
    let data = both(&dir.path().join("set"));
    assert_eq!(data.classes, ["cat", "sea lion"]);
    write(dir.path(), "set/classes.txt", b"a\nb\ncat\ndog\n");
    let text = words(plain(&dir.path().join("set")));
    assert!(text.contains("two classes") && text.contains("one, cat"), "{text}");
    write(dir.path(), "set/classes.txt", b"a\na\n");
    assert!(words(plain(&dir.path().join("set"))).contains("classes.txt"));
}

#[test]
fn shards_may_be_in_split_folders_compressed_and_named() {
    let dir = tempdir().unwrap();
    let images = [png(4, 3, [1; 3]), png(4, 3, [2; 3])];
    let entries: Vec<(&str, &[u8])> = vec![
        ("deep/a.png", &images[0]),
        ("deep/a.cls", "高 山".as_bytes()),
        ("b.png", &images[1]),
        ("b.cls", b"sea"),
        ("unlabelled.png", &images[1]),
        ("../../evil.png", &images[1]),
        ("../../evil.cls", b"sea"),
    ];
    write(dir.path(), "set/train/x.tar", &shard(&entries));
    write(dir.path(), "set/test/x.tar", &shard(&entries));
    write(dir.path(), "one.tar.gz", &tar_gz(&entries));
    let data = both(&dir.path().join("set"));
    assert_eq!(data.classes, ["sea", "高 山"]);
    assert_eq!((data.train.len(), data.test.as_ref().unwrap().len()), (2, 2));
    assert_eq!(both(&dir.path().join("one.tar.gz")).train.labels(), [0, 1]);
    let reasons = reasons(&both(&dir.path().join("one.tar.gz")));
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[..2].iter().all(|r| r.contains("leads out of the archive")), "{reasons:?}");
    assert!(reasons[2].ends_with("one.tar.gz:unlabelled.png: no label (.cls)"), "{reasons:?}");
    assert!(!dir.path().join("evil.png").exists());
}

#[test]
fn shards_that_are_wrong_are_refused() {
    let dir = tempdir().unwrap();
    let good = numbered(0, 1);
    write(dir.path(), "cut/a-0.tar", &good);
    write(dir.path(), "cut/a-1.tar", &good[..good.len() / 2 + 100]);
    let text = words(plain(&dir.path().join("cut")));
    assert!(text.contains("a-1.tar") && text.contains("complete .tar"), "{text}");
    let image = png(1, 1, [0; 3]);
    write(dir.path(), "bare/0.tar", &shard(&[("x.png", &image)]));
    let text = words(plain(&dir.path().join("bare")));
    assert!(text.contains("images with labels") && text.contains("KEY.cls"), "{text}");
    let pattern = |text: &str| words(plain(&dir.path().join(text)));
    assert!(pattern("cut/a-{0..2}.tar").contains("a-2.tar"), "{}", pattern("cut/a-{0..2}.tar"));
    assert!(pattern("cut/a-{3..2}.tar").contains("range of 1 to"));
    assert!(pattern("cut/a-{0..99999999}.tar").contains("range of 1 to"));
    assert!(pattern("cut/a-{x..y}.tar").contains("that exists"));
    write(dir.path(), "new/train-0.tar", &good);
    write(dir.path(), "new/test-0.tar", &numbered(0, 7));
    assert!(words(plain(&dir.path().join("new"))).contains("7, which they lack"));
    // A folder of class folders is one, also with an archive beside them.
    fill(dir.path(), "mixed/a", 2);
    fill(dir.path(), "mixed/b", 2);
    write(dir.path(), "mixed/backup.tar", &good);
    assert_eq!(plain(&dir.path().join("mixed")).unwrap().classes, ["a", "b"]);
}

/// A folder of images beside a manifest with this text.
fn manifest(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempdir().unwrap();
    for (i, name) in ["1.png", "sub/2.png", "new york.png", "4.png"].iter().enumerate() {
        write(dir.path(), &format!("images/{name}"), &png(4, 3, [i as u8, 7, 9]));
    }
    write(dir.path(), "list.csv", text.as_bytes());
    let path = dir.path().join("list.csv");
    (dir, path)
}

#[test]
fn manifests_say_path_label_and_split() {
    let (dir, path) = manifest(
        "\u{feff}Label,path,extra,split\nzoo,images/4.png,,train\n\"a, b\",images/sub/../1.png,,\n\
         zoo,images/sub/2.png,x,val\n\"a, b\",images/new york.png,,test\nzoo,nowhere.png,,train\n\
         zoo,images,,train\nzoo,images/4.png,,train\nzoo,text,,train\n",
    );
    write(dir.path(), "text", b"no image");
    let data = both(&path);
    assert_eq!(data.name, "list");
    assert_eq!(data.classes, ["a, b", "zoo"]);
    assert_eq!(names(&data.train), ["images/4.png", "images/sub/../1.png"]);
    assert_eq!(data.train.image(0).unwrap().pixels[0], 3);
    assert_eq!(names(data.validation.as_ref().unwrap()), ["images/sub/2.png"]);
    assert_eq!(names(data.test.as_ref().unwrap()), ["images/new york.png"]);
    let reasons = reasons(&data);
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    let path = |name: &str| dir.path().join(name).display().to_string();
    assert_eq!(reasons[0], format!("{}: a folder, not a file", path("images")));
    assert_eq!(reasons[1], format!("{}: listed more than once", path("images/4.png")));
    assert!(reasons[2].contains("nowhere.png: a file that cannot be read"), "{reasons:?}");
    assert!(reasons[3].contains("text: no image of a known kind"), "{reasons:?}");
    // Absolute paths, from a manifest elsewhere.
    let elsewhere = tempdir().unwrap();
    let line = |name: &str, label: &str| {
        format!("{},{label}\n", dir.path().join("images").join(name).display())
    };
    let text = format!("filename,class\n{}{}", line("1.png", "Ω"), line("4.png", "b"));
    write(elsewhere.path(), "m.csv", text.as_bytes());
    assert_eq!(both(&elsewhere.path().join("m.csv")).classes, ["b", "Ω"]);
}

#[test]
fn manifests_that_are_wrong_are_refused() {
    for (text, parts) in [
        ("", &["a column path"][..]),
        ("path,label\n", &["no rows"]),
        ("path;label\nx;y\n", &["relative to the folder", "1 path without a file, such as x"]),
        ("path|label\nx|y\n", &["a column path", "columns path|label"]),
        ("path,size\nx,1\n", &["a column label"]),
        ("path,label\nimages/1.png\n", &["a CSV that cannot be read"]),
        ("path,label\nimages/1.png,\n", &["no label in row 1"]),
        (
            "path,label,split\nimages/1.png,a,later\n",
            &["train, validation or test", "\"later\" in row 1"],
        ),
        ("path,label\nimages/1.png,a\nimages/1.png,b\n", &["both a and b in row 2"]),
        ("path,label,split\nimages/1.png,a,val\nimages/1.png,a,test\n", &["one split for each"]),
        ("path,label\nimages/1.png,a\nimages/4.png,a\n", &["two classes", "one, a"]),
        ("path,label\nx.png,a\ny.png,b\n", &["2 paths without a file", "x.png"]),
        (
            "path,label\nx.png,a\nimages/1.png,b\n",
            &["at least one training image of the class a", "x.png: a file that cannot be read"],
        ),
        (
            "path,label,split\nimages/1.png,cat,\nimages/4.png,dog,\nimages/sub/2.png,cart,test\n",
            &["for test images", "cart, which they lack", "are cat, dog; correct the label"],
        ),
        (
            "path,label,split\nimages/1.png,cat,\nimages/4.png,dog,\nno.png,cat,val\n",
            &["at least one validation image", "no.png: a file that cannot be read"],
        ),
        (
            "path,label,is_train\nimages/1.png,cat,1\nimages/4.png,dog,maybe\n",
            &["\"maybe\" in column is_train, row 2"],
        ),
        (
            "image,path,label\nimages/1.png,x.png,cat\nimages/4.png,y.png,dog\n",
            &["2 paths without a file", "other columns that may hold the paths: image"],
        ),
    ] {
        let (_dir, path) = manifest(text);
        let found = words(plain(&path));
        for part in parts {
            assert!(found.contains(part), "{part:?} not in: {found}");
        }
    }
    let (_dir, path) =
        manifest("path,label\nimages/1.png,cat\nimages/4.png,Cat\nimages/sub/2.png,dog\n");
    let data = plain(&path).unwrap();
    assert_eq!(data.classes, ["Cat", "cat", "dog"]);
    assert_eq!(data.warnings, ["the classes Cat and cat differ only in case"]);
}

/// The tables that `golden/manifest/generate.py` writes by pyarrow.
fn parquet(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/manifest");
    fs::read(folder.join(name)).unwrap()
}

#[test]
fn parquet_manifests_are_read() {
    for name in ["snappy.parquet", "plain.parquet"] {
        let (dir, _) = manifest("");
        write(dir.path(), "table", &parquet(name));
        let data = both(&dir.path().join("table"));
        assert_eq!(data.classes, ["a b", "ü"]);
        assert_eq!(names(&data.train), ["images/1.png", "images/4.png"]);
        assert_eq!(names(data.test.as_ref().unwrap()), ["images/sub/2.png"]);
        assert!(reasons(&data)[0].contains("/nowhere.png: "), "{:?}", reasons(&data));
    }
    let (dir, path) = manifest("");
    write(dir.path(), "list.csv", &parquet("zstd.parquet"));
    let text = words(plain(&path));
    for part in ["with Snappy", "columns compressed with zstd", "read_parquet(\"list.csv\")"] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    write(dir.path(), "list.csv", &parquet("columns.parquet"));
    assert!(words(plain(&path)).contains("a column path"), "{}", words(plain(&path)));
}

#[test]
fn a_short_parquet_file_cannot_claim_any_number_of_rows() {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    let schema = "message m { required binary path (UTF8); required binary label (UTF8); }";
    let schema = parse_message_type(schema).unwrap().into();
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    for text in ["images/1.png", "a"] {
        let mut column = group.next_column().unwrap().unwrap();
        let values = vec![ByteArray::from(text); 100_000];
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    let bytes = file.into_inner().unwrap();
    assert!(bytes.len() < 4096, "{}", bytes.len());
    let (dir, _) = manifest("");
    write(dir.path(), "list.parquet", &bytes);
    let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
    let options = DataOptions { limits, ..DataOptions::default() };
    let text = words(open(dir.path().join("list.parquet"), &options));
    assert!(text.contains("at most 1 MiB of text"), "{text}");
}

#[test]
fn a_short_parquet_file_cannot_claim_any_number_of_values() {
    // Its dictionary claims 2^30 values, for which 32 GiB would be made ready.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/parquet");
    let text = words(plain(&folder.join("dictionary.parquet")));
    assert!(text.contains("a dictionary of more values than its page can hold"), "{text}");
    let text = words(plain(&folder.join("uncompressed.parquet")));
    assert!(text.contains("12 paths without a file, such as images/1.png"), "{text}");
}

/// Writes the checksum of each header again, at `headers` as far as they are still there.
fn seal(tar: &mut [u8], headers: &[usize]) {
    for &at in headers {
        let Some(header) = tar.get_mut(at..at + 512) else { continue };
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

#[test]
fn damaged_archives_of_class_folders_and_of_cifar_never_panic() {
    let images: Vec<Vec<u8>> = (0..6).map(|i| png(4, 3, [i, 7, 9])).collect();
    let long = format!("set/train/b/{}.png", "long".repeat(40));
    let names = ["train/a/1.png", "train/a/2.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"];
    let names = names.iter().map(|name| format!("set/{name}")).chain([long]);
    let names: Vec<String> = names.collect();
    let entries = names.iter().map(String::as_str).zip(images.iter().map(Vec::as_slice));
    let folders = shard(&entries.collect::<Vec<_>>());
    let batch = |label: u8| [vec![label], vec![label * 20; 3072]].concat();
    let names = (1..=5).map(|i| format!("data_batch_{i}.bin")).chain(["test_batch.bin".into()]);
    let mut files: Vec<(String, Vec<u8>)> = names.zip((0..6).map(batch)).collect();
    files.push(("batches.meta.txt".into(), b"a\nb\nc\nd\ne\nf\ng\nh\n".to_vec()));
    let entries = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    let cifar = shard(&entries.collect::<Vec<_>>());

    let dir = tempdir().unwrap();
    let path = dir.path().join("x");
    let good = [folders, cifar];
    let headers = good.each_ref().map(|tar| -> Vec<usize> {
        let starts = (0..tar.len()).step_by(512);
        starts.filter(|at| tar[at + 257..].starts_with(b"ustar")).collect()
    });
    assert_eq!(headers.each_ref().map(Vec::len), [7, 7]);
    for tar in &good {
        for bytes in [tar.clone(), gz(tar)] {
            fs::write(&path, bytes).unwrap();
            assert!(plain(&path).unwrap().test.is_some());
        }
    }
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
    let index = any::<prop::sample::Index>;
    let value = prop_oneof![any::<u8>(), Just(b'7'), Just(0), Just(0xff), Just(0x80)];
    let changes = prop::collection::vec((index(), index(), any::<bool>(), value), 0..5);
    proptest!(config, |(kind in 0..2usize, way in 0..3u8, changes in changes, cut in index(), cuts in 0..4u8)| {
        let mut bad = good[kind].clone();
        for (block, at, in_header, byte) in changes {
            let start = headers[kind][block.index(headers[kind].len())];
            let place = if in_header { start + at.index(512) } else { at.index(bad.len()) };
            bad[place] = byte;
        }
        seal(&mut bad, &headers[kind]);
        if way == 1 {
            bad = gz(&bad);
        }
        if cuts == 0 {
            bad.truncate(cut.index(bad.len()));
        }
        fs::write(&path, &bad).unwrap();
        let limits = Limits { decoded_bytes: 1 << (10 * way), ..Limits::default() };
        let options = DataOptions { threads: 1, limits, ..DataOptions::default() };
        for part in open(&path, &options).iter().flat_map(|d| [Some(&d.train), d.test.as_ref()]).flatten() {
            for i in 0..part.len() {
                let _ = part.image(i);
                prop_assert!(!part.name(i).contains(".."));
            }
        }
    });
}

#[test]
fn a_path_of_many_folders_takes_no_memory() {
    let image = png(4, 3, [1; 3]);
    let deep = format!("{}x.png", "a/".repeat(32_000));
    let entries: Vec<(&str, &[u8])> =
        vec![("a/1.png", &image), (deep.as_str(), &image), ("b/1.png", &image)];
    let dir = tempdir().unwrap();
    for (name, bytes) in [("x.tar", shard(&entries)), ("x.tar.gz", tar_gz(&entries))] {
        write(dir.path(), name, &bytes);
        let data = plain(&dir.path().join(name)).unwrap();
        assert_eq!(data.train.len(), 2);
        assert!(data.skipped[0].reason.contains("more than 32 folders deep"));
    }
    let names: Vec<String> = (0..40).map(|i| format!("{i}/{}x.png", "a/".repeat(30))).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (&name[..], &image[..])).collect();
    write(dir.path(), "x.tar", &shard(&entries));
    let limits = Limits { encoded_bytes: 1 << 18, ..Limits::default() };
    let options = DataOptions { limits, ..DataOptions::default() };
    let text = words(open(dir.path().join("x.tar"), &options));
    assert!(text.contains("of images, names and labels"), "{text}");
}

/// What opening says with a megabyte for names, labels and encoded images.
fn within_a_megabyte(path: &Path) -> headstart::Result<Dataset> {
    let limits = Limits { encoded_bytes: 1 << 20, ..Limits::default() };
    open(path, &DataOptions { validation_split: 0.0, limits, ..DataOptions::default() })
}

#[test]
fn names_and_labels_count_as_memory_wherever_they_come_from() {
    let dir = tempdir().unwrap();
    let images = [png(4, 3, [1, 2, 3]), png(4, 3, [3, 2, 1])];
    let good: [(&str, &[u8]); 4] =
        [("0.png", &images[0]), ("0.cls", b"a"), ("1.png", &images[1]), ("1.cls", b"b")];
    let refused = |path: &Path| {
        let error = words(within_a_megabyte(path));
        assert!(error.contains("more than 1 MiB of images, names and labels"), "{error}");
        // It is the memory alone that is wrong.
        assert_eq!(plain(path).unwrap().train.len(), 2, "{}", path.display());
    };
    let many: Vec<String> = (0..9000).map(|i| i.to_string()).collect();
    let with = |name: &str, more: &mut dyn Iterator<Item = (String, &[u8])>| {
        let more: Vec<(String, &[u8])> = more.collect();
        let more = more.iter().map(|(name, bytes)| (name.as_str(), *bytes));
        write(dir.path(), name, &shard(&good.into_iter().chain(more).collect::<Vec<_>>()));
        dir.path().join(name)
    };
    // Labels without images: few of them and long, and many and short.
    let long = "x".repeat(4000);
    refused(&with("long.tar", &mut (0..300).map(|i| (format!("no{i}.cls"), long.as_bytes()))));
    refused(&with("many.tar", &mut many.iter().map(|i| (format!("no{i}.cls"), &b"0"[..]))));
    // Names of what is left out.
    refused(&with("out.tar", &mut many.iter().map(|i| (format!("../{i}.png"), &b""[..]))));
    let deep = "d/".repeat(40);
    refused(&with("deep.tar", &mut many.iter().map(|i| (format!("{deep}{i}.png"), &b""[..]))));
    // Names and labels of all shards together.
    for i in 0..2 {
        let name = format!("set/{i}.tar");
        with(&name, &mut (0..150).map(|k| (format!("no{i}-{k}.cls"), long.as_bytes())));
        assert!(within_a_megabyte(&dir.path().join(name)).is_ok());
    }
    let error = words(within_a_megabyte(&dir.path().join("set")));
    assert!(error.contains("more than 1 MiB"), "{error}");
    // Rows and files, most of which are no images.
    let rows: String = many.iter().map(|i| format!("{i},a\n")).collect();
    write(dir.path(), "m/0.png", &images[0]);
    write(dir.path(), "m/1.png", &images[1]);
    let text = format!("path,label\n0.png,a\n1.png,b\n{rows}");
    write(dir.path(), "m/manifest.csv", text.as_bytes());
    refused(&dir.path().join("m/manifest.csv"));
    fill(dir.path(), "folder/a", 1);
    fill(dir.path(), "folder/b", 1);
    many.iter().take(4000).for_each(|i| write(dir.path(), &format!("folder/a/{i}.txt"), b""));
    refused(&dir.path().join("folder"));
    write(dir.path(), "named/0.tar", &shard(&good));
    write(dir.path(), "named/classes.txt", &b"a\nb\n".repeat(20 << 20));
    let error = words(plain(&dir.path().join("named")));
    assert!(error.contains("classes.txt: expected at most 64 MiB"), "{error}");
}

#[test]
fn what_is_no_image_does_not_stay_in_memory() {
    let dir = tempdir().unwrap();
    // Each is a third of the limit, and deflates to nothing.
    let zeros = [&[0xff, 0xd8, 0xff][..], &vec![0; 350 << 10]].concat();
    let names: Vec<String> = (0..9).map(|i| format!("a/{i}.jpg")).collect();
    let images = [png(4, 3, [1, 2, 3]), png(4, 3, [3, 2, 1])];
    let mut entries: Vec<(&str, &[u8])> = vec![("a/0.png", &images[0]), ("b/1.png", &images[1])];
    entries.extend(names.iter().map(|name| (name.as_str(), &zeros[..])));
    write(dir.path(), "x.tar.gz", &tar_gz(&entries));
    let data = within_a_megabyte(&dir.path().join("x.tar.gz")).unwrap();
    assert_eq!((data.train.len(), data.skipped.len()), (2, 9));
    assert!(reasons(&data)[0].contains("x.tar.gz:a/0.jpg: a file that ends within its header"));
}

#[cfg(unix)]
#[test]
fn links_that_reach_one_folder_in_many_ways_end() {
    let dir = tempdir().unwrap();
    // Two links a level to the next level: 2^28 ways to the images at their end.
    for level in 0..28 {
        let folder = dir.path().join(format!("many/{level}"));
        fs::create_dir_all(&folder).unwrap();
        for name in ["a", "b"] {
            std::os::unix::fs::symlink(format!("../{}", level + 1), folder.join(name)).unwrap();
        }
    }
    fill(dir.path(), "many/28", 1);
    let error = words(plain(&dir.path().join("many/0")));
    assert!(error.contains("more than 16 links"), "{error}");
    // Some ways are followed.
    let data = plain(&dir.path().join("many/27")).unwrap();
    assert_eq!(names(&data.train), ["a/000.png", "b/000.png"]);
}

#[test]
fn an_archive_that_ends_between_two_files_is_told() {
    let image = png(4, 3, [1; 3]);
    let names = ["a/1.png", "a/2.png", "b/1.png", "b/2.png"];
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &image[..])).collect();
    let tar = shard(&entries);
    let one = (tar.len() - 1024) / 4;
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.tar");
    for (bytes, images) in [(tar.clone(), 4), (tar[..3 * one].to_vec(), 3)] {
        for bytes in [bytes.clone(), gz(&bytes)] {
            fs::write(&path, bytes).unwrap();
            let data = plain(&path).unwrap();
            assert_eq!(data.train.len(), images);
            assert_eq!(data.warnings.len(), usize::from(images < 4), "{:?}", data.warnings);
            assert!(data.warnings.iter().all(|w| w.contains("x.tar") && w.contains("cut short")));
        }
    }
    let shards = numbered(0, 1);
    write(dir.path(), "set/0.tar", &shards);
    write(dir.path(), "set/1.tar", &shards[..shards.len() - 1024]);
    let data = plain(&dir.path().join("set")).unwrap();
    assert!(data.warnings.len() == 1 && data.warnings[0].contains("1.tar"), "{:?}", data.warnings);
}

#[test]
fn damaged_manifests_and_shards_never_panic() {
    let (dir, _) = manifest("");
    let good = [parquet("snappy.parquet"), numbered(0, 1), tar_gz(&[("a.cls", b"x")])];
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) };
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5);
    proptest!(config, |(kind in 0..good.len(), changes in changes, cut in any::<prop::sample::Index>())| {
        let mut bad = good[kind].clone();
        for (at, byte) in changes {
            let place = at.index(bad.len());
            bad[place] = byte;
        }
        bad.truncate(bad.len() - cut.index(bad.len()) / 2);
        write(dir.path(), "damaged", &bad);
        let _ = plain(&dir.path().join("damaged"));
    });
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) };
    proptest!(config, |(text in "(path,label(,split)?\n)?([a-z./\",\n\r\u{0}-\u{ff}]{0,60}\n){0,4}")| {
        write(dir.path(), "any.csv", text.as_bytes());
        let _ = plain(&dir.path().join("any.csv"));
    });
}

#[test]
fn damaged_cifar_files_never_panic() {
    let dir = tempdir().unwrap();
    let batch = |label: u8| [vec![label], vec![label * 20; 3072]].concat().repeat(2);
    let names = (1..=5).map(|i| format!("data_batch_{i}.bin")).chain(["test_batch.bin".into()]);
    let names: Vec<String> = names.collect();
    names.iter().for_each(|name| write(dir.path(), name, &batch(3)));
    assert_eq!(plain(dir.path()).unwrap().test.unwrap().len(), 2);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) };
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let extra = prop::collection::vec(any::<u8>(), 0..4);
    proptest!(config, |(file in 0..6usize, changes in changes, keep in any::<prop::sample::Index>(), extra in extra)| {
        let mut bad = batch(7);
        for (at, byte) in changes {
            let place = at.index(bad.len());
            bad[place] = byte;
        }
        bad.truncate(bad.len() - keep.index(3) * 1000);
        bad.extend(extra);
        write(dir.path(), &names[file], &bad);
        if let Ok(data) = plain(dir.path()) {
            prop_assert!(data.train.labels().iter().all(|&l| l < data.classes.len()));
        }
        write(dir.path(), &names[file], &batch(3));
    });
}

#[cfg(unix)]
#[test]
fn data_that_cannot_be_written_to_can_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir().unwrap();
    fill(dir.path(), "set/a", 2);
    fill(dir.path(), "set/b", 2);
    let set = dir.path().join("set");
    let mode = |mode| fs::set_permissions(&set, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    let data = plain(&set);
    mode(0o755);
    assert_eq!(data.unwrap().train.len(), 4);
}
