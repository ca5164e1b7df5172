//! Predictions for images, as .csv, .json, .jsonl or .parquet.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};

use super::ending;
use crate::atomic::{write_atomic, write_bytes};
use crate::error::{Error, Result};
use crate::text::{JsonWriter, cell};

/// The prediction where no class is probable enough.
pub const UNKNOWN: &str = "unknown";

/// The prediction for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Its path.
    pub image: String,
    /// The most probable class, or [`UNKNOWN`].
    pub class: String,
    /// Its position in the model's list of classes, from 0; none for [`UNKNOWN`].
    pub index: Option<usize>,
    /// The greatest probability.
    pub probability: f32,
    /// The most probable classes, in falling order.
    pub top: Vec<Choice>,
    /// What is known of the image, where it is labelled.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub truth: Option<Truth>,
}

/// The label of an image beside its prediction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Truth {
    /// The part of the data set that it is in: "train", "validation", "test", or "all".
    pub split: &'static str,
    /// The class that it is of.
    pub label: String,
    /// Its position in the model's list of classes, from 0.
    pub label_index: usize,
    /// Its probability.
    pub label_probability: f32,
    /// Whether it is the most probable class.
    pub correct: bool,
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Class name.
    pub class: String,
    /// Its position in the model's list of classes, from 0.
    pub index: usize,
    /// Its probability.
    pub probability: f32,
}

/// The class and its probability: "tulip 0.9312".
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.4}", self.class, self.probability)
    }
}

impl Prediction {
    /// The prediction for an image; `choices` are its most probable classes, at least one. Where the first is
    /// less probable than `threshold`, the prediction is [`UNKNOWN`].
    pub fn new(image: String, choices: Vec<Choice>, threshold: f32) -> Prediction {
        let probability = choices.first().map_or(0.0, |c| c.probability);
        let (class, index) = match choices.first() {
            Some(c) if c.probability >= threshold => (c.class.clone(), Some(c.index)),
            _ => (UNKNOWN.to_string(), None),
        };
        Prediction { image, class, index, probability, top: choices, truth: None }
    }
}

/// What the ending of a file's name means.
enum Kind {
    Csv,
    Json,
    Jsonl,
    Parquet,
}

fn kind(path: &Path) -> Result<Kind> {
    match ending::of(path).as_str() {
        "csv" => Ok(Kind::Csv),
        "json" => Ok(Kind::Json),
        "jsonl" => Ok(Kind::Jsonl),
        "parquet" => Ok(Kind::Parquet),
        _ => Err(Error::invalid(
            path.display().to_string(),
            "a name that ends in .csv, .json, .jsonl or .parquet",
            "another ending",
            "",
        )),
    }
}

/// Checks that the ending of a file's name is one of [`write_predictions`].
///
/// # Errors
/// If it does not.
pub fn check_predictions_ending(path: impl AsRef<Path>) -> Result<()> {
    kind(path.as_ref()).map(|_| ())
}

/// Writes predictions in the format that the file's ending names, completely or not at all.
///
/// `.json` is an array and `.jsonl` a line for each of what `predict --json` prints; `.csv` and `.parquet` have the columns
/// image, class, index, probability, and class, index and probability of the second to last choice (class2, index2,
/// probability2, ...). Where images have labels, split, label, label_index, label_probability and correct (true or false)
/// follow probability. An index is the position in the model's list of classes, from 0, and empty or null for [`UNKNOWN`].
///
/// # Errors
/// If the ending is unknown or the file cannot be written.
pub fn write_predictions(path: impl AsRef<Path>, predictions: &[Prediction]) -> Result<()> {
    let path = path.as_ref();
    match kind(path)? {
        Kind::Csv => write_atomic(path, |out| csv(out, predictions)),
        Kind::Json => write_atomic(path, |out| {
            serde_json::to_writer_pretty(JsonWriter(&mut *out), predictions)?;
            out.write_all(b"\n")
        }),
        Kind::Jsonl => write_atomic(path, |out| {
            predictions.iter().try_for_each(|p| {
                serde_json::to_writer(JsonWriter(&mut *out), p)?;
                out.write_all(b"\n")
            })
        }),
        Kind::Parquet => {
            let bytes = parquet(predictions).map_err(|e| {
                let expected = "predictions that fit Parquet";
                Error::format(path, expected, e.to_string(), "")
            })?;
            write_bytes(path, &bytes)
        }
    }
}

fn most_choices(predictions: &[Prediction]) -> usize {
    predictions.iter().map(|p| p.top.len()).max().unwrap_or(1)
}

