//! Running the real binary, and small data sets to run it on.

#[path = "../../../../mpi/tests/support/launchers.rs"]
pub mod launchers;
#[path = "../../../../headstart/tests/suite/support/server.rs"]
pub mod server;
#[path = "../../../../headstart/tests/suite/support/skip.rs"]
pub mod skip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that goes away, and in which commands run.
pub struct Place {
    folder: tempfile::TempDir,
    /// The user's cache.
    cache: tempfile::TempDir,
}

/// What a command did.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> Done {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    /// Fails unless the command ended with `code` and its message has all of `parts`.
    #[track_caller]
    pub fn fails(self, code: i32, parts: &[&str]) -> Done {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "no {part:?} in: {}", self.err);
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Done { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Place {
    pub fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), cache: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The user's cache.
    pub fn cache(&self) -> &Path {
        self.cache.path()
    }

    /// The entries of the feature cache.
    pub fn kept(&self) -> Vec<PathBuf> {
        let root = self.cache.path().join("features");
        let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
        let paths = entries.map(|e| e.unwrap().path());
        paths.filter(|p| p.join("index").exists()).collect()
    }

    /// Images in each entry of the feature cache.
    pub fn images(&self) -> Vec<u64> {
        let list = self.run("cache list --json").ok().out;
        let lines = list.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        lines.map(|line| line["images"].as_u64().unwrap()).collect()
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headstart"));
        command.args(line.split_whitespace()).current_dir(self.folder.path());
        command.env("HEADSTART_CACHE", self.cache.path());
        command
    }

    pub fn run(&self, line: &str) -> Done {
        self.command(line).output().unwrap().into()
    }

    /// Writes a PNG of one colour with a pattern that depends on `seed`: another for each up to 500.
    pub fn image(&self, name: &str, side: u32, colour: [u8; 3], seed: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), side, side);
        encoder.set_color(png::ColorType::Rgb);
        let pattern =
            |i: u32| i.wrapping_mul(seed * 2 + 1) % 23 + if i == 0 { seed / 23 } else { 0 };
        let pixels: Vec<u8> = (0..side * side)
            .flat_map(|i| colour.map(|c| c.wrapping_add(pattern(i) as u8)))
            .collect();
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    }

    /// A folder `data` with `count` images in each of the classes red, green and blue.
    pub fn data(&self, count: u32) {
        for (class, colour) in
            [("red", [200, 30, 30]), ("green", [30, 200, 30]), ("blue", [30, 30, 200])]
        {
            for i in 0..count {
                self.image(&format!("data/{class}/{i:03}.png"), 16, colour, i);
            }
        }
    }

    /// Fails unless the folder holds nothing but `names`.
    #[track_caller]
    pub fn holds(&self, names: &[&str]) {
        let mut found: Vec<String> = list(self.folder.path());
        found.sort();
        assert_eq!(found, names);
    }
}

/// The tensors of a safetensors file as bytes, without its header.
pub fn tensors(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert!(bytes.len() > 8 + header);
    bytes[8 + header..].to_vec()
}

pub fn list(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// A place with `count` images in each class, and the run [`TRAIN`] with these flags.
pub fn trained(count: u32, flags: &str) -> Place {
    let place = Place::new();
    place.data(count);
    place.run(&format!("{TRAIN} {flags}")).ok();
    place
}

/// A training run of a second or less.
pub const TRAIN: &str = "train --data data --model resnet20 --weights none --image-size 16 \
                         --batch-size 8 --epochs 2 --test-split 0.2 --out run";
