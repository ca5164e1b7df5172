//! Feature vectors with their labels, as .safetensors, .npy or .csv.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};

use super::ending;
use crate::atomic::write_atomic;
use crate::error::{Error, Result};
use crate::text::cell;

/// One row per image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// Features per row.
    pub width: usize,
    /// All rows, `[images, width]` row-major.
    pub values: Vec<f32>,
    /// Class index of each image.
    pub labels: Vec<usize>,
    /// Path of each image.
    pub names: Vec<String>,
    /// Split of each image.
    pub splits: Vec<&'static str>,
    /// Class names.
    pub classes: Vec<String>,
}

/// What the ending of a file's name means.
enum Kind {
    Safetensors,
    Npy,
    Csv,
}

fn kind(path: &Path) -> Result<Kind> {
    match ending::of(path).as_str() {
        "safetensors" => Ok(Kind::Safetensors),
        "npy" => Ok(Kind::Npy),
        "csv" => Ok(Kind::Csv),
        _ => Err(Error::invalid(
            path.display().to_string(),
            "a name that ends in .safetensors, .npy or .csv",
            "another ending",
            "",
        )),
    }
}

/// Checks that the ending of a file's name is one of [`write_features`].
///
/// # Errors
/// If it is not.
pub fn check_ending(path: impl AsRef<Path>) -> Result<()> {
    kind(path.as_ref()).map(|_| ())
}

/// Writes features in the format that the file's ending names, completely or not at all.
///
/// `.safetensors` holds `features` (f32) and `labels` (i64), with class names and the images' paths and
/// splits as JSON in its metadata; `.npy` the features alone; `.csv` image, split, label, class and the numbers.
///
/// # Errors
/// If the ending is unknown or the file cannot be written.
pub fn write_features(path: impl AsRef<Path>, columns: &Columns) -> Result<()> {
    let path = path.as_ref();
    match kind(path)? {
        Kind::Safetensors => safetensors(path, columns),
        Kind::Npy => write_atomic(path, |out| npy(out, columns)),
        Kind::Csv => write_atomic(path, |out| csv(out, columns)),
    }
}

fn safetensors(path: &Path, c: &Columns) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::format(path, "features that can be written", e.to_string(), "")
    };
    let values: Vec<u8> = c.values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let labels: Vec<u8> = c.labels.iter().flat_map(|&l| (l as i64).to_le_bytes()).collect();
    let shape = vec![c.labels.len(), c.width];
    let features = TensorView::new(Dtype::F32, shape, &values).map_err(|e| failed(&e))?;
    let list = vec![c.labels.len()];
    let labels = TensorView::new(Dtype::I64, list, &labels).map_err(|e| failed(&e))?;
    let names = serde_json::json!({ "classes": c.classes, "images": c.names, "splits": c.splits });
    let names = names.to_string();
    // One key only: the library writes keys in no fixed order, and equal features are equal files.
    let metadata = HashMap::from([("headstart".into(), names)]);
    let file = serialize([("features", features), ("labels", labels)], Some(metadata))
        .map_err(|e| failed(&e))?;
    write_atomic(path, |out| out.write_all(&file))
}

/// NumPy's format, version 1.0.
fn npy(out: &mut dyn Write, c: &Columns) -> std::io::Result<()> {
    let (rows, width) = (c.labels.len(), c.width);
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    // The data starts at a multiple of 64.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    c.values.iter().try_for_each(|v| out.write_all(&v.to_le_bytes()))
}

fn csv(out: &mut dyn Write, c: &Columns) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    let mut head = ["image", "split", "label", "class"].map(String::from).to_vec();
    head.extend((0..c.width).map(|i| format!("f{i}")));
    writer.write_record(&head)?;
    for (i, row) in c.values.chunks_exact(c.width.max(1)).enumerate() {
        let label = c.labels[i];
        let text = |text: &str| cell(text).into_owned();
        let (name, split) = (text(&c.names[i]), c.splits[i].to_string());
        let mut record = vec![name, split, label.to_string(), text(&c.classes[label])];
        record.extend(row.iter().map(f32::to_string));
        writer.write_record(&record)?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_holds_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let columns = Columns {
            width: 2,
            values: vec![0.5, -1.0, 3.25, 1e-7],
            labels: vec![1, 0],
            names: vec!["d/a,b.png".into(), "d/c.png".into()],
            splits: vec!["test", "train"],
            classes: vec!["x".into(), "y".into()],
        };
        let path = |name: &str| folder.path().join(name);
        for name in ["f.csv", "f.npy", "f.safetensors"] {
            write_features(path(name), &columns).unwrap();
        }
        let text = std::fs::read_to_string(path("f.csv")).unwrap();
        let rows = "image,split,label,class,f0,f1\n\"d/a,b.png\",test,1,y,0.5,-1\nd/c.png,train,0,x,3.25,0.0000001\n";
        assert_eq!(text, rows);
        let npy = std::fs::read(path("f.npy")).unwrap();
        let data = npy.len() - 16;
        assert!(npy.starts_with(b"\x93NUMPY") && data.is_multiple_of(64));
        assert_eq!(npy[data..data + 4], 0.5f32.to_le_bytes());
        let file = std::fs::read(path("f.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(tensors.tensor("labels").unwrap().data()[..8], 1i64.to_le_bytes());
        assert_eq!(tensors.tensor("features").unwrap().shape(), [2, 2]);
        assert!(write_features(path("f.txt"), &columns).is_err());
    }
}
