//! `train_test_split` against scikit-learn's rows (`golden/split/generate.py`).

use headstart::split::train_test_split;
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