fn have_labels(predictions: &[Prediction]) -> bool {
    predictions.iter().any(|p| p.truth.is_some())
}

fn csv(out: &mut dyn Write, predictions: &[Prediction]) -> std::io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    let choices = most_choices(predictions);
    let mut head: Vec<String> = ["image", "class", "index", "probability"].map(Into::into).into();
    let labelled = have_labels(predictions);
    if labelled {
        head.extend(
            ["split", "label", "label_index", "label_probability", "correct"].map(Into::into),
        );
    }
    for rank in 2..=choices {
        head.extend(["class", "index", "probability"].map(|name| format!("{name}{rank}")));
    }
    writer.write_record(&head)?;
    for p in predictions {
        let index = p.index.map_or(String::new(), |index| index.to_string());
        let text = |text: &str| cell(text).into_owned();
        let mut row = vec![text(&p.image), text(&p.class), index, p.probability.to_string()];
        if labelled {
            row.extend(p.truth.as_ref().map_or_else(<[String; 5]>::default, |t| {
                let (index, p) = (t.label_index.to_string(), t.label_probability.to_string());
                [t.split.into(), text(&t.label), index, p, t.correct.to_string()]
            }));
        }
        for c in p.top.iter().skip(1) {
            row.extend([text(&c.class), c.index.to_string(), c.probability.to_string()]);
        }
        writer.write_record(&row)?;
    }
    writer.flush()
}

/// One row group, compressed with Snappy; ranks that an image lacks are null.
fn parquet(predictions: &[Prediction]) -> Result<Vec<u8>, ParquetError> {
    let ranks = 2..=most_choices(predictions);
    let optional = |k| {
        format!(
            "optional binary class{k} (UTF8); optional int32 index{k}; \
             optional float probability{k};"
        )
    };
    let labelled = have_labels(predictions);
    let label = match labelled {
        true => {
            "optional binary split (UTF8); optional binary label (UTF8); optional int32 label_index; optional float label_probability; \
             optional boolean correct;"
        }
        false => "",
    };
    let schema = parse_message_type(&format!(
        "message predictions {{ required binary image (UTF8); required binary class (UTF8); \
         optional int32 index; required float probability; {label} {} }}",
        ranks.clone().map(optional).collect::<String>()
    ))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let mut rows = file.next_row_group()?;
    column::<ByteArrayType>(&mut rows, predictions, false, |p| Some(text(&p.image)))?;
    column::<ByteArrayType>(&mut rows, predictions, false, |p| Some(text(&p.class)))?;
    column::<Int32Type>(&mut rows, predictions, true, |p| p.index.map(number))?;
    column::<FloatType>(&mut rows, predictions, false, |p| Some(p.probability))?;
    if labelled {
        let of = |p: &Prediction| p.truth.clone();
        column::<ByteArrayType>(&mut rows, predictions, true, |p| of(p).map(|t| text(t.split)))?;
        column::<ByteArrayType>(&mut rows, predictions, true, |p| of(p).map(|t| text(&t.label)))?;
        column::<Int32Type>(&mut rows, predictions, true, |p| {
            of(p).map(|t| number(t.label_index))
        })?;
        column::<FloatType>(&mut rows, predictions, true, |p| of(p).map(|t| t.label_probability))?;
        column::<BoolType>(&mut rows, predictions, true, |p| of(p).map(|t| t.correct))?;
    }
    for k in ranks {
        let class = |p: &Prediction| p.top.get(k - 1).map(|c| text(&c.class));
        column::<ByteArrayType>(&mut rows, predictions, true, class)?;
        let index = |p: &Prediction| p.top.get(k - 1).map(|c| number(c.index));
        column::<Int32Type>(&mut rows, predictions, true, index)?;
        let probability = |p: &Prediction| p.top.get(k - 1).map(|c| c.probability);
        column::<FloatType>(&mut rows, predictions, true, probability)?;
    }
    rows.close()?;
    file.into_inner()
}

fn text(text: &str) -> ByteArray {
    ByteArray::from(text)
}

/// A class's index; a model has at most a million.
fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

