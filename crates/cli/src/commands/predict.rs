//! `headstart predict`.

use std::path::Path;

use headstart::Error;
use headstart::classify::ClassifyOptions;
use headstart::export::{Prediction, check_predictions_ending, write_predictions};
use headstart::inference::Control;

use super::images::Images;
use super::{check_output, device, open_model, settled, shard};
use crate::args::Predict;
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output};

/// Classes for each image, where --top-k does not say how many.
pub(super) const TOP: usize = 5;
/// Probability from which a class is worth a reader's time.
const LEAST: f32 = 0.01;

/// Classifies images, in order. Images that cannot be read are named, and the command fails at its end.
pub fn run(args: &Predict) -> Result<(), Failure> {
    check(args)?;
    let part = args.shard.as_deref().map(str::parse).transpose().map_err(Failure::Usage)?;
    let images = Images::of(&args.images)?;
    if part.is_none() {
        let inputs = images.files().chain([Path::new(&args.model)]);
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
        return shard::predict(args, (part, folder), &images, &model, &device, options);
    }
    if args.output.is_some() {
        interrupt::watch();
    }
    let mut progress = Progress::new(0);
    let (mut kept, mut skipped) = (Vec::new(), 0);
    let threshold = args.threshold.unwrap_or(0.0);
    let all = 0..images.len();
    let last = images.classify(all, &model, &device, options, &mut |i, told| {
        let control = match args.output {
            Some(_) => progress.images("predicting", i + 1, images.len()),
            None => interrupt::control(),
        };
        match told {
            Ok(p) => {
                let choices = model.choices(p, args.top_k.unwrap_or(TOP));
                let prediction = Prediction::new(images.name(i), choices, threshold);
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
        Ok(control)
    })?;
    progress.clear();
    if last == Control::Stop {
        let left = match args.output {
            Some(_) => "nothing was written",
            None => "the images before are above",
        };
        return Err(Failure::Interrupted(left.into()));
    }
    if skipped < images.len()
        && let Some(path) = &args.output
    {
        write_predictions(path, &kept)?;
        let s = if kept.len() == 1 { "" } else { "s" };
        output::line(format!("{}: {} image{s}", path.display(), kept.len()))?;
    }
    if skipped > 0 {
        let s = if images.len() == 1 { "" } else { "s" };
        note!("skipped {skipped} of {} image{s}", images.len());
        let gone = images.gone();
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

fn are_not(count: usize) -> &'static str {
    if count == 1 { "is not" } else { "are not" }
}
