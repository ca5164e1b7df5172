//! Data sets that the page makes: a folder for each, in it one for each class, in that the images. What is taken away stays in
//! a hidden folder, which no data set has.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use headstart::atomic::make_folder;
use headstart::dataset::Corrections;
use headstart::image::{Format, is_image_name};
use headstart::nearest::one_of;
use headstart::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::names::{are_same, check_class, check_set};

/// Most data sets, and most classes of one.
const MOST: usize = 1000;
/// Where images and classes of a data set go that are taken away.
const REMOVED: &str = ".removed";
/// Where images are written, beside the data sets, until they are whole.
const STAGED: &str = ".staged";
/// What is older there was left by a process that was killed.
const LEFT: Duration = Duration::from_secs(3600);
/// Bytes of the hash that names an image.
const NAME: usize = 10;

/// The folder of all of them.
#[derive(Debug)]
pub struct Sets {
    root: PathBuf,
    /// Held by whoever adds an image, and by one alone who changes classes, so that none goes to a folder that moves.
    changing: RwLock<()>,
    staged: AtomicU64,
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

/// Names of what lies in a folder, in order; hidden ones are left out, and names that are no Unicode.
fn names(folder: &Path, wanted: impl Fn(&str, &fs::FileType) -> bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with('.') && entry.file_type().is_ok_and(|kind| wanted(&name, &kind)) {
            found.push(name);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn folders(folder: &Path) -> Result<Vec<String>> {
    names(folder, |_, kind| kind.is_dir())
}

fn images(folder: &Path) -> Result<Vec<String>> {
    names(folder, |name, kind| kind.is_file() && is_image_name(name))
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
        let sets = Sets { root, changing: RwLock::default(), staged: AtomicU64::new(0) };
        sets.remove_leftovers();
        sets
    }

    /// Removes what processes left that were killed while they wrote.
    fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(self.root.join(STAGED)) else { return };
        for entry in entries.flatten() {
            let changed = entry.metadata().and_then(|file| file.modified());
            if changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Their folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of all of them.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        match self.root.is_dir() {
            true => folders(&self.root),
            false => Ok(Vec::new()),
        }
    }

    /// The folder of a data set: one that is there, and no link.
    ///
    /// # Errors
    /// If there is no such one.
    pub fn folder(&self, set: &str) -> Result<PathBuf> {
        child(&self.root, set, fs::FileType::is_dir).ok_or_else(|| {
            let known = self.names().unwrap_or_default();
            let hint = one_of("the data sets", set, &known);
            Error::invalid("data set", "one that is there", set, hint)
        })
    }

    /// The folder of a class: one that is there, and no link.
    fn class(&self, set: &str, class: &str) -> Result<PathBuf> {
        let folder = self.folder(set)?;
        child(&folder, class, fs::FileType::is_dir).ok_or_else(|| {
            let known = folders(&folder).unwrap_or_default();
            let hint = one_of("the classes", class, &known);
            Error::invalid("class", "one that is there", class, hint)
        })
    }

    /// A data set with the numbers of its images.
    ///
    /// # Errors
    /// If there is no such one, or a folder cannot be read.
    pub fn one(&self, set: &str) -> Result<Set> {
        let folder = self.folder(set)?;
        let classes = folders(&folder)?.into_iter().map(|name| {
            let count = images(&folder.join(&name))?.len();
            Ok(Class { name, count })
        });
        Ok(Set { name: set.to_string(), classes: classes.collect::<Result<_>>()? })
    }

    /// Makes a data set without classes.
    ///
    /// # Errors
    /// If the name is none or taken, or its folder cannot be made.
    pub fn make(&self, set: &str) -> Result<()> {
        check_set(set)?;
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        make_folder(&self.root)?;
        new_folder("data set", &self.root, set)
    }

    /// Makes a class without images.
    ///
    /// # Errors
    /// If there is no such data set, the name is none or taken, or its folder cannot be made.
    pub fn make_class(&self, set: &str, class: &str) -> Result<()> {
        check_class(class)?;
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        new_folder("class", &self.folder(set)?, class)
    }

    /// Gives a class another name, also in the data set's corrections.
    ///
    /// # Errors
    /// If there is no such class, the name is none or taken, or its folder cannot be renamed.
    pub fn rename_class(&self, set: &str, class: &str, to: &str) -> Result<()> {
        check_class(to)?;
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        let (from, folder) = (self.class(set, class)?, self.folder(set)?);
        // A name that differs in its case alone is the same folder on some systems, and may be changed.
        let mut others = names(&folder, |_, _| true)?;
        others.retain(|name| name != class);
        free("class", &others, to)?;
        fs::rename(&from, folder.join(to)).map_err(Error::io("rename", from))?;
        correct(&folder, |path, own| {
            let path = match path.strip_prefix(class).and_then(|rest| rest.strip_prefix('/')) {
                Some(file) => format!("{to}/{file}"),
                None => path.to_string(),
            };
            let own = own.map(|own| if own == class { to } else { own }.to_string());
            Some((path, own))
        })
    }

    /// Takes a class away with its images, which stay in a hidden folder.
    ///
    /// # Errors
    /// If there is no such class, or its folder cannot be moved.
    pub fn remove_class(&self, set: &str, class: &str) -> Result<()> {
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        let (from, folder) = (self.class(set, class)?, self.folder(set)?);
        move_away(&from, &own_folder(&folder, REMOVED)?, class)?;
        correct(&folder, |path, own| {
            let gone = path.strip_prefix(class).is_some_and(|rest| rest.starts_with('/'));
            (!gone && own != Some(class)).then(|| (path.to_string(), own.map(String::from)))
        })
    }

    /// Names of images of a class, the latest first, and how many there are.
    ///
    /// # Errors
    /// If there is no such class, or it cannot be read.
    pub fn images(&self, set: &str, class: &str, most: usize) -> Result<(usize, Vec<String>)> {
        let folder = self.class(set, class)?;
        let mut found = Vec::new();
        for name in images(&folder)? {
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
        let _shared = self.changing.read().unwrap_or_else(PoisonError::into_inner);
        let folder = self.class(set, class)?;
        let hash = Sha256::digest(bytes);
        let hash: String = hash.iter().take(NAME).map(|byte| format!("{byte:02x}")).collect();
        let file = format!("{hash}.{}", format.extensions()[0]);
        let path = folder.join(&file);
        if path.symlink_metadata().is_ok() {
            return Ok(Added { file, new: false });
        }
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let staged =
            own_folder(&self.root, STAGED)?.join(format!("{hash}-{}-{number}", std::process::id()));
        let write = || {
            let mut to = fs::File::options().write(true).create_new(true).open(&staged)?;
            to.write_all(bytes)?;
            to.sync_all()?;
            fs::rename(&staged, &path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&staged);
            Error::io("write", &path)(error)
        })?;
        Ok(Added { file, new: true })
    }

    /// Takes an image away, which stays in a hidden folder.
    ///
    /// # Errors
    /// If there is no such image, or it cannot be moved.
    pub fn remove(&self, set: &str, class: &str, file: &str) -> Result<()> {
        let _alone = self.changing.write().unwrap_or_else(PoisonError::into_inner);
        let (path, folder) = (self.image(set, class, file)?, self.folder(set)?);
        let removed = own_folder(&own_folder(&folder, REMOVED)?, class)?;
        move_away(&path, &removed, file)?;
        let gone = format!("{class}/{file}");
        correct(&folder, |path, own| {
            (path != gone).then(|| (path.to_string(), own.map(String::from)))
        })
    }
}

/// Fails if a name is taken, in any way of writing it that a system may take for the same.
fn free(what: &'static str, known: &[String], name: &str) -> Result<()> {
    if known.len() >= MOST {
        let expected = format!("at most {MOST}");
        return Err(Error::invalid(what, expected, "one more", ""));
    }
    match known.iter().find(|known| are_same(known, name)) {
        Some(taken) => {
            let hint = "choose another, or take that one";
            Err(Error::invalid(what, format!("a name besides {taken}, which is taken"), name, hint))
        }
        None => Ok(()),
    }
}

fn new_folder(what: &'static str, folder: &Path, name: &str) -> Result<()> {
    free(what, &names(folder, |_, _| true)?, name)?;
    let path = folder.join(name);
    fs::create_dir(&path).map_err(Error::io("make the folder", path))
}

/// A folder of the server's own in another, which is made if it is not there, and is no link.
fn own_folder(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    match fs::create_dir(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::io("make the folder", path)(error));
        }
        _ => {}
    }
    match path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        true => Ok(path),
        false => Err(Error::format(path, "a folder", "something else", "remove it")),
    }
}

