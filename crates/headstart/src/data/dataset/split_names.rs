//! Words for the parts of a data set, in names of folders, shards and cells: `train`, `seg_train`, `val_images`, `TestSet`.

use super::tree::{Part, is_hidden};

const TRAIN: &[&str] = &["train", "training", "trn"];
const VALIDATION: &[&str] =
    &["val", "valid", "validation", "validate", "validating", "dev", "eval", "evaluation"];
const TEST: &[&str] = &["test", "testing", "tst", "holdout", "heldout"];
/// Words beside one of these that change nothing.
const BESIDE: &[&str] = &[
    "class", "classes", "data", "dataset", "dir", "files", "folder", "full", "image", "images",
    "img", "imgs", "photo", "photos", "pic", "pics", "picture", "pictures", "seg", "set", "sets",
    "split", "subset",
];

/// The part that a word means.
fn of_word(word: &str) -> Option<Part> {
    let word = word.strip_suffix("set").filter(|rest| !rest.is_empty()).unwrap_or(word);
    // COCO's train2017.
    let rest = word.trim_end_matches(|c: char| c.is_ascii_digit());
    let word = if word.len() - rest.len() == 4 { rest } else { word };
    let parts = [(TRAIN, Part::Train), (VALIDATION, Part::Validation), (TEST, Part::Test)];
    parts.into_iter().find(|(words, _)| words.contains(&word)).map(|(_, part)| part)
}

/// The words of a name in lower case: at signs, and where capital letters begin.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_is_lower = false;
    for c in name.chars() {
        let begins = !c.is_alphanumeric() || (c.is_uppercase() && before_is_lower);
        before_is_lower = c.is_lowercase();
        if begins {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(last) = words.last_mut()
        {
            last.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The part that a name means: one word for a part, and others only that change nothing.
pub(crate) fn part_of(name: &str) -> Option<Part> {
    let mut words = words(name);
    if let Some(at) =
        words.windows(2).position(|w| w[1] == "out" && matches!(&w[0][..], "hold" | "held"))
    {
        words.splice(at..at + 2, ["holdout".to_string()]);
    }
    words.retain(|word| !BESIDE.contains(&word.as_str()));
    match &words[..] {
        [only] => of_word(only),
        _ => None,
    }
}

/// What a folder of that name is taken for, if not for a class: a split, or one that is passed over.
///
/// ```
/// use headstart::dataset::no_class;
///
/// assert_eq!(no_class("val_images"), Some("a split of the data"));
/// assert_eq!(no_class(".git"), Some("hidden"));
/// assert_eq!(no_class("valley"), None);
/// ```
pub fn no_class(name: &str) -> Option<&'static str> {
    match part_of(name) {
        _ if is_hidden(name) => Some("hidden"),
        Some(_) => Some("a split of the data"),
        None => None,
    }
}

/// Words for images that are to be classified.
const UNLABELLED: &[&str] =
    &["pred", "predict", "prediction", "predictions", "submission", "unlabeled", "unlabelled"];

/// Words of what is drawn over images, or written about them.
const DRAWN: &[&str] = &["annotation", "annotations", "gt", "label", "labels", "mask", "masks"];

/// Whether a name says no more than that there are images, or what is drawn over them.
pub(super) fn is_plain(name: &str) -> bool {
    let words = words(name);
    let known = |word: &String| BESIDE.contains(&word.as_str()) || DRAWN.contains(&word.as_str());
    !words.is_empty() && words.iter().all(known)
}

/// The part that a folder is for, if others beside it have such names too: `train_224`, `valid2`.
pub(super) fn spelled(name: &str) -> Option<Part> {
    without_numbers(name, false)
}

/// The part that a folder may be meant for, by a name that is not clear enough to take it as one: `test1`, `valid_2`,
/// `seg_pred`.
pub(crate) fn may_be(name: &str) -> Option<Part> {
    without_numbers(name, true)
}

fn without_numbers(name: &str, unlabelled: bool) -> Option<Part> {
    let mut words = words(name);
    words.iter_mut().for_each(|word| {
        word.truncate(word.trim_end_matches(|c: char| c.is_ascii_digit()).len());
    });
    words.retain(|word| !word.is_empty() && !BESIDE.contains(&word.as_str()));
    match &words[..] {
        [only] if unlabelled && UNLABELLED.contains(&only.as_str()) => Some(Part::Test),
        [only] => of_word(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_be_meant_are_told_from_others() {
        for (name, part) in [
            ("test1", Part::Test),
            ("valid2", Part::Validation),
            ("val_2", Part::Validation),
            ("seg_pred", Part::Test),
            ("train12", Part::Train),
            ("unlabeled", Part::Test),
        ] {
            assert!(part_of(name).is_none() && may_be(name) == Some(part), "{name}");
        }
        for name in ["daisy", "test_tube", "fold1", "2", "", "train_station1"] {
            assert_eq!(may_be(name), None, "{name}");
        }
    }

    #[test]
    fn usual_spellings_are_known_and_names_of_classes_are_not() {
        for (part, names) in [
            (
                Part::Train,
                "train Training seg_train train_images images-train TRAIN trainset train2017 TrainImages train_data",
            ),
            (
                Part::Validation,
                "val valid validation validate dev eval valid_set val_images ValidationSet val2017 images.val",
            ),
            (
                Part::Test,
                "test Testing seg_test test_images holdout hold-out held_out test_set TestData testset",
            ),
        ] {
            for name in names.split(' ') {
                assert_eq!(part_of(name), Some(part), "{name}");
            }
        }
        for name in [
            "",
            "images",
            "daisy",
            "steam_train",
            "train_station",
            "fold1",
            "siteA",
            "masks",
            "test_tube",
            "train_val",
            "developer",
            "trainer",
            "set",
            "train12",
        ] {
            assert_eq!(part_of(name), None, "{name}");
        }
    }
}
