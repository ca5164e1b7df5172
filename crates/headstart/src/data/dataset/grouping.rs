//! Which images belong together, so that no split tears them apart.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Subset;
use crate::data::alike::{Look, compare};
use crate::error::{Error, Result};

/// What makes a group of images. Its text is `folder`, `duplicates` or the name of a column; `column:folder` is a column that
/// is called so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grouping {
    /// An equal cell in this column of the table that lists the images. An image with an empty cell is a group of its own.
    Column(String),
    /// The same path of folders below the class folder, also below another class: `plant07` of `roses/plant07/1.jpg` and
    /// `tulips/plant07/1.jpg`. Of a table's images it is the folder in their path. An image that is directly in
    /// the class folder is a group of its own.
    Folder,
    /// Looking the same, as `headstart data check` finds exact and near duplicates.
    Duplicates,
}

const FOLDER: &str = "folder";
const DUPLICATES: &str = "duplicates";
const COLUMN: &str = "column:";

impl FromStr for Grouping {
    type Err = Error;

    fn from_str(text: &str) -> Result<Grouping> {
        let column = text.strip_prefix(COLUMN).unwrap_or(text).trim();
        match text {
            FOLDER => Ok(Grouping::Folder),
            DUPLICATES => Ok(Grouping::Duplicates),
            _ if column.is_empty() => {
                let expected = "a column's name, folder or duplicates";
                Err(Error::invalid("group", expected, format!("{text:?}"), ""))
            }
            _ => Ok(Grouping::Column(column.into())),
        }
    }
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grouping::Folder => f.write_str(FOLDER),
            Grouping::Duplicates => f.write_str(DUPLICATES),
            Grouping::Column(name) => match name.parse() {
                Ok(Grouping::Column(same)) if same == *name => f.write_str(name),
                _ => write!(f, "{COLUMN}{name}"),
            },
        }
    }
}

impl From<Grouping> for String {
    fn from(grouping: Grouping) -> String {
        grouping.to_string()
    }
}

impl TryFrom<String> for Grouping {
    type Error = Error;

    fn try_from(text: String) -> Result<Grouping> {
        text.parse()
    }
}

/// What a source says of groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Keys {
    /// Nothing.
    #[default]
    None,
    /// Names are paths, in which a group's folders follow after this many others.
    Folders(usize),
    /// Of a table: cells of the column that was asked for, by name of the image; names are paths.
    Table(HashMap<String, String>),
}

/// The group of each of `images`, all those of the data set at `root`, as a number. Groups that have a name are numbered in
/// the order of these: by value where all are whole numbers, else by code point. Images of no group follow.
///
/// # Errors
/// If the source has no such groups.
pub(super) fn groups(
    grouping: &Grouping,
    images: &Subset,
    keys: &Keys,
    root: &Path,
) -> Result<Vec<usize>> {
    let what = || format!("--group {grouping} for {}", root.display());
    let names = (0..images.len()).map(|i| images.name(i));
    let own: Vec<Option<String>> = match (grouping, keys) {
        (Grouping::Duplicates, _) => return Ok(duplicates(images)),
        (Grouping::Folder, Keys::Folders(above)) => {
            names.map(|name| folder(name, *above)).collect()
        }
        (Grouping::Folder, Keys::Table(_)) => names.map(|name| folder(name, 0)).collect(),
        (Grouping::Folder, Keys::None) => {
            let expected = "a folder, an archive of one, or a table of paths";
            let hint = "--group duplicates needs no folders";
            return Err(Error::invalid(what(), expected, "images without folders", hint));
        }
        (Grouping::Column(_), Keys::Table(cells)) => {
            names.map(|name| cells.get(name).cloned()).collect()
        }
        (Grouping::Column(_), _) => {
            let expected = "a table of images with this column (.csv, .tsv, .parquet)";
            let hint = "--group folder and --group duplicates need no table";
            return Err(Error::invalid(what(), expected, "no table", hint));
        }
    };
    if own.iter().all(Option::is_none) && !own.is_empty() {
        let (expected, found, hint) = match grouping {
            Grouping::Folder => (
                "folders below the class folders, such as roses/plant07/1.jpg",
                "images directly in the class folders",
                "put the images of each plant, person or scene into a folder of its own",
            ),
            _ => ("a cell for some images", "empty cells only", "name another column"),
        };
        return Err(Error::invalid(what(), expected, found, hint));
    }
    Ok(numbered(&own))
}

