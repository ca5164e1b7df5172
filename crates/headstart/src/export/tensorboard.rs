//! TensorBoard event files: what Keras's `TensorBoard` callback writes for scalars.
//!
//! A log folder has `train`, `validation` and `test` below it, each with one file of TFRecords; a
//! record is a `tensorflow.Event` message (`tensorflow/core/util/event.proto`). Tags are Keras's
//! `epoch_loss`, `epoch_accuracy` and `epoch_learning_rate`, and `evaluation_*` for test images.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::measure::events::Event;

/// A log folder that `tensorboard --logdir` reads while it grows.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    files: BTreeMap<&'static str, (PathBuf, File)>,
    epochs: usize,
}

impl TensorBoard {
    /// Writes below `folder`, which is made when there is something to write. An evaluation before the next
    /// epoch is recorded at step `epochs`, the number of epochs that are done already.
    pub fn new(folder: impl Into<PathBuf>, epochs: usize) -> TensorBoard {
        TensorBoard { folder: folder.into(), files: BTreeMap::new(), epochs }
    }

    /// Writes the files again from the lines of events.jsonl, where a run that is resumed takes back what came after its last
    /// checkpoint. Lines of other events are passed over.
    ///
    /// # Errors
    /// If a file cannot be removed or written.
    pub fn again(&mut self, lines: &str) -> Result<()> {
        self.files.clear();
        for part in ["train", "validation", "test"] {
            for entry in fs::read_dir(self.folder.join(part)).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_name().to_string_lossy().contains(".headstart.") {
                    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                }
            }
        }
        for line in lines.lines() {
            let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
            let number = |key: &str| value[key].as_f64();
            match value["event"].as_str() {
                Some("epoch") => {
                    self.epochs = value["epoch"].as_u64().map_or(0, |epoch| epoch as usize);
                    let train = ["loss", "accuracy", "learning_rate"];
                    let train = train.map(|key| (format!("epoch_{key}"), number(key)));
                    let held_out = [
                        ("epoch_loss", number("val_loss")),
                        ("epoch_accuracy", number("val_accuracy")),
                        ("epoch_macro_f1", number("val_macro_f1")),
                    ];
                    let train: Vec<(&str, Option<f64>)> =
                        train.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                    self.append("train", &train)?;
                    self.append("validation", &held_out)?;
                }
                Some("evaluation") => {
                    let part = match value["split"].as_str() {
                        Some("test") => "test",
                        _ => "validation",
                    };
                    let scalars = [
                        ("evaluation_loss", number("loss")),
                        ("evaluation_accuracy", number("accuracy")),
                        ("evaluation_top5", number("top5")),
                    ];
                    self.append(part, &scalars)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Appends the scalars of a finished epoch or an evaluation; other events have none.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn record(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Epoch(e) => {
                self.epochs = e.epoch;
                let train = [
                    ("epoch_loss", Some(e.loss)),
                    ("epoch_accuracy", Some(e.accuracy)),
                    ("epoch_learning_rate", Some(e.learning_rate)),
                ];
                self.append("train", &train)?;
                let held_out = [
                    ("epoch_loss", e.val_loss),
                    ("epoch_accuracy", e.val_accuracy),
                    ("epoch_macro_f1", e.val_macro_f1),
                ];
                self.append("validation", &held_out)
            }
            Event::Evaluation { split, loss, accuracy, top5, .. } => {
                let scalars = [
                    ("evaluation_loss", Some(*loss)),
                    ("evaluation_accuracy", Some(*accuracy)),
                    ("evaluation_top5", Some(*top5)),
                ];
                self.append(split, &scalars)
            }
            _ => Ok(()),
        }
    }

    fn append(&mut self, part: &'static str, scalars: &[(&str, Option<f64>)]) -> Result<()> {
        let mut bytes = Vec::new();
        let seconds = seconds();
        for (tag, value) in scalars {
            if let Some(value) = value {
                record(&scalar(seconds, self.epochs, tag, *value as f32), &mut bytes);
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let (path, file) = match self.files.entry(part) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(open(&self.folder.join(part))?)
            }
        };
        file.write_all(&bytes).map_err(Error::io("write", &*path))
    }
}

/// A file of this process's own, with the event that says which version it is.
fn open(folder: &Path) -> Result<(PathBuf, File)> {
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let name = format!("events.out.tfevents.{:.0}.headstart.{}", seconds(), std::process::id());
    let path = folder.join(name);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(Error::io("create", &path))?;
    let mut event = Message::default();
    event.double(1, seconds());
    event.bytes(3, b"brain.Event:2");
    let mut bytes = Vec::new();
    record(&event.0, &mut bytes);
    file.write_all(&bytes).map_err(Error::io("write", &path))?;
    Ok((path, file))
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// `Event { wall_time: 1, step: 2, summary: 5 { value: 1 { tag: 1, simple_value: 2 } } }`
fn scalar(seconds: f64, step: usize, tag: &str, value: f32) -> Vec<u8> {
    let (mut inner, mut summary, mut event) =
        (Message::default(), Message::default(), Message::default());
    inner.bytes(1, tag.as_bytes());
    inner.float(2, value);
    summary.bytes(1, &inner.0);
    event.double(1, seconds);
    event.varint(2, step as u64);
    event.bytes(5, &summary.0);
    event.0
}

/// The wire format of a protocol buffer.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.number(field << 3);
        self.number(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.number(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.number(field << 3 | 2);
        self.number(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.number(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
    }
}

/// Appends a TFRecord: length, its checksum, data, its checksum.
fn record(data: &[u8], to: &mut Vec<u8>) {
    let length = (data.len() as u64).to_le_bytes();
    to.extend(length);
    to.extend(masked(&length).to_le_bytes());
    to.extend(data);
    to.extend(masked(data).to_le_bytes());
}

/// TFRecord's checksum: CRC-32C, turned and shifted (`tensorflow/core/lib/hash/crc32c.h`).
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that TensorFlow 2.21 wrote:
    /// `tf.io.TFRecordWriter` of
    /// `Event(wall_time=1.5, step=300, summary=Summary(value=[Summary.Value(tag="epoch_loss", simple_value=0.25)]))`.
    const GOLDEN: &str = "2100000000000000017becf609000000000000f83f10ac022a130a110a0a65706f63685f6c6f7373150000803ed2f16c2f";

    #[test]
    fn a_record_is_tensorflows_byte_for_byte() {
        let mut bytes = Vec::new();
        record(&scalar(1.5, 300, "epoch_loss", 0.25), &mut bytes);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }
}
