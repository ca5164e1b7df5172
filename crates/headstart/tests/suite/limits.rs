//! No reader goes around the memory that reading may take.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the library reads files other than by `memory::read`, how often, and why that is bounded.
const BOUNDED: [(&str, &str, usize, &str); 20] = [
    ("memory.rs", "fs::read_to_string(", 3, "files of the system"),
    ("study/bench.rs", "fs::read_to_string(", 1, "a file of the system"),
    ("session/run/together.rs", "fs::read_to_string(", 2, "files of the system"),
    ("memory/budget.rs", "read_to_end(", 1, "the reader itself"),
    ("data/image/header.rs", "read_to_end(", 1, "at most MAX_EXIF"),
    (
        "data/dataset/archive.rs",
        "read_to_end(",
        5,
        "512, MAX_HEADER, MAX_LABEL, 16; counted in Room",
    ),
    ("data/dataset/archive/foreign.rs", "read_to_end(", 1, "at most START"),
    ("data/dataset/load.rs", "read_to_end(", 2, "8 and 512 bytes"),
    ("data/dataset/encoded.rs", "read_to_end(", 1, "an image file, counted by its decoder"),
    ("data/dataset/sample.rs", "read_to_end(", 1, "inside the program"),
    ("data/dataset/manifest/columnar.rs", "read_to_end(", 1, "at most LONGEST_HEADER"),
    ("data/image/directory.rs", "read_to_end(", 1, "at most what the caller allows a tag"),
    ("data/image/header/png.rs", "read_to_end(", 1, "at most MAX_BLOCK"),
    ("data/image/tiff/chunks.rs", "read_to_end(", 1, "at most a strip or tile"),
    ("net/weights/tfjs.rs", "read_to_end(", 1, "shards, counted before"),
    ("net/weights/zip64.rs", "read_to_end(", 1, "the last 98 bytes"),
    ("hub/transfer.rs", "read_to_end(", 1, "64 bytes"),
    ("export/pytorch/mod.rs", "read_to_end(", 1, "1000 bytes"),
    ("data/dataset/load.rs", "fs::File::open(", 1, "first and last bytes"),
    ("data/dataset/encoded.rs", "fs::File::open(", 1, "an image file"),
];
/// How a whole file comes into memory.
const WAYS: [&str; 5] =
    ["fs::read(", "fs::read_to_string(", "read_to_end(", "read_to_string(", "fs::File::open("];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn every_file_is_read_within_the_limit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let (mut met, mut files) = (0, 0);
    for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "rs")) {
        files += 1;
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().lines();
        let code: String = code.filter(|l| !l.trim_start().starts_with("//")).collect();
        if name.ends_with("tests.rs") {
            continue;
        }
        for way in WAYS {
            let found = code.matches(way).count();
            // One is a part of another.
            let found = match way {
                "read_to_string(" => found - code.matches("fs::read_to_string(").count(),
                _ => found,
            };
            let known = BOUNDED.iter().find(|known| known.0 == name && known.1 == way);
            met += usize::from(known.is_some());
            let expected = known.map_or(0, |known| known.2);
            assert_eq!(found, expected, "{name}: {way} - read files by memory::read and its like");
        }
    }
    assert_eq!(met, BOUNDED.len());
    assert!(files > 100, "{files}");
}
