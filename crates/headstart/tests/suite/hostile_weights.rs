//! Weight files made to harm: refused with a message, without a panic, a loop or memory for what they claim.

use std::fs;
use std::io::Write;
use std::path::Path;

use headstart::Model;
use headstart::weights::{inspect, read};
use proptest::prelude::*;

use crate::support::mutate::{Random, mutated};

fn tar_gz(bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(bytes)).unpack(folder.path()).unwrap();
    folder
}

/// Fails unless the file is refused, with `part` in message or hint.
#[track_caller]
fn refused(path: &Path, part: &str) {
    let error = read(path).map(|f| f.tensors.len()).unwrap_err();
    let all = format!("{error} ({})", error.hint().unwrap_or("no hint"));
    assert!(all.contains(part), "{}: no {part:?} in {all}", path.display());
}

/// Whether the file is refused. Fails if a panic was what refused it, which a guard makes an error of.
#[track_caller]
fn refused_in_words(path: &Path) -> bool {
    let Err(error) = read(path) else { return false };
    assert!(!error.to_string().contains("reader fails on"), "{error}");
    true
}

#[test]
fn hdf5_that_lies() {
    let folder = tar_gz(include_bytes!("../golden/hostile/h5.tar.gz"));
    for (file, part) in [
        ("cycle.h5", "contains itself"),
        ("wide_cycle.h5", "contains itself"),
        ("soft_cycle.h5", "neither"),
        ("chunked.h5", "room for"),
        ("contiguous.h5", "room for"),
        ("same.h5", "room for"),
        ("unwritten.h5", "room for"),
        ("swollen.h5", "room for"),
        ("large_chunk.h5", "room for"),
        ("small_chunks.h5", "room for"),
        ("text.h5", "floats in layers/conv2d_1/vars/0"),
        ("old_names.h5", "HDF5"),
        ("old_huge.h5", "room for"),
        ("old_cycle.h5", "room for"),
    ] {
        refused(&folder.path().join(file), part);
    }
    // Links to other files are not followed.
    let file = read(folder.path().join("external.h5")).unwrap();
    let names: Vec<&str> = file.listing.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["layers/conv2d/vars/0"]);
    // What is compressed and whole is read.
    let file = read(folder.path().join("compressed.h5")).unwrap();
    assert_eq!(file.tensors[1].values, (0..1000).map(|v| v as f32).collect::<Vec<_>>());
}

/// A pickle of protocol 2 whose dictionary's only value is `value`.
fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02}X\x06\x00\x00\x00weight".as_slice(), value, b"s."].concat()
}

fn zipped(path: &Path, entries: &[(&str, &[u8])], method: zip::CompressionMethod) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn pickles_that_would_run_something_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    let mark = folder.path().join("ran");
    let run = format!("touch {}", mark.display());
    let length = (run.len() as u32).to_le_bytes();
    let line = [&b"(X"[..], &length, run.as_bytes(), b"tR"].concat();
    for (call, name) in [
        ("cposix\nsystem\n", "posix.system"),
        ("cos\nsystem\n", "os.system"),
        ("cbuiltins\neval\n", "builtins.eval"),
        ("csubprocess\nPopen\n", "subprocess.Popen"),
    ] {
        let value = [call.as_bytes(), &line].concat();
        fs::write(&path, pickle(&value)).unwrap();
        refused(&path, name);
        // The same in the container of today.
        let bytes = pickle(&value);
        zipped(&path, &[("x/data.pkl", &bytes)], zip::CompressionMethod::Stored);
        refused(&path, name);
    }
    assert!(!mark.exists());
}

#[test]
fn pickles_that_swell_or_nest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    // A list of ten of the list before, thirty times: 10^30 elements.
    let mut bomb = b"(lq\x00".to_vec();
    for i in 0..30u8 {
        bomb.extend(b"(");
        bomb.extend([b'h', i].repeat(10));
        bomb.extend([b'l', b'q', i + 1]);
    }
    fs::write(&path, pickle(&bomb)).unwrap();
    refused(&path, "PyTorch");
    fs::write(&path, pickle(&[b"(".repeat(100_000), b"l".repeat(100_000)].concat())).unwrap();
    refused(&path, "PyTorch");
    // Memo entries and strings of lengths that are not there.
    for value in [
        &b"X\xff\xff\xff\x7f"[..],
        b"\x8a\xff",
        b"j\xff\xff\xff\xff",
        b"r\xff\xff\xff\xff",
        b"T\xff\xff\xff\x7f",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    ] {
        fs::write(&path, pickle(value)).unwrap();
        refused(&path, "PyTorch");
    }
}

