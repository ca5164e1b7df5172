//! `headstart lr-find`.

use headstart::atomic::write_bytes;
use headstart::config::TrainConfig;
use headstart::events;
use headstart::lr_find::{self, LrCurve, LrFind, Tested};
use headstart::report::lr_curve;
use headstart::run::Event;
use serde::Serialize;

use super::check_output;
use crate::args;
use crate::download::Download;
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output};

/// What `--json` prints.
#[derive(Serialize)]
struct Found<'a> {
    phase: String,
    suggestion: Option<f32>,
    steepest: Option<f32>,
    picture: String,
    #[serde(flatten)]
    curve: &'a LrCurve,
}

/// Runs the test, draws it and prints the suggestion.
pub fn run(args: &args::LrFind) -> Result<(), Failure> {
    check_output(Some(&args.out), args.data.as_deref())?;
    let config = settings(args)?;
    let range = LrFind { start: args.start, end: args.end, steps: args.steps };
    lr_find::check(&config, &range).map_err(Failure::Usage)?;
    let (mut download, mut progress) = (Download::new(), Progress::new(1));
    let tested = lr_find::range_test(&config, &range, &mut |event| match event {
        Event::Download(event) => download.show(event),
        Event::Data(data) => {
            note!("{}", data.describe());
            interrupt::control()
        }
        Event::Training(event) => {
            if let events::Event::Phase { .. } = event {
                interrupt::watch();
            }
            progress.show(event)
        }
        _ => interrupt::control(),
    });
    download.end();
    progress.clear();
    let stopped = || Failure::Interrupted("nothing was measured".into());
    let Tested { phase, setting, curve } = tested?.ok_or_else(stopped)?;
    write_bytes(&args.out, &lr_curve(&curve)?.png)?;
    let (suggestion, steepest) = (curve.suggestion(), curve.steepest());
    let picture = args.out.display().to_string();
    if args.json {
        let phase = phase.name();
        output::json(&Found { phase, suggestion, steepest, picture, curve: &curve })?;
        return Ok(());
    }
    match suggestion {
        Some(rate) => output::line(format!("suggestion: --{setting} {rate:.1e}"))?,
        None => output::line("no suggestion: the loss never falls")?,
    }
    if let Some(rate) = steepest {
        output::line(format!("the loss falls fastest at {rate:.1e}"))?;
    }
    output::line(format!("picture: {picture}"))?;
    Ok(())
}

/// The flags that were given, over those of --config or the defaults.
fn settings(args: &args::LrFind) -> Result<TrainConfig, Failure> {
    let (data, model) = (args.data.as_deref(), args.model.as_deref());
    let mut c = match &args.config {
        Some(path) => TrainConfig::read_for(path, data, model)?,
        None => TrainConfig { fine_tune_at: None, ..TrainConfig::defaults(data, model) },
    };
    macro_rules! take {
        ($($field:ident),*) => { $(if let Some(value) = args.$field.clone() { c.$field = value.into(); })* };
    }
    take!(data, model, weights, batch_size, optimizer, seed, precision, device, threads);
    if args.image_size.is_some() {
        (c.upsample, c.image_size) = (None, args.image_size);
    }
    c.interpolation = args.interpolation.map(Into::into).or(c.interpolation);
    args.fits.over(&mut c);
    c.limit = args.limit.or(c.limit);
    Ok(lr_find::of_one_phase(c, args.fine_tune_at.clone()))
}
