//! Splits and folds against scikit-learn's rows (`golden/split/generate.py`, and `by.py` for those by class and by group).

use headstart::split::{
    RandomState, Split, group_kfold, group_train_test_split, kfold, stratified_group_kfold,
    stratified_group_train_test_split, stratified_kfold, stratified_train_test_split,
    train_test_split,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn rows(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

fn digest(rows: &[usize]) -> String {
    let mut hash = Sha256::new();
    for &row in rows {
        hash.update(u32::try_from(row).unwrap().to_le_bytes());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn every_row_is_where_scikit_learn_puts_it() {
    let path = format!("{}/tests/golden/split/split.json", env!("CARGO_MANIFEST_DIR"));
    let doc: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = doc["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 7);
    for case in cases {
        let n = case["n"].as_u64().unwrap() as usize;
        let seed = u32::try_from(case["seed"].as_u64().unwrap()).unwrap();
        let split = train_test_split(n, case["test_size"].as_f64().unwrap(), seed).unwrap();
        for (name, side) in [("train", &split.train), ("test", &split.test)] {
            let what = format!("n {n} seed {seed} {name}");
            assert_eq!(side.len() as u64, case[format!("n_{name}")].as_u64().unwrap(), "{what}");
            let few = side.len().min(8);
            assert_eq!(side[..few], rows(&case[format!("{name}_first")]), "{what}");
            assert_eq!(side[side.len() - few..], rows(&case[format!("{name}_last")]), "{what}");
            assert_eq!(digest(side), case[format!("{name}_sha256")].as_str().unwrap(), "{what}");
            if !case[name].is_null() {
                assert_eq!(*side, rows(&case[name]), "{what}");
            }
        }
    }
}

/// `repeat(arange(len(counts)), counts)` in the order of a permutation.
fn arranged(case: &Value, key: &str, order: u32) -> Vec<usize> {
    if case[key].is_null() {
        return Vec::new();
    }
    let counts = rows(&case[key]);
    let values: Vec<usize> =
        counts.iter().enumerate().flat_map(|(value, &count)| vec![value; count]).collect();
    RandomState::new(order).permutation(values.len()).into_iter().map(|i| values[i]).collect()
}

#[test]
fn splits_and_folds_by_class_and_group_are_scikit_learns() {
    let path = format!("{}/tests/golden/split/by.json", env!("CARGO_MANIFEST_DIR"));
    let doc: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut seen = std::collections::BTreeMap::new();
    for case in doc["cases"].as_array().unwrap() {
        let what = case["what"].as_str().unwrap();
        let number = |key: &str| case[key].as_u64().unwrap();
        let (seed, order) = (number("seed") as u32, number("order") as u32);
        let labels = arranged(case, "counts", order);
        let shift = if labels.is_empty() { 0 } else { 1 };
        let groups = arranged(case, "sizes", order + shift);
        let folds = case["folds"].as_u64().unwrap_or(0) as usize;
        let size = case["size"].as_f64().unwrap_or(0.0);
        let two = |split: Split| (digest(&split.train), digest(&split.test), split.test);
        let one = |fold: Vec<usize>| (String::new(), digest(&fold), Vec::new());
        let found = match what {
            "stratify" => stratified_train_test_split(&labels, size, seed).map(two),
            "group" => group_train_test_split(&groups, size, seed).map(two),
            "stratify, group" => {
                stratified_group_train_test_split(&labels, &groups, size, seed).map(two)
            }
            "k-fold" => kfold(labels.len(), folds, seed).map(one),
            "stratified k-fold" => stratified_kfold(&labels, folds, seed).map(one),
            "group k-fold" => group_kfold(&groups, folds, seed).map(one),
            "stratified group k-fold" => {
                stratified_group_kfold(&labels, &groups, folds, seed).map(one)
            }
            other => panic!("{other}"),
        };
        let bad = case["error"] == true;
        *seen.entry((what, bad)).or_insert(0) += 1;
        let (train, test, rows_of_test) = match found {
            Err(_) if bad => continue,
            Ok(found) if !bad => found,
            other => panic!("{case}: {other:?}"),
        };
        if case["fold"].is_null() {
            assert_eq!(rows_of_test[..4.min(rows_of_test.len())], rows(&case["first"]), "{case}");
            assert_eq!(train[..16], case["train"].as_str().unwrap()[..], "{case}");
            assert_eq!(test[..16], case["test"].as_str().unwrap()[..], "{case}");
        } else {
            assert_eq!(test[..16], case["fold"].as_str().unwrap()[..], "{case}");
        }
    }
    for (what, least) in [("stratify", 40), ("group", 10), ("stratified group k-fold", 40)] {
        assert!(seen[&(what, false)] >= least && seen[&(what, true)] > 0, "{seen:?}");
    }
}
