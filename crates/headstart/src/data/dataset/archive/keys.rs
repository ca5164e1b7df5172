//! Whose a label of a WebDataset shard is.
//!
//! As in webdataset, files are of one sample that have one key, the path up to the first dot of the file name: `a.jpg`,
//! `a.left.png` and `a.cls`. With names that have a dot of their own, such as `IMG_2020.0.jpg` and `IMG_2020.0.cls`, one key
//! would have several images and several labels. There a label is that of the image with the same name up to the last dot.

use std::collections::BTreeMap;

/// Texts of the labels of a shard.
#[derive(Default)]
pub(crate) struct Labels(BTreeMap<Vec<String>, OfKey>);

/// The labels of one key.
#[derive(Default)]
struct OfKey {
    /// File name and text by the name up to the last dot.
    by_stem: BTreeMap<String, (String, String)>,
    /// Names of two that say different things.
    differ: Option<[String; 2]>,
}

/// The path of a file up to the first dot of its name.
fn key(path: &[String]) -> Vec<String> {
    let mut key = path.to_vec();
    if let Some(name) = key.last_mut() {
        name.truncate(name.find('.').unwrap_or(name.len()));
    }
    key
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

impl Labels {
    /// Whether there is no label at all, which is no shard.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in the text of the file at `path`. A file that comes again replaces what was there, as when an archive is
    /// unpacked; fails where another file names the same image, with both names.
    pub fn insert(&mut self, path: &[String], text: String) -> Result<(), [String; 2]> {
        let Some(name) = path.last() else { return Ok(()) };
        let all = self.0.entry(key(path)).or_default();
        if let Some((other, said)) = all.by_stem.get(stem(name))
            && other != name
            && *said != text
        {
            return Err([other.clone(), name.clone()]);
        }
        let first = all.by_stem.values().next();
        if let Some((other, said)) = first.filter(|first| first.0 != *name)
            && *said != text
        {
            all.differ.get_or_insert_with(|| [other.clone(), name.clone()]);
        }
        all.by_stem.insert(stem(name).to_string(), (name.clone(), text));
        Ok(())
    }

    /// The label of an image; none where it has none, and the names of two where it is not clear which one is its.
    pub fn of(&self, image: &[String]) -> Result<Option<&str>, [String; 2]> {
        let key = key(image);
        let (Some(all), Some(name), Some(short)) = (self.0.get(&key), image.last(), key.last())
        else {
            return Ok(None);
        };
        if let Some((_, text)) = all.by_stem.get(stem(name)) {
            return Ok(Some(text));
        }
        match (&all.differ, all.by_stem.get(short)) {
            (Some(two), _) => Err(two.clone()),
            (None, Some((_, text))) => Ok(Some(text)),
            // Of another image.
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('/').map(String::from).collect()
    }

    fn labels(all: &[(&str, &str)]) -> Labels {
        let mut labels = Labels::default();
        all.iter().for_each(|(name, text)| labels.insert(&path(name), (*text).into()).unwrap());
        labels
    }

    #[test]
    fn a_label_is_that_of_all_images_of_its_key() {
        let all = labels(&[("x/a.cls", "1"), ("b.cls", "2")]);
        for (image, label) in [
            ("x/a.jpg", Some("1")),
            ("x/a.left.png", Some("1")),
            ("b.seg.v2.png", Some("2")),
            ("a.jpg", None),
            ("x/b.jpg", None),
        ] {
            assert_eq!(all.of(&path(image)), Ok(label), "{image}");
        }
        assert!(!all.is_empty() && Labels::default().is_empty());
    }

    #[test]
    fn names_with_dots_have_labels_of_their_own() {
        let all = labels(&[("I.0.cls", "a"), ("I.1.cls", "b"), ("D.7.cls", "a")]);
        assert_eq!(all.of(&path("I.0.png")), Ok(Some("a")));
        assert_eq!(all.of(&path("I.1.JPG")), Ok(Some("b")));
        assert_eq!(all.of(&path("D.7.png")), Ok(Some("a")));
        // One that is another image's is nobody else's.
        assert_eq!(all.of(&path("D.8.png")), Ok(None));
        let two = ["I.0.cls".to_string(), "I.1.cls".to_string()];
        assert_eq!(all.of(&path("I.2.png")), Err(two.clone()));
        assert_eq!(all.of(&path("I.png")), Err(two));
        // A label of the key and labels of its images.
        let all = labels(&[("I.cls", "a"), ("I.1.cls", "b")]);
        assert_eq!(all.of(&path("I.png")), Ok(Some("a")));
        assert_eq!(all.of(&path("I.1.png")), Ok(Some("b")));
        assert!(all.of(&path("I.2.png")).is_err());
        let all = labels(&[("I.cls", "a"), ("I.1.cls", "a")]);
        assert_eq!(all.of(&path("I.2.png")), Ok(Some("a")));
    }

    #[test]
    fn a_file_that_comes_again_counts_and_another_of_the_same_name_is_refused() {
        let mut all = labels(&[("a.cls", "1"), ("a.cls", "2")]);
        assert_eq!(all.of(&path("a.png")), Ok(Some("2")));
        assert_eq!(all.of(&path("a.left.png")), Ok(Some("2")));
        let two = ["a.cls".to_string(), "a.CLS".to_string()];
        assert_eq!(all.insert(&path("a.CLS"), "3".into()), Err(two));
        assert_eq!(all.insert(&path("a.CLS"), "2".into()), Ok(()));
    }
}
