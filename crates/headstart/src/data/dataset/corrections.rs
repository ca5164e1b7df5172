//! Labels of an image folder that were mended: `corrections.csv` in the folder that is opened. Files stay
//! where they are. A row has the path of an image, below that folder, and the class that it is of, or none where it is left
//! out.
//!
//! ```
//! use headstart::dataset::{Corrections, DataOptions, open};
//! use headstart::image::{Rgb8, picture};
//!
//! let folder = tempfile::tempdir()?;
//! for (name, grey) in [("day/1.png", 250), ("day/2.png", 240), ("day/3.png", 9), ("night/1.png", 8)] {
//!     let path = folder.path().join(name);
//!     std::fs::create_dir_all(path.parent().unwrap())?;
//!     std::fs::write(path, picture::png(&Rgb8::new(2, 2, vec![grey; 12])?)?)?;
//! }
//! let mut corrections = Corrections::read(folder.path())?;
//! corrections.set("day/3.png", Some("night"));
//! corrections.set("day/2.png", None);
//! corrections.write()?;
//! let data = open(folder.path(), &DataOptions { validation_split: 0.0, ..DataOptions::default() })?;
//! assert_eq!(data.train.class_counts(), [1, 2]);
//! assert_eq!(data.skipped[0].reason, "left out by corrections.csv");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::manifest::{Row, text_rows};
use super::room::Room;
use super::tree::{Layout, not_known};
use super::{Limits, Skipped};
use crate::atomic::write_bytes;
use crate::error::{Error, Result};
use crate::memory::{self, Claim};
use crate::nearest::one_of;
use crate::text::{composed, is_same, of_path};

/// The name of the file.
pub const CORRECTIONS: &str = "corrections.csv";
/// Why an image is left out.
const LEFT_OUT: &str = "left out by corrections.csv";
/// Longest file.
const LONGEST: u64 = 64 << 20;
const HEAD: [&str; 2] = ["path", "class"];

/// The corrections of an image folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corrections {
    file: PathBuf,
    rows: BTreeMap<String, Option<String>>,
}

/// A row's path as images are named: below the folder, with `/` and without `.`.
fn plain(root: &Path, path: &str) -> String {
    // Windows wrote the table.
    let windows = path.contains('\\') && !root.join(path).exists();
    let path = if windows { path.replace('\\', "/") } else { path.to_string() };
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    composed(&parts.join("/")).into_owned()
}

impl Corrections {
    /// Those of the folder `root`; none where it has no such file.
    ///
    /// # Errors
    /// If the file cannot be read, or is no table of paths and classes.
    pub fn read(root: impl AsRef<Path>) -> Result<Corrections> {
        let file = root.as_ref().join(CORRECTIONS);
        let mut rows = BTreeMap::new();
        // A folder of this name is a class.
        if !file.exists() || file.is_dir() {
            return Ok(Corrections { file, rows });
        }
        let mut claim = Claim::default();
        let bytes = memory::read(&file, LONGEST, &mut claim)?;
        claim.parse_records(bytes.len()).map_err(|over| over.of(&file))?;
        let bad = |found: String| {
            let hint = "a row is an image's path below this folder and its class, or no class to leave it out";
            Error::format(&file, "a table with the columns path and class", found, hint)
        };
        let table = text_rows(&file, &bytes, None, &mut Room::new(&Limits::default()));
        let table = table.map_err(|error| match error {
            Error::Format { found, .. } => bad(found),
            other => other,
        })?;
        for Row { path, label, .. } in table.rows {
            let class = Some(composed(&label).into_owned()).filter(|class| !class.is_empty());
            let path = plain(root.as_ref(), &path);
            let said = |class: &Option<String>| class.clone().unwrap_or_else(|| "none".to_string());
            match rows.get(&path) {
                Some(other) if *other != class => {
                    let found = format!("both {} and {} for {path}", said(other), said(&class));
                    let hint = "leave one of the rows out";
                    return Err(Error::format(&file, "one class for each image", found, hint));
                }
                _ => drop(rows.insert(path, class)),
            }
        }
        Ok(Corrections { file, rows })
    }

    /// Says that the image at `path`, below the folder, is of `class`, or is left out.
    pub fn set(&mut self, path: &str, class: Option<&str>) {
        let class = class.map(|class| composed(class).into_owned());
        self.rows.insert(composed(path).into_owned(), class);
    }

    /// Takes back what was said of an image; whether there was something.
    pub fn undo(&mut self, path: &str) -> bool {
        self.rows.remove(composed(path).as_ref()).is_some()
    }

    /// Every path in order, with its class; none where it is left out.
    pub fn rows(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.rows.iter().map(|(path, class)| (path.as_str(), class.as_deref()))
    }

    /// Writes the file, or removes it where there is nothing to say.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self) -> Result<()> {
        if self.rows.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::io("remove", &self.file)(e))
                }
                _ => Ok(()),
            };
        }
        let mut table = csv::Writer::from_writer(Vec::new());
        let rows = self.rows.iter().map(|(path, class)| [path, class.as_deref().unwrap_or("")]);
        let written = std::iter::once(HEAD).chain(rows).try_for_each(|row| table.write_record(row));
        let bytes = written
            .map_err(|e| e.to_string())
            .and_then(|()| table.into_inner().map_err(|e| e.to_string()));
        let failed = |e: String| Error::format(&self.file, "a table", e, "");
        write_bytes(&self.file, &bytes.map_err(failed)?)
    }

    /// Labels images as the rows say, and leaves out those that they leave out. A model's classes are `known`: images of
    /// others are left out, too.
    ///
    /// # Errors
    /// If a row names a class that the data does not have.
    pub(super) fn apply(&self, layout: &mut Layout, known: bool) -> Result<()> {
        let root = self.file.parent().unwrap_or(Path::new(""));
        // The folder that holds the classes may be the only one in the folder that is opened.
        let above = layout.root.strip_prefix(root).map(of_path).unwrap_or_default();
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut unused = self.rows.clone();
        let (classes, skipped) = (&layout.classes, &mut layout.skipped);
        let mut failed = None;
        layout.items.retain_mut(|item| {
            let name =
                if above.is_empty() { item.name.clone() } else { format!("{above}/{}", item.name) };
            let Some(class) = unused.remove(composed(&name).as_ref()) else { return true };
            let reason = match class {
                None => LEFT_OUT.to_string(),
                Some(class) => match classes.iter().position(|c| is_same(c, &class)) {
                    Some(label) => {
                        item.label = label;
                        return true;
                    }
                    None if known => not_known(&class, classes),
                    None => {
                        failed = failed.take().or(Some((item.name.clone(), class)));
                        return true;
                    }
                },
            };
            skipped.push(Skipped { name: item.name.clone(), reason });
            false
        });
        if let Some((path, class)) = failed {
            let found = format!("{class} for {path}");
            let hint = one_of("the classes", &class, classes);
            return Err(Error::format(&self.file, "classes of the data", found, hint));
        }
        if let Some((path, _)) = unused.first_key_value() {
            let count = unused.len();
            layout.warnings.push(format!(
                "{CORRECTIONS}: {count} of its {} images are not there, such as {path}",
                self.rows.len()
            ));
        }
        Ok(())
    }
}
