//! `headstart predict`.

use std::path::{Path, PathBuf};

use headstart::Error;
use headstart::classify::{Answer, ClassifyOptions, classify};
use headstart::dataset::{ImageFiles, Skipped};
use headstart::export::{Prediction, check_predictions_ending, write_predictions};
use headstart::inference::Control;
use headstart::text::of_path;

use super::{check_output, device, open_model, settled, shard};
use crate::args::Predict;
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output, show};

/// Classes for each image, where --top-k does not say how many.
pub(super) const TOP: usize = 5;
/// Probability from which a class is worth a reader's time.
const LEAST: f32 = 0.01;

/// Classifies images, in order. Images that cannot be read are named, and the command fails at its end.
pub fn run(args: &Predict) -> Result<(), Failure> {
    check(args)?;
    let part = args.shard.as_deref().map(str::parse).transpose().map_err(Failure::Usage)?;
    let files = files(&args.images)?;
    if part.is_none() {
        let inputs = files.iter().map(PathBuf::as_path).chain([Path::new(&args.model)]);
        check_output(args.output.as_deref(), inputs)?;
    }
    let mut model = open_model(&args.model, args.weights.as_deref())?;
    if let Some(interpolation) = args.interpolation {
        model.card.interpolation = interpolation.into();
    }
    args.fits.over_card(&mut model.card).map_err(Failure::Usage)?;
    let device = device(args.threads, args.precision.into(), args.device)?;
    let device = settled(device, (args.device, args.precision.into()), &model, args.batch_size)?;
    let options = ClassifyOptions {
        batch: args.batch_size,
        tta: args.tta,
        decoders: device.compute().threads.count(),
    };
    if let (Some(part), Some(folder)) = (part, &args.output) {
        return shard::predict(args, (part, folder), &files, &model, &device, options);
    }
    if args.output.is_some() {
        interrupt::watch();
    }
    let mut progress = Progress::new(0);
    let (mut kept, mut skipped, mut stopped) = (Vec::new(), 0, false);
    let threshold = args.threshold.unwrap_or(0.0);
    classify(&model, &files, &device, options, &mut |i, answer: Answer<'_>| {
        let control = match args.output {
            Some(_) => progress.images("predicting", i + 1, files.len()),
            None => Control::Continue,
        };
        match answer {
            Ok(p) => {
                let choices = model.choices(p, args.top_k.unwrap_or(TOP));
                let name = of_path(&files[i]);
                let prediction = Prediction::new(name, choices, threshold);
                if args.output.is_some() {
                    kept.push(prediction);
                } else {
                    print(args, &prediction)?;
                }
            }
            Err(error) => {
                note!("skipped: {error}");
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
        let s = if kept.len() == 1 { "" } else { "s" };
        output::line(format!("{}: {} image{s}", path.display(), kept.len()))?;
    }
    if skipped > 0 {
        let s = if files.len() == 1 { "" } else { "s" };
        note!("skipped {skipped} of {} image{s}", files.len());
        let gone = files.iter().filter(|file| is_gone(file)).count();
        let found = match (gone, skipped) {
            (0, n) => format!("{n} that cannot be read"),
            (gone, n) if gone >= n => format!("{n} that {} there", are_not(n)),
            (gone, n) => {
                format!("{n} that cannot be read, of which {gone} {} there", are_not(gone))
            }
        };
        return Err(Error::invalid("images", "files that can be read", found, "").into());
    }
    Ok(())
}

fn check(args: &Predict) -> Result<(), Failure> {
    if let Some(p) = args.threshold.filter(|p| !(0.0..=1.0).contains(p)) {
        let error = Error::invalid("--threshold", "a probability from 0 to 1", p.to_string(), "");
        return Err(Failure::Usage(error));
    }
    if let Some(path) = args.output.as_ref().filter(|_| args.shard.is_none()) {
        check_predictions_ending(path).map_err(Failure::Usage)?;
    }
    Ok(())
}

/// One line an image: the prediction, then the other classes that are asked for or not improbable.
fn print(args: &Predict, prediction: &Prediction) -> Result<(), Error> {
    if args.json {
        return output::json(prediction);
    }
    let unknown = prediction.index.is_none().then(|| prediction.class.clone());
    let first = usize::from(unknown.is_none());
    let least = if args.top_k.is_some() { 0.0 } else { LEAST };
    let shown = prediction.top.iter().enumerate();
    let shown = shown.filter(|(i, c)| *i < first || c.probability >= least);
    let words = unknown.into_iter().chain(shown.map(|(_, choice)| choice.to_string()));
    let words: Vec<String> = words.collect();
    output::line(format!("{}: {}", prediction.image, words.join(", ")))
}

/// Whether there is nothing at the path.
fn is_gone(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

fn are_not(count: usize) -> &'static str {
    if count == 1 { "is not" } else { "are not" }
}

/// All files of the arguments: folders give the image files below them, in order.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let found = ImageFiles::below(path)?;
        let below = |Skipped { name, reason }| {
            let name = Path::new(&of_path(path)).join(name).display().to_string();
            Skipped { name, reason }
        };
        show::skipped(&found.skipped.into_iter().map(below).collect::<Vec<_>>());
        files.extend(found.files);
    }
    if let Some(first) = files.first().filter(|_| files.iter().all(|file| is_gone(file))) {
        let found = match files.len() {
            1 => "no such file".to_string(),
            n => format!("no such file, as for {} more", n - 1),
        };
        let folder = first.parent().filter(|f| !f.as_os_str().is_empty() && !f.exists());
        let hint = match folder {
            Some(folder) => format!("the folder {} does not exist either", of_path(folder)),
            None => "check the spelling, and the folder that you are in".to_string(),
        };
        return Err(Error::invalid(of_path(first), "an image, or a folder of images", found, hint));
    }
    if files.is_empty() {
        let found = "folders without any";
        let expected = format!("files of {}", headstart::image::FORMATS);
        return Err(Error::invalid("images", expected, found, ""));
    }
    Ok(files)
}
