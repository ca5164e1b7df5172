//! `headstart predict`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use headstart::Error;
use headstart::classify::{Answer, ClassifyOptions, classify};
use headstart::export::{Choice, Prediction, check_predictions_ending, write_predictions};
use headstart::inference::Control;

use super::{device, open_model};
use crate::args::Predict;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{interrupt, output};

/// Classifies images, in order. Images that cannot be read are named, and the command fails at its end.
pub fn run(args: &Predict) -> Result<(), Failure> {
    check(args)?;
    let files = files(&args.images)?;
    let mut model = open_model(&args.model, args.weights.as_deref())?;
    if let Some(interpolation) = args.interpolation {
        model.card.interpolation = interpolation.into();
    }
    let device = device(args.threads, args.precision.into())?;
    let options = ClassifyOptions {
        batch: args.batch_size,
        tta: args.tta,
        decoders: device.compute().threads.count(),
    };
    if args.output.is_some() {
        interrupt::watch();
    }
    let mut progress = Progress::new(0);
    let (mut kept, mut skipped, mut stopped) = (Vec::new(), 0, false);
    let threshold = args.threshold.unwrap_or(0.0);
    let classes = &model.card.classes;
    classify(&model, &files, &device, options, &mut |i, answer: Answer<'_>| {
        let control = match args.output {
            Some(_) => progress.images("predicting", i + 1, files.len()),
            None => Control::Continue,
        };
        match answer {
            Ok(p) => {
                let ranked = model.card.task.ranked(p, args.top_k).into_iter();
                let choice = |(index, probability): (usize, f32)| Choice {
                    class: classes[index].clone(),
                    index,
                    probability,
                };
                let choices = ranked.map(choice).collect();
                let name = files[i].display().to_string();
                let prediction = Prediction::new(name, choices, threshold);
                if args.output.is_some() {
                    kept.push(prediction);
                } else {
                    print(args, &prediction)?;
                }
            }
            Err(error) => {
                eprintln!("skipped: {error}");
                skipped += 1;
            }
        }
        stopped |= control == Control::Stop;
        Ok::<_, Failure>(control)
    })?;
    progress.clear();
    if stopped {
        return Err(Failure::Interrupted("nothing was written".into()));
    }
    if skipped < files.len()
        && let Some(path) = &args.output
    {
        write_predictions(path, &kept)?;
        output::line(format!("{}: {} images", path.display(), kept.len()))?;
    }
    if skipped > 0 {
        eprintln!("skipped {skipped} of {} images", files.len());
        let found = format!("{skipped} that cannot be read");
        return Err(Error::invalid("images", "files that can be read", found, "").into());
    }
    Ok(())
}

fn check(args: &Predict) -> Result<(), Failure> {
    if let Some(p) = args.threshold.filter(|p| !(0.0..=1.0).contains(p)) {
        let error = Error::invalid("--threshold", "a probability from 0 to 1", p.to_string(), "");
        return Err(Failure::Usage(error));
    }
    if let Some(path) = &args.output {
        check_predictions_ending(path).map_err(Failure::Usage)?;
    }
    Ok(())
}

fn print(args: &Predict, prediction: &Prediction) -> Result<(), Error> {
    if args.json {
        return output::json(prediction);
    }
    output::line(&prediction.image)?;
    if args.threshold.is_some_and(|p| prediction.probability < p) {
        output::line(format!("  {}", prediction.class))?;
    }
    for Choice { class, probability, .. } in &prediction.top {
        output::line(format!("  {probability:.4}  {class}"))?;
    }
    Ok(())
}

/// All files of the arguments: folders give their files and those of their folders, in order.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            below(path, 0, &mut HashSet::new(), &mut files)?;
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

/// Links may lead in circles, and to one folder in many ways: each folder is looked at once, under its first name.
fn below(
    folder: &Path,
    depth: usize,
    seen: &mut HashSet<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> Result<(), Error> {
    const KNOWN: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];
    let real = folder.canonicalize().map_err(Error::io("read", folder))?;
    if depth > 32 || !seen.insert(real) {
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
            below(&path, depth + 1, seen, files)?;
        } else if ending.is_some_and(|e| KNOWN.contains(&e.as_str())) {
            files.push(path);
        }
    }
    Ok(())
}
