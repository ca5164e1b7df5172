//! `headstart predict`.

use std::path::{Path, PathBuf};

use headstart::Error;
use headstart::image::{decode, resize};
use headstart::inference::executor;
use headstart::metrics::top;
use headstart::model::Model;
use serde::Serialize;

use super::{compute, open_model};
use crate::args::Predict;
use crate::failure::Failure;
use crate::output;

/// Images that go through the net together.
const BATCH: usize = 16;

#[derive(Serialize)]
struct Prediction<'a> {
    image: String,
    class: &'a str,
    probability: f32,
    top: Vec<Choice<'a>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    class: &'a str,
    probability: f32,
}

/// Classifies images; those that cannot be read are named and skipped.
pub fn run(args: &Predict) -> Result<(), Failure> {
    if args.top_k == 0 {
        return Err(Failure::Usage(Error::invalid("--top-k", "at least 1", "0", "")));
    }
    let files = files(&args.images)?;
    let mut model = open_model(&args.model, args.weights.as_deref())?;
    if let Some(interpolation) = args.interpolation {
        model.card.interpolation = interpolation.into();
    }
    let compute = compute(args.threads, args.precision.into())?;
    let batch = BATCH.min(files.len());
    let mut executor = executor(&model, &compute, batch, &[0], &[model.output()])?;
    let target = model.target();
    let (mut pixels, mut names, mut skipped) = (Vec::new(), Vec::new(), 0);
    for (i, file) in files.iter().enumerate() {
        let image = std::fs::read(file)
            .map_err(Error::io("read", file))
            .and_then(|bytes| decode(file, &bytes))
            .and_then(|image| resize(&image, target.width, target.height, target.interpolation));
        match image {
            Ok(image) => {
                pixels.extend(image.pixels.iter().map(|&b| f32::from(b)));
                names.push(file);
            }
            Err(error) => {
                eprintln!("skipped: {error}");
                skipped += 1;
            }
        }
        if names.len() == batch || (i + 1 == files.len() && !names.is_empty()) {
            executor.forward(&[&pixels], names.len())?;
            let p = executor.output(0, names.len());
            for (file, p) in names.iter().zip(p.chunks_exact(model.card.classes.len())) {
                print(args, &model, file, p)?;
            }
            pixels.clear();
            names.clear();
        }
    }
    if skipped > 0 {
        eprintln!("skipped {skipped} of {} images", files.len());
    }
    if skipped == files.len() {
        let found = format!("{skipped} that cannot be");
        return Err(Error::invalid("images", "at least one that can be read", found, "").into());
    }
    Ok(())
}

fn print(args: &Predict, model: &Model, file: &Path, p: &[f32]) -> Result<(), Failure> {
    if p.iter().any(|v| !v.is_finite()) {
        let hint = "the weights are damaged or training diverged";
        return Err(Error::invalid("probabilities", "finite numbers", "others", hint).into());
    }
    let choices: Vec<Choice<'_>> = top(p, args.top_k)
        .into_iter()
        .map(|i| Choice { class: &model.card.classes[i], probability: p[i] })
        .collect();
    let image = file.display().to_string();
    if args.json {
        let Choice { class, probability } = choices[0];
        output::json(&Prediction { image, class, probability, top: choices })?;
        return Ok(());
    }
    output::line(&image)?;
    for Choice { class, probability } in choices {
        output::line(format!("  {probability:.4}  {class}"))?;
    }
    Ok(())
}

/// All files of the arguments: folders give their files, in order, and those below.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            below(path, 0, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        let found = "folders without any";
        return Err(Error::invalid("images", "JPEG, PNG, WebP, GIF or BMP files", found, ""));
    }
    Ok(files)
}

fn below(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    const KNOWN: [&str; 3] = ["jpg", "jpeg", "png"];
    // Links may lead in circles.
    if depth > 32 {
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        entries.push(entry.map_err(Error::io("read", folder))?.path());
    }
    entries.sort();
    for path in entries {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if path.is_dir() {
            below(&path, depth + 1, files)?;
        } else if ending.is_some_and(|e| KNOWN.contains(&e.as_str())) {
            files.push(path);
        }
    }
    Ok(())
}
