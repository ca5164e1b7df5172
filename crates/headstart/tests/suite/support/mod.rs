//! Folders and archives of tiny images for tests, and weights that nets differ by.

pub mod mutate;
pub mod place;
pub mod server;
pub mod skip;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use headstart::dataset::{DataOptions, Dataset, open};
use headstart::model::Model;
use headstart::parameters::Role;

/// A PNG of one colour.
pub fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let pixels = colour.repeat((width * height) as usize);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    out
}

/// Writes `bytes` to `root/name`, making folders.
pub fn write(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// `count` images of 4x3 in `root/folder`; the red value is their number.
pub fn fill(root: &Path, folder: &str, count: usize) {
    for i in 0..count {
        write(root, &format!("{folder}/{i:03}.png"), &png(4, 3, [i as u8, 7, 9]));
    }
}

/// A gzip-compressed tar of the given entries; a name that ends in `/` is a folder.
pub fn tar_gz(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    tar_to(gz, entries).finish().unwrap()
}

/// A tar of the given entries.
pub fn tar_to<W: std::io::Write>(out: W, entries: &[(&str, &[u8])]) -> W {
    let mut builder = tar::Builder::new(out);
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        if name.contains("..") {
            // The builder refuses such names; an attacker's would not.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        } else {
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// The files of `golden/FOLDER/files.tar.gz` by name, without their `ending`, and the lines of its `pixels.txt`.
pub fn golden_files(folder: &str, ending: &str) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let path = format!("{}/tests/golden/{folder}/files.tar.gz", env!("CARGO_MANIFEST_DIR"));
    let archive = flate2::read::GzDecoder::new(fs::File::open(path).unwrap());
    let (mut files, mut lines) = (BTreeMap::new(), Vec::new());
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        match name.as_str() {
            "pixels.txt" => {
                lines.extend(String::from_utf8(bytes).unwrap().lines().map(String::from));
            }
            name => {
                drop(files.insert(name.strip_suffix(ending).unwrap_or(name).to_string(), bytes))
            }
        }
    }
    lines.retain(|line| !line.starts_with('#'));
    (files, lines)
}

/// Opens with one thread and no validation split.
pub fn plain(path: &Path) -> headstart::Result<Dataset> {
    open(path, &DataOptions { validation_split: 0.0, threads: 1, ..DataOptions::default() })
}

/// The message and hint of an error, in one line.
pub fn words(result: headstart::Result<Dataset>) -> String {
    match result {
        Ok(data) => panic!("expected an error, got {}", data.describe()),
        Err(error) => format!("{error} ({})", error.hint().unwrap_or("no hint")),
    }
}

/// A file of the shared data, or a line that says it is not there.
pub fn shared(file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("HEADSTART_SHARED_DATA")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let path = folder.join(file);
    if path.exists() {
        return Some(path);
    }
    skip::skipped(&format!("{file} is not in the shared data"));
    None
}

/// Weights that make every layer matter: batch norms that shift and scale, all unlike.
pub fn varied(mut model: Model) -> Model {
    let mut state = 1_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    for t in &mut model.parameters.tensors {
        let values = t.values.iter_mut();
        match t.role {
            Role::Kernel => {}
            Role::Gamma => values.for_each(|v| *v = 0.7 + 0.4 * random()),
            Role::Bias | Role::Beta | Role::MovingMean => {
                values.for_each(|v| *v = 0.4 * random() - 0.2);
            }
            Role::MovingVariance => values.for_each(|v| *v = 0.6 + random()),
        }
    }
    model
}
