//! The documents of the repository: line lengths, links, and the commands they show.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Place;

/// Lines end before this column.
const COLUMN: usize = 100;

/// Every Markdown file of the repository, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let (mut folders, mut found) = (vec![root], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 10, "{} documents", found.len());
    found
}

/// The anchor that GitHub gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// Targets of the links to files of the repository.
fn links(text: &str) -> Vec<&str> {
    let after = text.split("](").skip(1);
    let targets = after.filter_map(|part| part.split_once(')').map(|(target, _)| target));
    targets.filter(|t| !t.contains("://") && !t.contains(char::is_whitespace)).collect()
}

#[test]
fn lines_end_before_column_100() {
    for (path, text) in documents() {
        for (i, line) in text.lines().enumerate() {
            let width = line.chars().count();
            assert!(width < COLUMN, "{}:{}: {width} wide", path.display(), i + 1);
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut counted = 0;
    for (path, text) in documents() {
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = path.parent().unwrap().join(file);
            let target = if file.is_empty() { path.clone() } else { target };
            assert!(target.exists(), "{}: {link}", path.display());
            if !heading.is_empty() {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(there.iter().any(|a| a == heading), "{}: {link}", path.display());
            }
            counted += 1;
        }
    }
    assert!(counted > 50, "{counted} links");
}

/// The commands `headstart ...` in indented blocks, continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| line.strip_prefix("    "));
    let lines = lines.filter(|line| line.starts_with("headstart "));
    lines.map(|line| line.split(" #").next().unwrap().to_string()).collect()
}

/// The words of a command before its arguments, such as `data check`.
fn subcommand(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().skip(1).take(2).collect();
    let two = matches!(words[0], "data" | "weights" | "cache");
    words[..if two { 2 } else { 1 }].join(" ")
}

#[test]
fn commands_have_the_flags_that_documents_give_them() {
    let place = Place::new();
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut counted = 0;
    for (path, text) in documents() {
        for line in commands(&text) {
            let name = subcommand(&line);
            let help = helps.entry(name.clone()).or_insert_with(|| {
                let all = if name == "train" { "--help-all" } else { "--help" };
                place.run(&format!("{name} {all}")).ok().out
            });
            let words = line.split_whitespace().map(|w| w.trim_matches(['[', ']']));
            for flag in words.filter(|w| w.starts_with("--")) {
                // A flag whose value may be left out is shown as `--flag[=<VALUE>]`.
                let bare = |w: &str| w.split(['[', ',']).next() == flag.split('=').next();
                let known = help.split_whitespace().any(bare);
                assert!(known, "{}: {line}: no {flag}", path.display());
                counted += 1;
            }
        }
    }
    assert!(counted > 50, "{counted} flags");
}
