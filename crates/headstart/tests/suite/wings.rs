//! The wings of the library, each above all that it imports, no loop of imports among their files, and no file of tests
//! that is not run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up. Those of one row may not import each other.
const WINGS: [&[&str]; 10] = [
    &[
        "atomic",
        "control",
        "error",
        "file_kind",
        "guard",
        "memory",
        "nearest",
        "numbers",
        "range",
        "task",
        "text",
    ],
    &["data"],
    &["net"],
    &["measure"],
    &["engine"],
    &["export", "hub"],
    &["train"],
    &["study"],
    &["report"],
    &["session"],
];

/// Files that import each other, with the reason.
const LOOPS: [(&str, &str, &str); 0] = [];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: without comments, and without its tests, which stand last.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Names of modules from the crate's root down, as far as `modules` knows them, that `code` names by `crate::`.
fn imports(code: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        let end = part.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        let path = &part[..end.unwrap_or(part.len())];
        let steps: Vec<&str> = path.split("::").filter(|s| !s.is_empty()).collect();
        let known = (1..=steps.len()).rev().map(|n| steps[..n].join("::"));
        found.extend(known.into_iter().find(|path| modules.contains(path)));
    }
    found
}

/// Each file's module, from the crate's root, with the modules it imports.
fn modules() -> BTreeMap<String, BTreeSet<String>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&source, &mut paths);
    let name = |path: &PathBuf| {
        let inside = path.strip_prefix(&source).unwrap().with_extension("");
        let steps = inside.iter().map(|s| s.to_str().unwrap()).filter(|s| *s != "mod");
        steps.collect::<Vec<_>>().join("::")
    };
    let names: BTreeSet<String> = paths.iter().map(name).collect();
    paths.iter().map(|path| (name(path), imports(&code(path), &names))).collect()
}

fn wing(module: &str) -> &str {
    module.split("::").next().unwrap()
}

#[test]
fn no_import_runs_upward() {
    let rank = |module: &str| WINGS.iter().position(|row| row.contains(&wing(module)));
    let mut counted = 0;
    for (module, imports) in modules() {
        if module == "lib" {
            continue;
        }
        let own = rank(&module).unwrap_or_else(|| panic!("{module} is in no wing"));
        for import in imports {
            counted += 1;
            let other = rank(&import).unwrap_or_else(|| panic!("{import} is in no wing"));
            let good = wing(&module) == wing(&import) || other < own || own == 0 && other == 0;
            assert!(good, "{module} imports {import}, which is not below it");
        }
    }
    assert!(counted > 300, "{counted} imports were seen");
}

#[test]
fn no_two_rooms_import_each_other() {
    // A room is a file with the folder of its name: its parts may know each other.
    let room = |module: &str| module.split("::").take(2).collect::<Vec<_>>().join("::");
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, imports) in modules() {
        let own = room(&module);
        let others = imports.iter().map(|i| room(i)).filter(|other| *other != own);
        edges.entry(own.clone()).or_default().extend(others);
    }
    for (from, to, _) in LOOPS {
        assert!(edges.get_mut(from).is_some_and(|e| e.remove(to)), "{from} imports {to} no more");
    }
    // What imports nothing that is left is taken away until nothing is left.
    while let Some(free) = edges.iter().find(|(_, to)| to.is_empty()).map(|(from, _)| from.clone())
    {
        edges.remove(&free);
        edges.values_mut().for_each(|to| {
            to.remove(&free);
        });
    }
    assert!(edges.is_empty(), "these import each other, or what does: {edges:#?}");
}

#[test]
fn every_file_of_tests_is_in_its_program() {
    for suite in ["tests/suite", "../cli/tests/suite"] {
        let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join(suite);
        let main = code(&suite.join("main.rs"));
        let named: BTreeSet<&str> = main
            .lines()
            .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
            .chain(["main"])
            .collect();
        let paths = fs::read_dir(&suite).unwrap().map(|entry| entry.unwrap().path());
        let stems: Vec<_> = paths.map(|path| path.file_stem().unwrap().to_owned()).collect();
        assert!(stems.len() > 10, "{stems:?}");
        for stem in stems {
            let stem = stem.to_str().unwrap();
            assert!(named.contains(stem), "{}: main.rs has no `mod {stem};`", suite.display());
        }
    }
}
