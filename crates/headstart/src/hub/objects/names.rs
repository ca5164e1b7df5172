//! Names of objects as paths of files: none leads out of its folder, and no two to the same file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{LeftOut, Object};
use crate::text::is_active;

/// Longest name of a file in bytes; systems allow no longer one.
const LONGEST: usize = 255;
/// Longest path of an object below its folder.
const LONGEST_PATH: usize = 2048;

/// The path of an object's file below the folder of its kind; why there is none.
pub(super) fn path(name: &str) -> Result<PathBuf, &'static str> {
    if name.len() > LONGEST_PATH {
        return Err("a name of more than 2,048 bytes");
    }
    let mut path = PathBuf::new();
    for part in name.split('/') {
        path.push(segment(part)?);
    }
    Ok(path)
}

/// A name of a file or folder, if it is one on every system that this one is.
fn segment(part: &str) -> Result<&str, &'static str> {
    let windows = cfg!(windows)
        && (part.contains(['<', '>', ':', '"', '|', '?', '*'])
            || part.ends_with(['.', ' '])
            || is_device(part));
    match part {
        "" => Err("a name with a part that is empty"),
        "." | ".." => Err("a name that leads to another folder"),
        _ if part.len() > LONGEST => Err("a name with a part of more than 255 bytes"),
        _ if part.contains('\\') => Err("a name with a backslash"),
        _ if part.contains(is_active) => Err("a name with control characters"),
        _ if windows => Err("a name that no file has on this system"),
        _ => Ok(part),
    }
}

/// Whether Windows has a device of this name.
fn is_device(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |name: &str| {
        stem.strip_prefix(name)
            .is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit())
    };
    matches!(&*stem, "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

/// The name of a file that stands for any text: a host with a port, a bucket.
pub(super) fn folder(text: &str) -> String {
    let mut name = String::new();
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'@' => name.push(b.into()),
            b'.' if i > 0 => name.push('.'),
            _ => name.push_str(&format!("%{b:02X}")),
        }
    }
    name
}

/// The objects that become files, with the paths of these below their folder. The others are counted in `left_out`: names that
/// are none of a file, and objects whose name is that of a folder too. What stands for a folder (an empty object of its name) is
/// left out without a word.
pub(super) fn files<'o>(
    objects: &'o [Object],
    left_out: &mut LeftOut,
) -> Vec<(&'o Object, PathBuf)> {
    let mut found: Vec<(&Object, PathBuf)> = Vec::with_capacity(objects.len());
    for object in objects {
        match path(&object.name) {
            Ok(path) => found.push((object, path)),
            // That of the prefix itself.
            Err(_) if object.name.is_empty() && object.bytes == 0 => {}
            Err(reason) => left_out.add(&object.name, reason),
        }
    }
    // By what the system compares names by. What comes first keeps the name.
    let key = |path: &Path| match cfg!(any(windows, target_os = "macos")) {
        true => path.to_string_lossy().to_lowercase(),
        false => path.to_string_lossy().into_owned(),
    };
    // Folders, and files; the names come in order, but `a-b` stands between `a` and `a/b`.
    let mut folders = HashSet::new();
    for (_, path) in &found {
        let mut above = path.parent();
        while let Some(folder) = above.filter(|f| !f.as_os_str().is_empty()) {
            if !folders.insert(key(folder)) {
                break;
            }
            above = folder.parent();
        }
    }
    let folding = cfg!(any(windows, target_os = "macos"));
    let mut taken = HashSet::new();
    found.retain(|(object, path)| {
        let name = key(path);
        if folders.contains(&name) {
            if object.bytes > 0 {
                left_out.add(&object.name, "a name that is a folder's too");
            }
            return false;
        }
        if folding && !taken.insert(name) {
            left_out.add(&object.name, "a name that is another's on this system");
            return false;
        }
        // An empty object without an ending stands for a folder without files.
        object.bytes > 0 || object.name.rsplit('/').next().is_some_and(|name| name.contains('.'))
    });
    found
}

#[cfg(test)]
mod tests {
    use std::path::Component;
    use std::time::SystemTime;

    use super::*;

    fn object(name: &str, bytes: u64) -> Object {
        Object { name: name.into(), bytes, modified: SystemTime::UNIX_EPOCH, tag: None }
    }

    #[test]
    fn no_name_leads_out_of_its_folder() {
        let long = "x".repeat(256);
        let longer = "x/".repeat(1100) + "x";
        for name in [
            "..",
            ".",
            "",
            "/",
            "/etc/passwd",
            "a/../../b",
            "a//b",
            "a/",
            "../a",
            "a/..",
            "a\\b",
            "..\\a",
            "a\nb",
            "a\0b",
            "a\u{202e}b",
            &long,
            &longer,
            "a/./b",
        ] {
            assert!(path(name).is_err(), "{name:?}");
        }
        let most = "x".repeat(255);
        for name in ["a", "a/b.jpg", "...", ".a", "a b", "é/1.jpg", "a/..b", &most, "~", "$HOME"] {
            let path = path(name).unwrap();
            assert!(path.components().all(|c| matches!(c, Component::Normal(_))), "{name}");
            assert_eq!(path.components().count(), name.split('/').count());
        }
    }

    #[test]
    fn one_file_for_a_name_and_none_for_a_folder() {
        let objects = [
            object("", 0),
            object("a", 3),
            object("a-b.jpg", 1),
            object("a/b/c.jpg", 1),
            object("a/b", 0),
            object("empty", 0),
            object("empty.jpg", 0),
            object("../x", 1),
            object("x//y", 1),
        ];
        let mut left_out = LeftOut::default();
        let kept = files(&objects, &mut left_out);
        let names: Vec<&str> = kept.iter().map(|(object, _)| &*object.name).collect();
        assert_eq!(names, ["a-b.jpg", "a/b/c.jpg", "empty.jpg"]);
        assert_eq!(left_out.count, 3, "{left_out:?}");
        assert!(left_out.first.starts_with("../x: "), "{left_out:?}");
    }

    #[test]
    fn folders_of_buckets_have_names_of_files() {
        assert_eq!(folder("photos-1.example"), "photos-1.example");
        assert_eq!(folder(".."), "%2E.");
        assert_eq!(folder("Host:80"), "%48ost%3A80");
        assert_ne!(folder("a%3A"), folder("a:"));
        assert!(is_device("con.jpg") && is_device("LPT1") && !is_device("cone.jpg"));
    }
}
