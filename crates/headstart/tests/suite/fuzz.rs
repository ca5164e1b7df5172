//! Every fuzz target over its examples and some thousand damaged ones: no panic, and none that lasts. `fuzz/README.md` says how to
//! run them for longer, with a watch on memory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../../../../fuzz/src/mutate.rs"]
mod mutate;
#[path = "../../../../fuzz/src/targets.rs"]
mod targets;

use mutate::{Random, mutated};
use targets::TARGETS;

fn examples(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_reader_survives_damaged_examples() {
    let folder = tempfile::tempdir().unwrap();
    for (name, target) in TARGETS {
        let good = examples(name);
        good.iter().for_each(|bytes| target(folder.path(), bytes));
        let began = Instant::now();
        for number in 0..250 {
            let before = Instant::now();
            target(folder.path(), &mutated(&good, &mut Random(number)));
            // Far beyond what a run takes, also on a busy machine.
            assert!(before.elapsed() < Duration::from_secs(60), "{name} {number}");
        }
        println!("{name}: {:.2} s", began.elapsed().as_secs_f64());
    }
}

#[test]
fn every_target_is_listed_once_for_cargo_fuzz() {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = fs::read_to_string(place.join("Cargo.toml")).unwrap();
    let files = fs::read_dir(place.join("fuzz_targets")).unwrap().count();
    assert_eq!((files, manifest.matches("[[bin]]").count()), (TARGETS.len(), TARGETS.len()));
    for (name, _) in TARGETS {
        let text = fs::read_to_string(place.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(text.contains(&format!("run(\"{name}\", bytes)")), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
    let bytes: usize = TARGETS.iter().flat_map(|target| examples(target.0)).map(|e| e.len()).sum();
    assert!(bytes < 300 << 10, "{bytes}");
}
