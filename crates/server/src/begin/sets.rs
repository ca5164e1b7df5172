//! Data sets that the page makes: a folder for each, in it one for each class, in that the images. What is taken away stays in
//! a hidden folder, which no data set has.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use headstart::atomic::make_folder;
use headstart::image::Format;
use headstart::nearest::one_of;
use headstart::text::{is_active, is_same};
use headstart::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::models::check_name;

/// Most data sets, and most classes of one.
const MOST: usize = 1000;
/// Longest name of a class, in bytes: a folder's, everywhere.
const LONGEST: usize = 100;
/// Where images and classes go that are taken away.
const REMOVED: &str = ".removed";
/// Bytes of the hash that names an image.
const NAME: usize = 10;

/// The folder of all of them.
#[derive(Debug)]
pub struct Sets {
    root: PathBuf,
    /// Held while classes come and go.
    changing: Mutex<()>,
}

/// A data set.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Set {
    /// Its folder's name.
    pub name: String,
    /// Its classes, by name.
    pub classes: Vec<Class>,
}

/// A class.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Its folder's name.
    pub name: String,
    /// How many images it has.
    pub count: usize,
}

/// An image that was sent.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Added {
    /// Its file's name.
    pub file: String,
    /// Whether the class did not have it.
    pub new: bool,
}

/// Whether a class can have that name, which its folder has on any system.
fn check_class(name: &str) -> Result<()> {
    let bad = |c: char| is_active(c) || "/\\:*?\"<>|".contains(c);
    let ends = name.starts_with(['.', ' ']) || name.ends_with(['.', ' ']);
    if !name.is_empty() && name.len() <= LONGEST && !ends && !name.contains(bad) {
        return Ok(());
    }
    let expected = format!("1 to {LONGEST} bytes that can name a folder");
    let hint = "without / \\ : * ? \" < > | and without a dot or space at its ends";
    Err(Error::invalid("class name", expected, name, hint))
}

fn missing(what: &'static str, name: &str, known: &[String]) -> Error {
    let expected = format!("one of the {what}s that there are");
    Error::invalid(what, expected, name, one_of(&format!("the {what}s"), name, known))
}