/// Writes the next column.
fn column<T: DataType>(
    rows: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    predictions: &[Prediction],
    optional: bool,
    of: impl Fn(&Prediction) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let values: Vec<Option<T::T>> = predictions.iter().map(of).collect();
    let given: Vec<i16> = values.iter().map(|v| v.is_some().into()).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    let Some(mut column) = rows.next_column()? else { return Ok(()) };
    column.typed::<T>().write_batch(&values, optional.then_some(&given[..]), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    fn predictions() -> Vec<Prediction> {
        let choice =
            |class: &str, index, probability| Choice { class: class.into(), index, probability };
        let top = vec![choice("a, \"b\"", 7, 0.75), choice("c", 0, 0.25)];
        vec![
            Prediction::new("x.png".into(), top.clone(), 0.75),
            Prediction::new("y.png".into(), top, 0.8),
        ]
    }

    #[test]
    fn every_format_holds_the_answers() {
        let folder = tempfile::tempdir().unwrap();
        let text = |name: &str| {
            let path = folder.path().join(name);
            write_predictions(&path, &predictions()).unwrap();
            std::fs::read_to_string(path).unwrap()
        };
        assert_eq!(
            text("p.csv"),
            "image,class,index,probability,class2,index2,probability2\n\
             x.png,\"a, \"\"b\"\"\",7,0.75,c,0,0.25\ny.png,unknown,,0.75,c,0,0.25\n"
        );
        let json: serde_json::Value = serde_json::from_str(&text("p.json")).unwrap();
        let lines = text("p.jsonl");
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(json, serde_json::Value::Array(lines));
        assert_eq!((&json[0]["class"], &json[1]["class"]), (&"a, \"b\"".into(), &UNKNOWN.into()));
        assert_eq!(json[1]["top"][0]["probability"], 0.75);
        assert_eq!((&json[0]["index"], &json[1]["index"]), (&7.into(), &serde_json::Value::Null));
        assert_eq!(
            (&json[1]["top"][0]["index"], &json[1]["top"][1]["index"]),
            (&7.into(), &0.into())
        );
        assert!(write_predictions(folder.path().join("p.txt"), &predictions()).is_err());
    }

    #[test]
    fn labels_are_columns_where_images_have_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut given = predictions();
        let truth = Truth {
            split: "test",
            label: "c".into(),
            label_index: 0,
            label_probability: 0.25,
            correct: false,
        };
        given[0].truth = Some(truth);
        let path = |name: &str| folder.path().join(name);
        for name in ["p.csv", "p.jsonl", "p.parquet"] {
            write_predictions(path(name), &given).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path("p.csv")).unwrap(),
            "image,class,index,probability,split,label,label_index,label_probability,correct,class2,index2,probability2\n\
             x.png,\"a, \"\"b\"\"\",7,0.75,test,c,0,0.25,false,c,0,0.25\ny.png,unknown,,0.75,,,,,,c,0,0.25\n"
        );
        let lines = std::fs::read_to_string(path("p.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> =
            lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((&lines[0]["label"], &lines[0]["correct"]), (&"c".into(), &false.into()));
        assert!(lines[1].get("label").is_none());
        let file = std::fs::File::open(path("p.parquet")).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let rows: Vec<Vec<(String, Field)>> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns()).collect();
        let labels =
            |row: &[(String, Field)]| row[4..9].iter().map(|f| f.1.clone()).collect::<Vec<_>>();
        let (text, p) = (Field::Str("c".into()), Field::Float(0.25));
        assert_eq!(
            labels(&rows[0]),
            [Field::Str("test".into()), text, Field::Int(0), p, Field::Bool(false)]
        );
        assert_eq!(
            labels(&rows[1]),
            [Field::Null, Field::Null, Field::Null, Field::Null, Field::Null]
        );
    }

    #[test]
    fn parquet_has_a_column_for_each_rank_and_nulls_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.parquet");
        let mut given = predictions();
        given[1].top.truncate(1);
        write_predictions(&path, &given).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        let rows: Vec<Vec<(String, Field)>> =
            reader.get_row_iter(None).unwrap().map(|row| row.unwrap().into_columns()).collect();
        let text = |text: &str| Field::Str(text.into());
        let row = |class: &str, index: Field, second: [Field; 3], name: &str| {
            let [class2, index2, probability2] = second;
            let first = [text(name), text(class), index, Field::Float(0.75)];
            let fields = first.into_iter().chain([class2, index2, probability2]);
            let names =
                ["image", "class", "index", "probability", "class2", "index2", "probability2"];
            names.map(String::from).into_iter().zip(fields).collect::<Vec<_>>()
        };
        let second = [text("c"), Field::Int(0), Field::Float(0.25)];
        assert_eq!(rows[0], row("a, \"b\"", Field::Int(7), second, "x.png"));
        let none = [Field::Null, Field::Null, Field::Null];
        assert_eq!(rows[1], row(UNKNOWN, Field::Null, none, "y.png"));
        assert_eq!(rows.len(), 2);
        write_predictions(&path, &[]).unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(reader.get_row_iter(None).unwrap().count(), 0);
    }
}