#[test]
fn pickles_of_more_instructions_than_any_nets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    // A value of 170 bytes for each of two million bytes, which deflate to 2 KB.
    let many = [&b"\x80\x02("[..], &vec![b'N'; 2 << 20], b"l."].concat();
    fs::write(&path, &many).unwrap();
    refused(&path, "instructions");
    zipped(&path, &[("x/data.pkl", &many)], zip::CompressionMethod::Deflated);
    refused(&path, "instructions");
    // In the second pickle of the container before PyTorch 1.6.
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    fs::write(&path, [&magic[..], &many].concat()).unwrap();
    refused(&path, "instructions");
    // One string, inflated.
    let length = (65u32 << 20).to_le_bytes();
    let long = [&b"\x80\x02X"[..], &length, &vec![b'a'; 65 << 20], b"."].concat();
    zipped(&path, &[("x/data.pkl", &long)], zip::CompressionMethod::Deflated);
    refused(&path, "at most 64 MiB in x/data.pkl");
    // A storage of which a part can only be read by inflating all before it.
    let bytes = tensor(4, 1);
    let zeros = vec![0; 65 << 20];
    let entries: [(&str, &[u8]); 2] = [("x/data.pkl", &bytes), ("x/data/0", &zeros)];
    zipped(&path, &entries, zip::CompressionMethod::Deflated);
    refused(&path, "at most 64 MiB in x/data/0");
    // The container before 0.1.10.
    let mut old = pickle(b"N");
    old.resize(512, 0);
    old[257..262].copy_from_slice(b"ustar");
    fs::write(&path, old).unwrap();
    refused(&path, "later PyTorch");
}

#[test]
fn names_that_repeat_a_long_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pth");
    // Two thousand tensors, each of whose names begins with 100,000 letters: 200 MB of names in a file of 0.1 MB.
    let mut inner = tensor(1, 1);
    inner.truncate(inner.len() - 2);
    let inner = [&inner[b"\x80\x02}X\x06\0\0\0weight".len()..], b"q\x01"].concat();
    let key =
        |name: &str| [&b"X"[..], &(name.len() as u32).to_le_bytes(), name.as_bytes()].concat();
    let mut value = [&b"}("[..], &key("first"), &inner].concat();
    for i in 0..2000 {
        value.extend(key(&i.to_string()));
        value.extend(b"h\x01");
    }
    value.push(b'u');
    let way = "a".repeat(100_000);
    let all = [&b"\x80\x02}"[..], &key(&way), &value, b"s."].concat();
    zipped(&path, &[("x/data.pkl", &all), ("x/data/0", &[0; 4])], zip::CompressionMethod::Stored);
    refused(&path, "16 MiB of names");
    let all = [&b"\x80\x02}"[..], &key("net"), &value, b"s."].concat();
    zipped(&path, &[("x/data.pkl", &all), ("x/data/0", &[0; 4])], zip::CompressionMethod::Stored);
    assert!(read(&path).is_ok());
}

