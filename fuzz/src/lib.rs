//! Fuzz targets of headstart. `cargo fuzz` calls them from `fuzz_targets/`; the binary `corpus` needs no nightly compiler.

#![forbid(unsafe_code)]

pub mod mutate;
pub mod targets;

use std::path::PathBuf;
use std::sync::OnceLock;

/// Memory that readers may take in a fuzzer.
pub const LIMIT: u64 = 256 << 20;

/// A folder in memory, where there is one, for the files of a target.
pub fn folder() -> tempfile::TempDir {
    let shared = PathBuf::from("/dev/shm");
    let place = if shared.is_dir() { shared } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("headstart-fuzz").tempdir_in(place).expect("a folder")
}

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or the target finds something.
pub fn run(name: &str, bytes: &[u8]) {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        headstart::memory::set_limit(LIMIT);
        folder()
    });
    let target = targets::TARGETS.iter().find(|target| target.0 == name).expect("a target");
    (target.1)(folder.path(), bytes);
}
