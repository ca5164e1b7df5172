//! `headstart merge`: results of parts, joined.

use std::path::Path;

use headstart::Error;
use headstart::atomic::write_bytes;
use headstart::export::parts::{Encoded, Parts, Row};
use headstart::export::{
    Choice, Columns, Prediction, check_ending, check_predictions_ending, write_features,
    write_predictions,
};
use headstart::inspect::{self, Looked};
use headstart::job;
use serde::Deserialize;

use super::data::options;
use super::shard::same_data;
use super::{check_output, hub};
use crate::args::Merge;
use crate::failure::Failure;
use crate::output;
use crate::output::note;

/// Joins parts of predict, features or data check.
pub fn run(args: &Merge) -> Result<(), Failure> {
    let parts = Parts::find(&args.parts)?;
    let head = &parts.head;
    let out = args.out.as_deref();
    check_output(out, &args.parts)?;
    match (head.command.as_str(), out) {
        ("predict", Some(out)) => predictions(&parts, out),
        ("features", Some(out)) => features(&parts, out),
        ("data check", out) => findings(args, &parts, out),
        ("predict" | "features", None) => {
            let expected = "a file for the results of all parts";
            Err(Failure::Usage(Error::invalid("--out", expected, "none", "")))
        }
        (other, _) => {
            let expected = "parts of predict, features or data check";
            Err(Error::invalid("parts", expected, format!("parts of {other}"), "").into())
        }
    }
}

/// A prediction as predict writes it.
#[derive(Deserialize)]
struct Predicted {
    image: String,
    class: String,
    index: Option<usize>,
    probability: f32,
    top: Vec<Choice>,
}

fn predictions(parts: &Parts, out: &Path) -> Result<(), Failure> {
    check_predictions_ending(out).map_err(Failure::Usage)?;
    let (mut kept, mut skipped) = (Vec::new(), 0);
    parts.rows(&mut |row: Row<Predicted>| {
        match row {
            Row::Done(Predicted { image, class, index, probability, top }) => {
                kept.push(Prediction { image, class, index, probability, top, truth: None });
            }
            Row::Skipped { skipped: image, reason } => {
                match reason.starts_with(&*image) {
                    true => note!("skipped: {reason}"),
                    false => note!("skipped: {image}: {reason}"),
                }
                skipped += 1;
            }
        }
        Ok(())
    })?;
    write_predictions(out, &kept)?;
    let s = if kept.len() == 1 { "" } else { "s" };
    output::line(format!("{}: {} image{s} of {} parts", out.display(), kept.len(), parts.head.of))?;
    if skipped > 0 {
        let found = format!("{skipped} of {} that cannot be read", parts.head.total);
        return Err(Error::invalid("images", "files that can be read", found, "").into());
    }
    Ok(())
}

/// A row of features as features writes it.
#[derive(Deserialize)]
struct Vector {
    image: String,
    split: String,
    label: usize,
    values: Encoded,
}

/// What features says of all parts.
#[derive(Deserialize)]
struct About {
    classes: Vec<String>,
    layer: String,
    width: usize,
}

fn features(parts: &Parts, out: &Path) -> Result<(), Failure> {
    check_ending(out).map_err(Failure::Usage)?;
    let head = &parts.head;
    let bad = |found: String| Error::invalid("parts", "parts of features", found, "");
    let About { classes, layer, width } = serde_json::from_value(head.about.clone())
        .map_err(|e| bad(format!("a head without them ({e})")))?;
    // Each number is at least a byte of a line.
    if width == 0 || width > 256 << 20 {
        return Err(bad(format!("{width} numbers for each image")).into());
    }
    let count = classes.len();
    let mut columns = Columns { classes, width, ..Columns::default() };
    parts.rows(&mut |row: Vector| {
        let split = ["train", "validation", "test"].into_iter().find(|name| *name == row.split);
        let (Some(split), true) = (split, row.label < count) else {
            return Err(bad(format!("an image of {} with label {}", row.split, row.label)));
        };
        let values = row.values.values()?;
        if values.len() != width {
            return Err(bad(format!("{} numbers of {}", values.len(), row.image)));
        }
        columns.values.extend(values);
        columns.labels.push(row.label);
        columns.names.push(row.image);
        columns.splits.push(split);
        Ok(())
    })?;
    write_features(out, &columns)?;
    let (images, parts) = (columns.labels.len(), head.of);
    output::line(format!(
        "{}: {layer} of {images} images, {width} numbers each, of {parts} parts",
        out.display()
    ))?;
    Ok(())
}

fn findings(args: &Merge, parts: &Parts, out: Option<&Path>) -> Result<(), Failure> {
    let head = &parts.head;
    if let Some(out) = out.filter(|out| out.extension().is_none_or(|e| e != "html")) {
        let found = out.display().to_string();
        let error = Error::invalid("--out", "a file .html for a page of findings", found, "");
        return Err(Failure::Usage(error));
    }
    let path = head.about["data"].as_str().unwrap_or_default();
    let data = hub::watched(|watch| job::open_with(path, &options(args.threads), watch))?;
    if same_data(&data) != head.same {
        let expected = "the images that the parts are of";
        let hint = "check it again";
        return Err(Error::invalid(data.name.clone(), expected, "others", hint).into());
    }
    let mut all: Vec<Looked> = Vec::new();
    parts.rows(&mut |row| {
        all.push(row);
        Ok(())
    })?;
    let found = inspect::conclude(&data, args.threads, all)?;
    if let Some(out) = out {
        write_bytes(out, inspect::html(&found, &data).as_bytes())?;
        note!("page: {}", out.display());
    }
    match args.json {
        true => output::json(&found)?,
        false => output::line(&found)?,
    }
    Ok(())
}
