//! Words for the parts of a data set, in names of folders, shards and cells: `train`, `seg_train`, `val_images`, `TestSet`.

use super::tree::Part;

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

#[cfg(test)]
mod tests {
    use super::*;

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
