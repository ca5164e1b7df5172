//! `headstart explain`, and what `explain` and `bench` share.

use headstart::bench::{Part, Work as Running};
use headstart::image::{Decode, Fit, Interpolation};
use headstart::model::Model;
use headstart::resnet::{FreezePoint, Recipe};
use headstart::weights::model_file::{ModelCard, VERSION};
use headstart::{Device, Error, Task};

use super::device;
use crate::args::{Explain, PhaseArg, Work};
use crate::failure::Failure;
use crate::output;

/// Lists the steps of one phase.
pub fn run(args: &Explain) -> Result<(), Failure> {
    let device = device(args.work.threads, args.work.precision.into(), args.work.device)?;
    let mut work = prepare(&args.work, &device)?;
    let plans = if args.measure { work.explain_measured()? } else { work.explain() };
    if args.json {
        output::json(&plans)?;
        return Ok(());
    }
    for (i, plan) in plans.iter().enumerate() {
        if plans.len() == 2 {
            let title = ["frozen layers, once per image", "training step"][i];
            output::line(format!("{}{title}\n", if i > 0 { "\n" } else { "" }))?;
        }
        output::line(plan)?;
    }
    Ok(())
}

/// The net and phase that the flags describe, randomly initialised.
pub fn prepare(args: &Work, device: &Device) -> Result<Running, Failure> {
    if args.cached && !matches!(args.phase, PhaseArg::Head | PhaseArg::FineTune) {
        return Err(Failure::Usage(Error::invalid(
            "--cached",
            "--phase head or fine-tune",
            args.phase.name(),
            "only these have frozen layers",
        )));
    }
    let recipe = Recipe::named(&args.model).map_err(Failure::Usage)?;
    let card = ModelCard {
        task: Task::default(),
        version: VERSION,
        architecture: recipe.name.clone(),
        classes: (0..args.classes).map(|i| i.to_string()).collect(),
        height: args.image_size,
        width: args.image_size,
        interpolation: Interpolation::Nearest,
        fit: Fit::Stretch,
        decode: Decode::Full,
        upsample: args.upsample,
        preprocess: recipe.preprocess,
        temperature: None,
        calibration: None,
        trained: None,
        progress: None,
    };
    let model = Model::new(card, 1).map_err(Failure::Usage)?;
    let part = match args.phase {
        PhaseArg::Forward => Part::Forward,
        PhaseArg::Head => Part::Head,
        PhaseArg::Full => Part::FineTune(FreezePoint(0)),
        PhaseArg::FineTune => Part::FineTune(
            match &args.fine_tune_at {
                Some(at) => model.net.freeze_point(at),
                None => model
                    .net
                    .freeze_point("100")
                    .or_else(|_| model.net.freeze_point(&recipe.stage(recipe.stages.len()))),
            }
            .map_err(Failure::Usage)?,
        ),
    };
    Ok(Running::new(model, part, args.cached, args.batch_size, device.clone())?)
}
