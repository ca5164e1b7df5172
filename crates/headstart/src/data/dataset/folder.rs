//! Listing an image folder on disk.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::load::is_image;
use super::room::{self, Room};
use super::tree::{File, MAX_DEPTH, Origin, Tree, has_image_extension, is_hidden};
use super::{Limits, Skipped};
use crate::error::{Error, Result};
use crate::file_kind;
use crate::text::of_name;

/// As many ways lead to one folder, by links, as are followed.
const MOST_WAYS: usize = 16;

/// Every file and folder under `root` that is not hidden. Symbolic links are followed, except
/// to a folder that contains the link, and to one that [`MOST_WAYS`] others lead to: links to links make more paths than
/// there are files.
pub(crate) fn list(root: &Path, limits: &Limits) -> Result<Tree> {
    let real = fs::canonicalize(root).map_err(Error::io("open folder", root))?;
    let mut walk = Walk {
        tree: Tree { root: root.to_path_buf(), ..Tree::default() },
        room: Room::new(limits),
        above: vec![real],
        names: Vec::new(),
        ways: HashMap::new(),
    };
    walk.folder(root)?;
    Ok(walk.tree)
}

/// The files below a folder that are images by their names, or, where these do not say it, by their content; hidden ones are
/// left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageFiles {
    /// Their paths, which begin with the folder's, in order.
    pub files: Vec<PathBuf>,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
}

impl ImageFiles {
    /// Lists `folder`, with the folders below it. Links are followed, but not in circles.
    ///
    /// # Errors
    /// If a folder cannot be read, or there are more files than memory is for.
    pub fn below(folder: &Path) -> Result<ImageFiles> {
        let limits = Limits::default();
        let Tree { files, mut skipped, .. } = list(folder, &limits)?;
        // As in class folders. A file that is named as an image is read, or it is said why not.
        let judged = |file: File| -> std::result::Result<PathBuf, Option<Skipped>> {
            let (Origin::Disk(path), Some(name)) = (file.origin, file.path.last()) else {
                return Err(None);
            };
            if !has_image_extension(name) {
                let skipped = |reason| Skipped { name: file.path.join("/"), reason };
                is_image(name, &path, &limits).map_err(|reason| reason.map(skipped))?;
            }
            Ok(path)
        };
        let mut found = Vec::with_capacity(files.len());
        for result in files.into_par_iter().map(judged).collect::<Vec<_>>() {
            match result {
                Ok(path) => found.push(path),
                Err(other) => skipped.extend(other),
            }
        }
        let mut files = found;
        files.sort();
        skipped.sort_by(|a, b| a.name.cmp(&b.name));
        // A folder that links lead to is looked at once, under its first name.
        let (mut seen, mut real): (HashSet<PathBuf>, HashMap<PathBuf, PathBuf>) =
            Default::default();
        files.retain(|file| match (file.parent(), file.file_name()) {
            (Some(folder), Some(name)) => {
                let known = real.entry(folder.to_path_buf());
                let folder =
                    known.or_insert_with_key(|f| f.canonicalize().unwrap_or_else(|_| f.clone()));
                seen.insert(folder.join(name))
            }
            _ => true,
        });
        Ok(ImageFiles { files, skipped })
    }
}

/// Whether a file of this name below a folder of images counts as one: by its ending, and as no name on the way is hidden.
pub fn is_image_file(name: &str) -> bool {
    has_image_extension(name) && !name.split('/').any(is_hidden)
}

struct Walk {
    tree: Tree,
    room: Room,
    /// The real paths of the folders from the root to the one at hand, and the names of those below the root.
    above: Vec<PathBuf>,
    names: Vec<String>,
    /// How often each folder, by its real path, was come to.
    ways: HashMap<PathBuf, usize>,
}

impl Walk {
    fn folder(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).map_err(Error::io("list folder", folder))? {
            let entry = entry.map_err(Error::io("list folder", folder))?;
            let name = of_name(&entry.file_name());
            if is_hidden(&name) {
                continue;
            }
            self.names.push(name);
            self.entry(entry.path())?;
            self.names.pop();
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf) -> Result<()> {
        let bytes = room::path(&self.names) + path.as_os_str().len() as u64;
        self.room.take(bytes).map_err(|found| {
            let hint = "give a part of it, or a manifest (.csv) of its files";
            Error::format(&self.tree.root, "a folder of images", found, hint)
        })?;
        // `metadata` follows links; a link to nothing, or in a circle of links, fails here.
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                let real = fs::canonicalize(&path).map_err(Error::io("open folder", &path))?;
                let ways = self.ways.entry(real.clone()).or_default();
                *ways += 1;
                let reason = if self.names.len() > MAX_DEPTH {
                    format!("nested more than {MAX_DEPTH} folders deep")
                } else if self.above.contains(&real) {
                    "a link to a folder that contains it".to_string()
                } else if *ways > MOST_WAYS {
                    format!("a folder that more than {MOST_WAYS} links lead to")
                } else {
                    self.tree.folders.push(self.names.clone());
                    self.above.push(real);
                    self.folder(&path)?;
                    self.above.pop();
                    return Ok(());
                };
                self.skip(reason);
            }
            Ok(meta) if meta.is_file() => {
                let file = File { path: self.names.clone(), origin: Origin::Disk(path) };
                self.tree.files.push(file);
            }
            Ok(meta) => self.skip(file_kind::kind(meta.file_type()).to_string()),
            Err(error) => {
                if self.names.last().is_some_and(|name| has_image_extension(name)) {
                    self.skip(format!("a file that cannot be read ({error})"));
                }
            }
        }
        Ok(())
    }

    fn skip(&mut self, reason: String) {
        self.tree.skipped.push(Skipped { name: self.names.join("/"), reason });
    }
}