/// Moves to a folder, under the first free name.
fn move_away(from: &Path, folder: &Path, name: &str) -> Result<()> {
    let mut names = (1..=u32::MAX).map(|n| match n {
        1 => folder.join(name),
        n => folder.join(format!("{n} {name}")),
    });
    let free = names.find(|path| path.symlink_metadata().is_err());
    let to = free.unwrap_or_else(|| folder.join(name));
    fs::rename(from, to).map_err(Error::io("move", from))
}

/// Changes every row of a data set's corrections, if it has any.
fn correct(
    folder: &Path,
    change: impl Fn(&str, Option<&str>) -> Option<(String, Option<String>)>,
) -> Result<()> {
    let before = Corrections::read(folder)?;
    let mut after = before.clone();
    for (path, _) in before.rows() {
        after.undo(path);
    }
    for (path, class) in before.rows().filter_map(|(path, class)| change(path, class)) {
        after.set(&path, class.as_deref());
    }
    if after == before { Ok(()) } else { after.write() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets() -> (tempfile::TempDir, Sets) {
        let folder = tempfile::tempdir().unwrap();
        let sets = Sets::below(folder.path().join("photos"));
        (folder, sets)
    }

    fn counts(sets: &Sets) -> Vec<(String, usize)> {
        let classes = sets.one("pets").unwrap().classes;
        classes.into_iter().map(|class| (class.name, class.count)).collect()
    }

    #[test]
    fn images_come_once_and_what_goes_is_kept_aside() {
        let (_folder, sets) = sets();
        assert!(sets.names().unwrap().is_empty());
        sets.make("pets").unwrap();
        sets.make_class("pets", "Äpfel & Birnen").unwrap();
        sets.make_class("pets", "cat").unwrap();
        let first = sets.add("pets", "cat", Format::Png, b"one").unwrap();
        assert!(first.new && first.file.ends_with(".png"));
        assert!(!sets.add("pets", "cat", Format::Png, b"one").unwrap().new);
        assert!(sets.add("pets", "cat", Format::Jpeg, b"two").unwrap().new);
        // What training does not read is not counted.
        fs::write(sets.root().join("pets/cat/readme.txt"), b"x").unwrap();
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
        assert_eq!(fs::read_dir(removed.join("Cat")).unwrap().count(), 3);
        assert_eq!(fs::read_dir(sets.root().join(STAGED)).unwrap().count(), 0);
    }

    #[test]
    fn corrections_go_with_their_images() {
        let (_folder, sets) = sets();
        sets.make("pets").unwrap();
        let mut files = Vec::new();
        for class in ["cat", "dog", "cow"] {
            sets.make_class("pets", class).unwrap();
            files.push(sets.add("pets", class, Format::Png, class.as_bytes()).unwrap().file);
        }
        let path = |class: &str, file: usize| format!("{class}/{}", files[file]);
        let mut table = Corrections::read(sets.root().join("pets")).unwrap();
        table.set(&path("cat", 0), Some("dog"));
        table.set(&path("dog", 1), Some("cow"));
        table.set(&path("cow", 2), None);
        table.write().unwrap();
        let rows = || -> Vec<(String, Option<String>)> {
            let table = Corrections::read(sets.root().join("pets")).unwrap();
            table.rows().map(|(path, class)| (path.into(), class.map(Into::into))).collect()
        };
        sets.rename_class("pets", "dog", "hound").unwrap();
        let hound = Some("hound".to_string());
        assert_eq!(
            rows(),
            [
                (path("cat", 0), hound),
                (path("cow", 2), None),
                (path("hound", 1), Some("cow".into()))
            ]
        );
        sets.remove("pets", "cat", &files[0]).unwrap();
        sets.remove_class("pets", "cow").unwrap();
        assert_eq!(rows(), []);
    }

    #[test]
    fn names_stay_inside_and_are_not_taken_twice() {
        let (folder, sets) = sets();
        sets.make("pets").unwrap();
        assert!(sets.make("pets").is_err() && sets.make("PETS").is_err());
        assert!(sets.make("../pets").is_err());
        sets.make_class("pets", "caf\u{e9}").unwrap();
        assert!(sets.make_class("pets", "cafe\u{301}").is_err());
        assert!(sets.make_class("pets", "..").is_err());
        assert!(sets.make_class("dogs", "cat").is_err());
        assert!(sets.add("pets", "..", Format::Png, b"x").is_err());
        fs::write(folder.path().join("secret.png"), b"x").unwrap();
        for bad in ["../../../secret.png", "..", "", ".new-x", "none.png"] {
            assert!(sets.image("pets", "caf\u{e9}", bad).is_err(), "{bad}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::symlink;
            let class = sets.root().join("pets/caf\u{e9}");
            symlink(folder.path().join("secret.png"), class.join("link.png")).unwrap();
            assert!(sets.image("pets", "caf\u{e9}", "link.png").is_err());
            symlink(folder.path(), sets.root().join("pets/out")).unwrap();
            assert!(sets.images("pets", "out", 9).is_err());
            symlink(folder.path(), sets.root().join("away")).unwrap();
            assert!(sets.one("away").is_err());
            let file = sets.add("pets", "caf\u{e9}", Format::Png, b"x").unwrap().file;
            symlink(folder.path(), sets.root().join("pets/.removed")).unwrap();
            assert!(sets.remove("pets", "caf\u{e9}", &file).is_err());
            assert!(sets.remove_class("pets", "caf\u{e9}").is_err());
            assert!(class.join(&file).exists());
        }
    }
}
