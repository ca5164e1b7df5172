//! `headstart train`.

mod settings;
mod show_batch;

use headstart::Dataset;
use headstart::cache::DISK;
use headstart::config::{Time, TrainConfig};
use headstart::history::PhaseName;
use headstart::metrics::Report;
use headstart::page::PAGE;
use headstart::recipe::RecipeName;
use headstart::run::{DiskCache, Ended, Finished, Job};
use headstart::run_folder::RunFolder;
use serde::Serialize;

use super::{cache, guide, note, recipe};
use crate::args::{BatchSize, Train};
use crate::failure::Failure;
use crate::output;
use crate::ranks;
use crate::show::Show;
use settings::{base, settings};

/// What `--json` prints.
#[derive(Serialize)]
struct Outcomes<'a> {
    run_folder: String,
    best_epoch: Option<usize>,
    epochs: usize,
    #[serde(flatten)]
    report: Option<&'a Report>,
}

/// Trains, evaluates, draws.
pub fn run(args: &Train) -> Result<(), Failure> {
    let job = job(args)?;
    job.check().map_err(Failure::Usage)?;
    let mut show = Show::new();
    if let Some(path) = &args.show_batch {
        return show_batch::show_batch(job, path, &mut show);
    }
    let ended = job.run(&mut |event| show.show(event));
    show.clear();
    match ended? {
        Ended::Finished(finished) => print(args, &finished),
        Ended::Stopped { folder, kept } => Err(Failure::Interrupted(match folder {
            Some(run) => format!("{kept}; headstart train --resume {} resumes it", run.display()),
            None => kept,
        })),
    }
}

/// The run that the flags mean.
fn job(args: &Train) -> Result<Job, Failure> {
    let mut job = match (&args.resume, args.recipe) {
        (Some(run), _) => {
            let job = Job::resume(run)?;
            let given = settings(args, job.config().clone())?;
            job.with(given).allow_changes(args.allow_changes)
        }
        (None, Some(name)) => {
            // Choosing takes a while.
            if let Some(folder) = &args.out {
                RunFolder::check_free(folder, args.exist_ok)?;
            }
            let (config, data) = recipe_of_first(args, name)?;
            let budget =
                args.budget.map_or(String::new(), |budget| format!(" --budget {}", Time(budget)));
            let job = Job::new(with_replicas(args, settings(args, config)?));
            let job = data.into_iter().fold(job, Job::on);
            job.chosen_by(format!("--recipe {name}{budget}"))
        }
        (None, None) => Job::new(with_replicas(args, settings(args, base(args)?)?)),
    };
    if let Some(world) = ranks::world() {
        describe_sharing(job.config(), world.size());
        job = job.join(world.collective());
    }
    if let Some(folder) = &args.out {
        job = job.out(folder, args.exist_ok);
    }
    if let Some(pause) = args.save_every {
        job = job.save_every(pause);
    }
    job = job.batch_that_fits(args.batch_size == Some(BatchSize::ThatFits));
    let folder = cache::folder(args.no_cache, args.cache_dir.as_ref());
    Ok(job.cache(DiskCache { folder, bytes: args.cache_disk.map_or(DISK, |mb| mb << 20) }))
}

/// The settings that a recipe chooses, with the images that it opened. Process 0 chooses for all, as the choice depends on its
/// speed.
fn recipe_of_first(
    args: &Train,
    name: RecipeName,
) -> Result<(TrainConfig, Option<Dataset>), Failure> {
    let chosen = match ranks::world().is_none_or(|world| world.rank() == 0) {
        true => Some(recipe::chosen(&recipe::of_train(args, name, args.budget), true)?),
        false => None,
    };
    if let Some(chosen) = &chosen {
        recipe::announce(&chosen.recipe)?;
    }
    let Some(world) = ranks::world() else {
        let (config, data) = chosen.map(|c| (c.recipe.config, c.data)).unzip();
        return Ok((config.unwrap_or_default(), data));
    };
    let text = chosen.as_ref().map_or(Ok(String::new()), |c| c.recipe.config.to_toml())?;
    let all = world.collective().gather(text.as_bytes())?;
    let config = TrainConfig::of_toml(&String::from_utf8_lossy(&all[0]))?;
    Ok((config, chosen.map(|chosen| chosen.data)))
}

/// A replica for each process, unless the number is chosen.
fn with_replicas(args: &Train, config: TrainConfig) -> TrainConfig {
    let open = args.replicas.is_none() && args.config.is_none() && ranks::size() > 1;
    match open {
        true => TrainConfig { replicas: ranks::size(), ..config },
        false => config,
    }
}

/// Says how processes share the steps.
fn describe_sharing(config: &TrainConfig, processes: usize) {
    let (replicas, batch) = (config.replicas, config.batch_size);
    match replicas {
        _ if config.only_fits_the_head() => {
            note!("features and evaluation are shared; each process fits the head by itself");
        }
        1 => note!(
            "one replica (--replicas): every process makes every step; features and evaluation are shared"
        ),
        _ if replicas < processes => note!(
            "{replicas} replicas of a batch of {batch}: {} of {processes} processes have none",
            processes - replicas
        ),
        _ => note!("{replicas} replicas of a batch of {batch}, summed over {processes} processes"),
    }
}

fn print(args: &Train, finished: &Finished) -> Result<(), Failure> {
    let (report, epochs) = (finished.report.as_ref(), finished.history.epochs.len());
    let (best_epoch, run_folder) = (finished.best_epoch(), finished.folder.display().to_string());
    if args.json {
        output::json(&Outcomes { run_folder, best_epoch, epochs, report })?;
    } else {
        match (report, best_epoch) {
            (Some(report), _) => output::line(report)?,
            (None, Some(best)) => output::line(format!("best epoch: {best} of {epochs}"))?,
            (None, None) => {}
        }
        if let Some(steps) = steps(finished) {
            output::line(steps)?;
        }
        output::line(format!("run folder: {run_folder}"))?;
        output::line(format!("page: {}", finished.folder.join(PAGE).display()))?;
    }
    let shipped = report.and_then(|report| report.shipped.as_ref());
    if let Some(shipped) = shipped.filter(|s| finished.config.refit && s.refit == 0) {
        let data = &finished.data;
        let why = match (&data.validation, &data.test) {
            (None, _) => "there are no validation images",
            (_, None) => "there are no test images to measure it on",
            _ if shipped.phase != PhaseName::Head => "a fine-tuned epoch is the best",
            _ => "it was stopped",
        };
        note!("the head was not fitted again: {why}");
    }
    guide::print(finished);
    Ok(())
}

/// What each phase reached, where there are several: `val_accuracy by phase: head 0.8768, fine-tune 0.9310 (+0.0542)`.
fn steps(finished: &Finished) -> Option<String> {
    let monitor = finished.config.monitor;
    let best = finished.history.by_phase(finished.config.best_by());
    let mut before: Option<f64> = None;
    let steps = best.iter().map(|epoch| {
        let value = monitor.of(epoch);
        let gain = before.replace(value).map_or(String::new(), |b| format!(" ({:+.4})", value - b));
        format!("{} {value:.4}{gain}", epoch.phase.name())
    });
    let steps: Vec<String> = steps.collect();
    (steps.len() > 1).then(|| format!("{} by phase: {}", monitor.column(best[0]), steps.join(", ")))
}