/// Names of what lies in a folder, in order; hidden ones are left out, and names that are no Unicode.
fn names(folder: &Path, wanted: impl Fn(&fs::FileType) -> bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with('.') && entry.file_type().is_ok_and(|kind| wanted(&kind)) {
            found.push(name);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What lies in a folder by that name: one part, not hidden, and no link, which may lead anywhere.
fn child(folder: &Path, name: &str, wanted: impl Fn(&fs::FileType) -> bool) -> Option<PathBuf> {
    let path = folder.join(name);
    let mut parts = Path::new(name).components();
    let one = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    let found = || path.symlink_metadata().is_ok_and(|found| wanted(&found.file_type()));
    (one && !name.starts_with('.') && found()).then_some(path)
}

impl Sets {
    /// Those below `root`, which is made once there is one.
    pub fn below(root: PathBuf) -> Sets {
        Sets { root, changing: Mutex::default() }
    }

    /// Their folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn list(&self) -> Result<Vec<Set>> {
        match self.root.is_dir() {
            true => self.names()?.iter().map(|name| self.one(name)).collect(),
            false => Ok(Vec::new()),
        }
    }

    fn names(&self) -> Result<Vec<String>> {
        match self.root.is_dir() {
            true => names(&self.root, fs::FileType::is_dir),
            false => Ok(Vec::new()),
        }
    }

    /// The folder of a data set: one that is there, and no link.
    ///
    /// # Errors
    /// If there is no such one.
    pub fn folder(&self, set: &str) -> Result<PathBuf> {
        match child(&self.root, set, fs::FileType::is_dir) {
            Some(folder) => Ok(folder),
            None => Err(missing("data set", set, &self.names()?)),
        }
    }

    /// The folder of a class: one that is there, and no link.
    fn class(&self, set: &str, class: &str) -> Result<PathBuf> {
        let folder = self.folder(set)?;
        match child(&folder, class, fs::FileType::is_dir) {
            Some(folder) => Ok(folder),
            None => Err(missing("class", class, &names(&folder, fs::FileType::is_dir)?)),
        }
    }

    /// A data set with the numbers of its images.
    ///
    /// # Errors
    /// If there is no such one, or a folder cannot be read.
    pub fn one(&self, set: &str) -> Result<Set> {
        let folder = self.folder(set)?;
        let classes = names(&folder, fs::FileType::is_dir)?.into_iter().map(|name| {
            let count = names(&folder.join(&name), fs::FileType::is_file)?.len();
            Ok(Class { name, count })
        });
        Ok(Set { name: set.to_string(), classes: classes.collect::<Result<_>>()? })
    }

    /// Makes a data set without classes.
    ///
    /// # Errors
    /// If the name is none or taken, or its folder cannot be made.
    pub fn make(&self, set: &str) -> Result<()> {
        // Its name is also the run's and the model's.
        check_name(set)?;
        let _changing = self.changing();
        make_folder(&self.root)?;
        new_folder("data set", &self.root, set)
    }

    /// Makes a class without images.
    ///
    /// # Errors
    /// If there is no such data set, the name is none or taken, or its folder cannot be made.
    pub fn make_class(&self, set: &str, class: &str) -> Result<()> {
        check_class(class)?;
        let _changing = self.changing();
        new_folder("class", &self.folder(set)?, class)
    }

    /// Gives a class another name.
    ///
    /// # Errors
    /// If there is no such class, the name is none or taken, or its folder cannot be renamed.
    pub fn rename_class(&self, set: &str, class: &str, to: &str) -> Result<()> {
        check_class(to)?;
        let _changing = self.changing();
        let from = self.class(set, class)?;
        let folder = self.folder(set)?;
        // A name that differs in its case alone is the same folder on some systems, and may be changed.
        let others: Vec<_> = names(&folder, |_| true)?.into_iter().filter(|n| n != class).collect();
        free("class", &others, to)?;
        fs::rename(&from, folder.join(to)).map_err(Error::io("rename", from))
    }

    /// Takes a class away with its images, which stay in a hidden folder.
    ///
    /// # Errors
    /// If there is no such class, or its folder cannot be moved.
    pub fn remove_class(&self, set: &str, class: &str) -> Result<()> {
        let _changing = self.changing();
        let from = self.class(set, class)?;
        move_away(&from, &self.folder(set)?.join(REMOVED), class)
    }

    /// Names of images of a class, the latest first, and how many there are.
    ///
    /// # Errors
    /// If there is no such class, or it cannot be read.
    pub fn images(&self, set: &str, class: &str, most: usize) -> Result<(usize, Vec<String>)> {
        let folder = self.class(set, class)?;
        let mut found = Vec::new();
        for name in names(&folder, fs::FileType::is_file)? {
            let changed = folder.join(&name).metadata().and_then(|file| file.modified()).ok();
            found.push((std::cmp::Reverse(changed), name));
        }
        let total = found.len();
        found.sort();
        Ok((total, found.into_iter().take(most).map(|(_, name)| name).collect()))
    }

    /// The file of an image.
    ///
    /// # Errors
    /// If there is no such image.
    pub fn image(&self, set: &str, class: &str, file: &str) -> Result<PathBuf> {
        let missing = || Error::invalid("image", "one of the class", file, "");
        child(&self.class(set, class)?, file, fs::FileType::is_file).ok_or_else(missing)
    }

    /// Adds an image, which was decoded before, to a class; one that the class has already is not added twice.
    ///
    /// # Errors
    /// If there is no such class, or the file cannot be written.
    pub fn add(&self, set: &str, class: &str, format: Format, bytes: &[u8]) -> Result<Added> {
        let folder = self.class(set, class)?;
        let hash = Sha256::digest(bytes);
        let hash: String = hash.iter().take(NAME).map(|byte| format!("{byte:02x}")).collect();
        let file = format!("{hash}.{}", format.extensions()[0]);
        let path = folder.join(&file);
        if path.exists() {
            return Ok(Added { file, new: false });
        }
        // A hidden file until it is whole.
        let staged = tempfile::Builder::new().prefix(".new-").tempfile_in(&folder);
        let mut staged = staged.map_err(Error::io("write to", &folder))?;
        let written = staged.write_all(bytes).and_then(|()| readable(staged.as_file()));
        written.map_err(Error::io("write", &path))?;
        match staged.persist_noclobber(&path) {
            Ok(_) => Ok(Added { file, new: true }),
            Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
                Ok(Added { file, new: false })
            }
            Err(error) => Err(Error::io("write", &path)(error.error)),
        }
    }

    /// Takes an image away, which stays in a hidden folder.
    ///
    /// # Errors
    /// If there is no such image, or it cannot be moved.
    pub fn remove(&self, set: &str, class: &str, file: &str) -> Result<()> {
        let path = self.image(set, class, file)?;
        move_away(&path, &self.folder(set)?.join(REMOVED).join(class), file)
    }
}

