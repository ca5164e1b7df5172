//! Out-of-fold predictions as CSV.

use std::path::Path;

use crate::atomic::write_atomic;
use crate::error::{Error, Result};
use crate::measure::rank::argmax;
use crate::text::{cell, visible};

/// A row for each image: what a model predicts for it that was not trained on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutOfFold {
    /// What each image is called: a path that opens, or an archive and its member.
    pub files: Vec<String>,
    /// Class index of each image.
    pub labels: Vec<usize>,
    /// The fold of each image, from 1.
    pub folds: Vec<usize>,
    /// Class names.
    pub classes: Vec<String>,
    /// Class probabilities, `[images, classes]` row-major.
    pub probabilities: Vec<f32>,
}

/// Checks that a file's name ends in .csv.
///
/// # Errors
/// If it does not.
pub fn check_out_of_fold_ending(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match path.extension().is_some_and(|end| end.eq_ignore_ascii_case("csv")) {
        true => Ok(()),
        false => {
            let (expected, found) = ("a name that ends in .csv", "another ending");
            Err(Error::invalid(path.display().to_string(), expected, found, ""))
        }
    }
}

/// Writes a CSV, completely or not at all: file, label, predicted, fold, and a column `probability_CLASS` for each class.
///
/// # Errors
/// If the ending is another, or the file cannot be written.
pub fn write_out_of_fold(path: impl AsRef<Path>, rows: &OutOfFold) -> Result<()> {
    check_out_of_fold_ending(&path)?;
    let OutOfFold { files, labels, folds, classes, probabilities } = rows;
    let name = |class: usize| classes.get(class).map_or("", String::as_str);
    write_atomic(path, |out| {
        let mut writer = csv::Writer::from_writer(out);
        let head = ["file", "label", "predicted", "fold"].map(String::from);
        let columns = classes.iter().map(|class| format!("probability_{}", visible(class)));
        writer.write_record(head.into_iter().chain(columns))?;
        let rows = files.iter().zip(labels).zip(folds);
        for (((file, &label), fold), p) in
            rows.zip(probabilities.chunks_exact(classes.len().max(1)))
        {
            let texts = [file, name(label), name(argmax(p))].map(|text| cell(text).into_owned());
            let numbers = p.iter().map(f32::to_string);
            writer.write_record(texts.into_iter().chain([fold.to_string()]).chain(numbers))?;
        }
        writer.flush()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_file_label_prediction_fold_and_probabilities() {
        let folder = tempfile::tempdir().unwrap();
        let rows = OutOfFold {
            files: vec!["a/=1.png".into(), "=cmd.png".into()],
            labels: vec![0, 1],
            folds: vec![2, 1],
            classes: vec!["a, \"b\"".into(), "+c".into()],
            probabilities: vec![0.75, 0.25, 0.5, 0.5],
        };
        let path = folder.path().join("oof.csv");
        write_out_of_fold(&path, &rows).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "file,label,predicted,fold,\"probability_a, \"\"b\"\"\",probability_+c\n\
             a/=1.png,\"a, \"\"b\"\"\",\"a, \"\"b\"\"\",2,0.75,0.25\n\
             '=cmd.png,'+c,\"a, \"\"b\"\"\",1,0.5,0.5\n"
        );
        assert!(write_out_of_fold(folder.path().join("oof.txt"), &rows).is_err());
    }
}