/// A pickled tensor of one axis over a storage that claims `count` floats.
fn tensor(count: u32, stride: u32) -> Vec<u8> {
    let count = count.to_le_bytes();
    let mut value =
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
            .to_vec();
    value.extend(b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ");
    value.extend(count);
    value.extend(b"tQJ\x00\x00\x00\x00(J");
    value.extend(count);
    value.extend(b"t(J");
    value.extend(stride.to_le_bytes());
    value.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    pickle(&value)
}

#[test]
fn zip_archives_that_swell() {
    let folder = tempfile::tempdir().unwrap();
    let deflated = zip::CompressionMethod::Deflated;
    let zeros = vec![0u8; 64 << 20];
    let path = folder.path().join("x.pth");
    let bytes = tensor(16 << 20, 1);
    zipped(&path, &[("x/data.pkl", &bytes), ("x/data/0", &zeros)], deflated);
    refused(&path, "room for");
    // A stride of zero claims many values of one.
    let bytes = tensor(400 << 20, 0);
    zipped(&path, &[("x/data.pkl", &bytes), ("x/data/0", &[0; 4])], deflated);
    refused(&path, "x.pth");
    // Fewer bytes than claimed, and a pickle that is nothing but zeros.
    let bytes = tensor(1 << 10, 1);
    zipped(&path, &[("x/data.pkl", &bytes), ("x/data/0", &zeros[..100])], deflated);
    refused(&path, "PyTorch");
    zipped(&path, &[("x/data.pkl", &zeros)], deflated);
    refused(&path, "PyTorch");
    let path = folder.path().join("x.keras");
    zipped(&path, &[("config.json", b"{}"), ("model.weights.h5", &zeros)], deflated);
    refused(&path, "swell");
}

#[test]
fn safetensors_headers_that_lie() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let write = |length: Option<u64>, header: &str, data: &[u8]| {
        let length = length.unwrap_or(header.len() as u64).to_le_bytes();
        fs::write(&path, [&length[..], header.as_bytes(), data].concat()).unwrap();
    };
    let entry = |shape: &str, from: &str, to: &str| {
        format!(r#"{{"dtype":"F32","shape":[{shape}],"data_offsets":[{from},{to}]}}"#)
    };
    let one = |shape: &str, from: &str, to: &str| format!(r#"{{"a":{}}}"#, entry(shape, from, to));
    for (length, header) in [
        (None, one("4", "0", "999")),
        (None, one("9", "0", "16")),
        (None, one("4", "16", "0")),
        (None, one("4", "8", "24")),
        (None, one("4294967296,4294967296,4", "0", "16")),
        (None, one("18446744073709551615", "0", "16")),
        (None, one("4", "0", "18446744073709551615")),
        (None, one("-4", "0", "16")),
        (None, format!(r#"{{"a":{},"b":{}}}"#, entry("4", "0", "16"), entry("4", "0", "16"))),
        (None, format!(r#"{{"a":{},"b":{}}}"#, entry("3", "0", "12"), entry("2", "8", "16"))),
        (None, r#"{"a":{"dtype":"F99","shape":[4],"data_offsets":[0,16]}}"#.into()),
        (None, format!("{{\"a\":{}", "[".repeat(100_000))),
        (Some(u64::MAX), one("4", "0", "16")),
        (Some(99_999_999), one("4", "0", "16")),
        (Some(0), one("4", "0", "16")),
    ] {
        write(length, &header, &[0; 16]);
        refused(&path, "x.safetensors");
    }
    let ints = r#"{"a.weight":{"dtype":"I32","shape":[4],"data_offsets":[0,16]}}"#;
    write(None, ints, &[0; 16]);
    refused(&path, "floats of 64, 32 or 16 bits in a.weight");
}

#[test]
fn tensorflow_js_manifests_that_lie() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    let outside = folder.path().join("secret");
    fs::write(&outside, [0; 16]).unwrap();
    fs::write(folder.path().join("good.bin"), [0; 16]).unwrap();
    fs::write(folder.path().join("long.bin"), [0; 20]).unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let write = |path: &Path, shards: &str, weight: &str| {
        let text = format!(
            r#"{{"format":"layers-model","modelTopology":null,"weightsManifest":[{{"paths":[{shards}],"weights":[{weight}]}}]}}"#
        );
        fs::write(path, text).unwrap();
    };
    let weight = |shape: &str, dtype: &str, rest: &str| {
        format!(r#"{{"name":"a/kernel","shape":[{shape}],"dtype":"{dtype}"{rest}}}"#)
    };
    let good = weight("2,2", "float32", "");
    let steps = |inner: &str| weight("4", "float32", &format!(r#","quantization":{{{inner}}}"#));
    write(&path, r#""good.bin""#, &good);
    assert_eq!(read(&path).unwrap().tensors.len(), 1);
    for (shards, weight, part) in [
        (r#""gone.bin""#, good.clone(), "gone.bin"),
        (r#""long.bin""#, good.clone(), "16 bytes of weights"),
        (r#""good.bin","good.bin""#, good.clone(), "found 32 bytes"),
        ("", good.clone(), "found 0 bytes"),
        (r#""inner""#, good.clone(), "no file"),
        (r#""../secret""#, good.clone(), "outside"),
        (r#""inner/../../secret""#, good.clone(), "outside"),
        (r#""/etc/hostname""#, good.clone(), "outside"),
        (r#""..\\secret""#, good.clone(), "outside"),
        (r#""""#, good.clone(), "outside"),
        (r#""good.bin""#, weight("9", "float32", ""), "36 bytes"),
        (r#""good.bin""#, weight("4294967296,4294967296,4", "float32", ""), "at most"),
        (r#""good.bin""#, weight("1099511627776", "float32", ""), "at most"),
        (r#""good.bin""#, weight("-1", "float32", ""), "layers model"),
        (r#""good.bin""#, weight("4", "string", ""), "float32 in a/kernel"),
        (r#""good.bin""#, steps(r#""dtype":"uint8""#), "scale and min"),
        (r#""good.bin""#, steps(r#""dtype":"uint8","scale":0,"min":0"#), "scale and min"),
        (r#""good.bin""#, steps(r#""dtype":"uint8","scale":1e999,"min":0"#), "layers model"),
        (r#""good.bin""#, steps(r#""dtype":"int4","scale":1,"min":0"#), "uint8, uint16"),
        (r#""good.bin""#, steps(r#""dtype":"uint16","scale":1,"min":0"#), "8 bytes"),
    ] {
        write(&path, shards, &weight);
        refused(&path, part);
    }
    for text in ["{", "{}", r#"{"weightsManifest":7}"#, "{\"a\":", &"{\"a\":".repeat(10_000)] {
        fs::write(&path, text).unwrap();
        assert!(read(&path).is_err(), "{}", &text[..5.min(text.len())]);
    }
}

#[test]
fn mutated_files_are_errors_or_other_numbers_and_never_panics() {
    let keras = tar_gz(include_bytes!("../golden/keras_files/files.tar.gz"));
    let torch = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/torch");
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("a.bin"), [1; 64]).unwrap();
    let json = br#"{"format":"layers-model","modelTopology":{"model_config":{"class_name":"Model","config":{"layers":[{"class_name":"BatchNormalization","config":{"name":"bn","epsilon":0.001}}]}}},"weightsManifest":[{"paths":["a.bin"],"weights":[{"name":"c/kernel","shape":[1,1,2,4],"dtype":"float32"},{"name":"d/kernel","shape":[4,8],"dtype":"float32","quantization":{"dtype":"uint8","scale":0.5,"min":-1}}]}]}"#;
    let file = |path: std::path::PathBuf| fs::read(path).unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (name, good) in [
        ("v1.weights.h5", file(keras.path().join("v1.weights.h5"))),
        ("old.h5", file(keras.path().join("old.h5"))),
        ("v1.keras", file(keras.path().join("v1.keras"))),
        ("x.pth", file(torch.join("bottleneck.pth"))),
        ("x.safetensors", file(torch.join("bottleneck.safetensors"))),
        ("model.json", json.to_vec()),
    ] {
        let path = work.path().join(name);
        fs::write(&path, &good).unwrap();
        assert!(read(&path).is_ok(), "{name}");
        let mut errors = 0;
        for _ in 0..400 {
            fs::write(&path, mutated(&good, &mut random)).unwrap();
            errors += usize::from(refused_in_words(&path));
        }
        assert!(errors > 20, "{name}: {errors}");
        fs::write(&path, mutated(&good, &mut random)).unwrap();
        let _ = inspect(&path);
    }
}

#[test]
fn mutated_model_files_are_errors_or_models_and_never_panic() {
    let data = headstart::Dataset::load("synthetic:3x12x16").unwrap();
    let model = Model::builder("resnet20").weights("none").build(&data).unwrap();
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("model.safetensors");
    model.save(&path).unwrap();
    let good = fs::read(&path).unwrap();
    assert!(Model::open(&path).is_ok());
    let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let card = good.windows(12).position(|w| w == b"architecture").unwrap();
    assert!(card < header);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut errors = 0;
    for round in 0..300 {
        let mut bytes = mutated(&good, &mut random);
        // Half of the changes are to the card.
        if round % 2 == 0 && bytes.len() > header {
            let at = (card + random.below(400)).min(header - 1);
            bytes[at] = b"0\"9-,:{}[]ae"[random.below(12)];
        }
        fs::write(&path, bytes).unwrap();
        errors += usize::from(refused_in_words(&path) || Model::open(&path).is_err());
    }
    assert!(errors > 50, "{errors}");
}

#[test]
fn bytes_of_any_kind_are_refused_without_a_panic() {
    let work = tempfile::tempdir().unwrap();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
    let starts: [&[u8]; 6] = [
        b"",
        b"\x89HDF\r\n\x1a\n",
        b"PK\x03\x04",
        b"\x80\x02}",
        b"\x10\0\0\0\0\0\0\0{",
        b"{\"format\":",
    ];
    let names = ["x.h5", "x.keras", "x.pth", "x.safetensors", "model.json", "x"];
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    proptest!(config, |(start in 0..starts.len(), name in 0..names.len(), bytes in bytes)| {
        let path = work.path().join(names[name]);
        fs::write(&path, [starts[start], &bytes].concat()).unwrap();
        prop_assert!(inspect(&path).is_err());
        prop_assert!(refused_in_words(&path));
        prop_assert!(Model::open(&path).is_err());
    });
}