/// As other files: temporary ones are for their owner alone.
#[cfg(unix)]
fn readable(file: &fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable(_file: &fs::File) -> std::io::Result<()> {
    Ok(())
}

/// Fails if a name is taken, in any way of writing it that a system may take for the same.
fn free(what: &'static str, known: &[String], name: &str) -> Result<()> {
    if known.len() >= MOST {
        let expected = format!("at most {MOST}");
        return Err(Error::invalid(what, expected, "one more", ""));
    }
    let same =
        |known: &&String| is_same(known, name) || known.to_lowercase() == name.to_lowercase();
    match known.iter().find(same) {
        Some(taken) => Err(Error::invalid(what, "a name that is not taken", taken, "")),
        None => Ok(()),
    }
}

fn new_folder(what: &'static str, folder: &Path, name: &str) -> Result<()> {
    free(what, &names(folder, |_| true)?, name)?;
    let path = folder.join(name);
    fs::create_dir(&path).map_err(Error::io("make the folder", path))
}

/// Moves to a folder, under the first free name.
fn move_away(from: &Path, folder: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("make the folder", folder))?;
    let to = (1..).map(|n| match n {
        1 => folder.join(name),
        n => folder.join(format!("{n} {name}")),
    });
    let free = to.into_iter().find(|path| path.symlink_metadata().is_err());
    let to = free.unwrap_or_else(|| folder.join(name));
    fs::rename(from, to).map_err(Error::io("move", from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> (tempfile::TempDir, Sets) {
        let folder = tempfile::tempdir().unwrap();
        let sets = Sets::below(folder.path().join("photos"));
        (folder, sets)
    }

    #[test]
    fn images_come_once_and_what_goes_is_kept_aside() {
        let (_folder, sets) = sets();
        assert_eq!(sets.list().unwrap(), []);
        sets.make("pets").unwrap();
        sets.make_class("pets", "Äpfel & Birnen").unwrap();
        sets.make_class("pets", "cat").unwrap();
        let first = sets.add("pets", "cat", Format::Png, b"one").unwrap();
        assert!(first.new && first.file.ends_with(".png"));
        assert!(!sets.add("pets", "cat", Format::Png, b"one").unwrap().new);
        assert!(sets.add("pets", "cat", Format::Jpeg, b"two").unwrap().new);
        let counts = |sets: &Sets| -> Vec<(String, usize)> {
            let classes = sets.one("pets").unwrap().classes;
            classes.into_iter().map(|class| (class.name, class.count)).collect()
        };
        let class = |name: &str, count| (name.to_string(), count);
        assert_eq!(counts(&sets), [class("cat", 2), class("Äpfel & Birnen", 0)]);
        for _ in 0..2 {
            sets.remove("pets", "cat", &first.file).unwrap();
            assert!(sets.add("pets", "cat", Format::Png, b"one").unwrap().new);
        }
        sets.rename_class("pets", "cat", "Cat").unwrap();
        assert_eq!(sets.images("pets", "Cat", 1).unwrap().1.len(), 1);
        sets.remove_class("pets", "Cat").unwrap();
        assert_eq!(counts(&sets), [class("Äpfel & Birnen", 0)]);
        let removed = sets.root().join("pets/.removed");
        assert_eq!(fs::read_dir(removed.join("cat")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(removed.join("Cat")).unwrap().count(), 2);
    }

    #[test]
    fn names_stay_inside_and_are_not_taken_twice() {
        let (folder, sets) = sets();
        sets.make("pets").unwrap();
        for bad in ["", ".", "..", "a/b", ".hidden", "a b", "ä", "../pets", "pets", "PETS"] {
            assert!(sets.make(bad).is_err(), "{bad}");
        }
        sets.make_class("pets", "caf\u{e9}").unwrap();
        for bad in ["", "..", "a/b", "a\\b", "a\n", "a\u{202e}b", ".a", "a.", " a", "cafe\u{301}"] {
            assert!(sets.make_class("pets", bad).is_err(), "{bad:?}");
        }
        assert!(sets.make_class("pets", &"x".repeat(101)).is_err());
        assert!(sets.make_class("dogs", "cat").is_err());
        assert!(sets.add("pets", "..", Format::Png, b"x").is_err());
        fs::write(folder.path().join("secret.png"), b"x").unwrap();
        for bad in ["../../../secret.png", "..", "", ".new-x", "none.png"] {
            assert!(sets.image("pets", "caf\u{e9}", bad).is_err(), "{bad}");
        }
        #[cfg(unix)]
        {
            let class = sets.root().join("pets/caf\u{e9}");
            std::os::unix::fs::symlink(folder.path().join("secret.png"), class.join("link.png"))
                .unwrap();
            assert!(sets.image("pets", "caf\u{e9}", "link.png").is_err());
            std::os::unix::fs::symlink(folder.path(), sets.root().join("pets/out")).unwrap();
            assert!(sets.images("pets", "out", 9).is_err());
            std::os::unix::fs::symlink(folder.path(), sets.root().join("away")).unwrap();
            assert!(sets.one("away").is_err());
        }
    }
}