/// The folders in a path after the first `above`, if there are any.
fn folder(name: &str, above: usize) -> Option<String> {
    let slashed = name.replace('\\', "/");
    let parts: Vec<&str> = slashed.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    let (_, folders) = parts.split_last()?;
    let own = folders.get(above..).filter(|own| !own.is_empty())?;
    Some(own.join("/"))
}

/// What groups are ordered and told apart by: numbers by value, whatever zeros they begin with.
fn key(name: &str, is_numbers: bool) -> (i64, &str) {
    match name.parse() {
        Ok(number) if is_numbers => (number, ""),
        _ => (0, name),
    }
}

fn numbered(own: &[Option<String>]) -> Vec<usize> {
    let is_numbers = own.iter().flatten().all(|name| name.parse::<i64>().is_ok());
    let mut numbers: BTreeMap<(i64, &str), usize> =
        own.iter().flatten().map(|name| (key(name, is_numbers), 0)).collect();
    numbers.values_mut().enumerate().for_each(|(i, number)| *number = i);
    let mut next = numbers.len();
    let mut alone = || {
        next += 1;
        next - 1
    };
    own.iter()
        .map(|name| {
            let known = name.as_ref().and_then(|name| numbers.get(&key(name, is_numbers)).copied());
            known.unwrap_or_else(&mut alone)
        })
        .collect()
}

/// Groups of images that look the same. One that cannot be read is a group of its own.
fn duplicates(images: &Subset) -> Vec<usize> {
    let look = |i: usize| {
        let file = images.read(i).ok()?;
        Look::of(&file.image, file.hash).ok()
    };
    let looks: Vec<Option<Look>> = (0..images.len()).into_par_iter().map(look).collect();
    let read: Vec<usize> = (0..looks.len()).filter(|&i| looks[i].is_some()).collect();
    let some: Vec<&Look> = looks.iter().flatten().collect();
    let joined = compare(&some).joined(some.len());
    let mut keys: Vec<usize> = (0..looks.len()).map(|i| looks.len() + i).collect();
    read.iter().zip(joined).for_each(|(&i, group)| keys[i] = group);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grouping_is_its_text() {
        for (text, grouping) in [
            ("folder", Grouping::Folder),
            ("duplicates", Grouping::Duplicates),
            ("patient", Grouping::Column("patient".into())),
            ("column:folder", Grouping::Column("folder".into())),
        ] {
            assert_eq!(text.parse::<Grouping>().unwrap(), grouping);
            assert_eq!(grouping.to_string(), text);
        }
        let odd = Grouping::Column("column:x".into());
        assert_eq!(odd.to_string().parse::<Grouping>().unwrap(), odd);
        for bad in ["", " ", "column:"] {
            assert!(bad.parse::<Grouping>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn groups_are_numbered_by_value_and_images_without_one_follow() {
        let own = |texts: &[&str]| -> Vec<Option<String>> {
            texts.iter().map(|t| (!t.is_empty()).then(|| t.to_string())).collect()
        };
        assert_eq!(numbered(&own(&["10", "9", "", "09", "-1", ""])), [2, 1, 3, 1, 0, 4]);
        assert_eq!(numbered(&own(&["b", "a10", "a9", "b"])), [2, 0, 1, 2]);
    }

    #[test]
    fn folders_are_those_below_the_class() {
        let of = |name: &str, above| folder(name, above);
        assert_eq!(of("roses/plant07/1.jpg", 1).as_deref(), Some("plant07"));
        assert_eq!(of("train/roses/bed/7/1.jpg", 2).as_deref(), Some("bed/7"));
        assert_eq!(of("roses/1.jpg", 1), None);
        assert_eq!(of(".\\a\\1.jpg", 0).as_deref(), Some("a"));
        assert_eq!(of("1.jpg", 0), None);
    }
}
