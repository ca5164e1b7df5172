//! How images are named to people: by paths that exist.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::tree::{Item, Origin};
use crate::text::of_path;

/// Where the names of a data set's images begin.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a folder; absolute names are themselves.
    Folder(PathBuf),
    /// Inside one file, or nowhere: the name follows this text.
    Inside(String),
    /// In shards below a folder: a name is `SHARD.tar/MEMBER`.
    Shards(PathBuf),
}

impl Place {
    /// The members of an archive below the folder `above` in it.
    pub fn archive(path: &Path, above: &str) -> Place {
        Place::Inside(format!("{}:{above}", of_path(path)))
    }

    /// What people call the image of that name: a path that opens, or a file and its member, `photos.tar:roses/1.jpg`.
    fn shown(&self, name: &str) -> String {
        match self {
            Place::Folder(folder) => below(folder, name),
            Place::Inside(before) => format!("{before}{name}"),
            Place::Shards(folder) => match name.split_once(".tar/") {
                Some((shard, member)) => {
                    format!("{}:{member}", below(folder, &format!("{shard}.tar")))
                }
                None => below(folder, name),
            },
        }
    }
}

/// The path of a name, which is visible as it is, below a folder.
fn below(folder: &Path, name: &str) -> String {
    Path::new(&of_path(folder)).join(name).display().to_string()
}

/// The names of a data set's images as people can use them.
pub(crate) struct Shown {
    place: Place,
    /// Paths that are spelt otherwise on disk, as with other forms of letters.
    others: HashMap<String, String>,
}

impl Shown {
    pub fn new(place: Place, items: &[Item]) -> Shown {
        let other = |item: &Item| {
            let Origin::Disk(path) = &item.origin else { return None };
            // A path that is no text, controls a terminal or looks like the name of such a one, is known by its visible name alone.
            let path = path.to_str().filter(|text| of_path(path) == *text)?;
            (place.shown(&item.name) != path).then(|| (item.name.clone(), path.to_string()))
        };
        let others = items.iter().filter_map(other).collect();
        Shown { place, others }
    }

    /// For images that are no files of their own, of a data set of that name.
    pub fn inside(name: &str) -> Shown {
        Shown { place: Place::Inside(format!("{name}:")), others: HashMap::new() }
    }

    /// What people call the image, file or folder of that name.
    pub fn of(&self, name: &str) -> Cow<'_, str> {
        match self.others.get(name) {
            Some(path) => path.into(),
            None => self.place.shown(name).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_or_members() {
        let folder = |path: &str| Place::Folder(path.into());
        assert_eq!(folder("photos").shown("roses/1.jpg"), "photos/roses/1.jpg");
        assert_eq!(folder("photos/").shown("roses/1.jpg"), "photos/roses/1.jpg");
        assert_eq!(folder("").shown("roses/1.jpg"), "roses/1.jpg");
        assert_eq!(folder("tables").shown("/data/1.jpg"), "/data/1.jpg");
        let archive = Place::archive(Path::new("a/b.tar.gz"), "photos/");
        assert_eq!(archive.shown("roses/1.jpg"), "a/b.tar.gz:photos/roses/1.jpg");
        let shards = Place::Shards("set".into());
        assert_eq!(shards.shown("train/0.tar/a/1.jpg"), "set/train/0.tar:a/1.jpg");
        assert_eq!(Shown::inside("sample").of("0042"), "sample:0042");
    }
}
