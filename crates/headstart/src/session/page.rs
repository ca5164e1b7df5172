//! The page of a run, report.html: written at its end, and made again from its folder.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::atomic::write_bytes;
use crate::control::Control;
use crate::data::dataset::{Dataset, Split, Subset};
use crate::data::image::Views;
use crate::engine::device::Device;
use crate::error::{Error, Result};
use crate::hub;
use crate::measure::events::Event;
use crate::measure::history::{History, PhaseName};
use crate::measure::metrics::Report;
use crate::net::model::Model;
use crate::net::weights::SHIPPED;
use crate::numbers::grouped;
use crate::report::{self, CurveNotes, RunPage};
use crate::session::config::{DeviceChoice, Precision, TrainConfig};
use crate::session::evaluate::{self, Evaluated};
use crate::session::job::{self, open_data_with};
use crate::session::known::is_own;
use crate::session::next::{go_on, next};
use crate::session::stopped::stopped;
pub use crate::session::stopped::{PAGE, has_page, is_of_stopped};
use crate::study::hard::{Bounds, HardImages, hard_images_with};
use crate::train::cache::{CacheSettings, Emit};
use crate::train::trainer::INFERENCE_BATCH;

/// What [`remake`] tells as the part of [`Event::Features`] while maps of images are computed.
pub const MAPS: &str = "maps";
/// Most classes that are named among the facts.
const NAMED: usize = 20;

/// A run.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its folder.
    pub folder: &'a Path,
    /// Its settings.
    pub config: &'a TrainConfig,
    /// All epochs.
    pub history: &'a History,
    /// The shipped model: that of weights/best.safetensors.
    pub model: &'a Model,
    /// The epoch it is from; none where that is not known.
    pub epoch: Option<usize>,
    /// Of a run that was stopped and can be resumed, how many epochs it would have.
    pub stopped: Option<usize>,
    /// The evaluation of the shipped model; none where no images were held out, or where the run was stopped.
    pub report: Option<&'a Report>,
    /// The images; none where they are gone.
    pub data: Option<&'a Dataset>,
    /// What the shipped model makes of those that the report is about; none where there is no report, or no data.
    pub answers: Option<&'a Evaluated>,
}

/// Writes the page of a run into its folder; its path. Maps of some images are computed on `device`.
///
/// # Errors
/// If a picture cannot be drawn, or the page cannot be written.
pub fn write(run: &Shown<'_>, device: &Device) -> Result<PathBuf> {
    let path = write_with(run, device, &mut |_, _| Control::Continue)?;
    Ok(path.unwrap_or_else(|| run.folder.join(PAGE)))
}

/// [`write`]; `maps` gets how many images have their maps, and of how many. `None` if it said to stop.
fn write_with(
    run: &Shown<'_>,
    device: &Device,
    maps: &mut dyn FnMut(usize, usize) -> Control,
) -> Result<Option<PathBuf>> {
    let Shown { folder, config, history, model, epoch, stopped, report, data, answers } = *run;
    let held_out = data.and_then(held_out);
    let mut hard = HardImages::default();
    if let (Some(evaluated), Some(part)) = (answers, held_out) {
        let Evaluated { report, probabilities, labels } = evaluated;
        let (list, bounds) = ([part], &Bounds::PAGE);
        let (p, l) = (probabilities, labels);
        let found = hard_images_with(model, device, &list, report, p, l, bounds, maps)?;
        let Some(found) = found else { return Ok(None) };
        hard = found;
    }
    let settings = config.to_toml()?.parse().unwrap_or_default();
    let mut commands: Vec<_> = stopped.map(|_| go_on(folder)).into_iter().collect();
    if stopped.is_none() || folder.join(SHIPPED).is_file() {
        commands.extend(next(folder, config, held_out.map(|(_, subset)| subset)));
    }
    let page = RunPage {
        title: &folder.display().to_string(),
        lead: &lead(run),
        facts: &facts(run, data, device)?,
        settings: &changed(run)?,
        report,
        history,
        notes: &CurveNotes::of(&settings),
        stopped: stopped.is_some(),
        shipped: epoch,
        hard: Some(&hard),
        next: &commands,
    };
    let path = folder.join(PAGE);
    write_bytes(&path, page.html()?.as_bytes())?;
    Ok(Some(path))
}

/// The settings that are not the default, those of a recipe first.
fn changed(run: &Shown<'_>) -> Result<Vec<String>> {
    let recipe = TrainConfig::recipe_of_run(run.folder).unwrap_or_default();
    let flags = recipe.split(" --").filter(|flag| !flag.is_empty());
    let mut list: Vec<String> =
        flags.map(|flag| format!("--{}", flag.trim_start_matches("--"))).collect();
    // The arithmetic is said among the facts.
    list.extend(run.config.changed(&["precision", "device"])?);
    Ok(list)
}

/// The images that a run is reported on: those for testing, else those for validation.
pub fn held_out(data: &Dataset) -> Option<(&'static str, &Subset)> {
    let test = data.test.as_ref().map(|s| ("test", s));
    test.or(data.validation.as_ref().map(|s| ("validation", s)))
}

/// The evaluation of a model on the images of [`held_out`]; `None` where there are none, or `emit` said to stop.
///
/// # Errors
/// As [`evaluate::evaluate_with`].
pub fn evaluated(
    model: &Model,
    data: &Dataset,
    device: &Device,
    cache: &CacheSettings,
    emit: &mut Emit<'_>,
) -> Result<Option<Evaluated>> {
    let split = match held_out(data) {
        Some(("test", _)) => Split::Test,
        Some(_) => Split::Validation,
        None => return Ok(None),
    };
    let parts = data.parts(split)?;
    let options = evaluate::EvaluateOptions { batch: INFERENCE_BATCH, tta: Views::One, cache };
    evaluate::evaluate_with(model, data, &parts, device, options, emit)
}

/// A page that was made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remade {
    /// Its path.
    pub path: PathBuf,
    /// Why it has no images, where it has none.
    pub without_images: Option<String>,
    /// What to say of a last line of results.csv that was cut short and left out.
    pub note: Option<String>,
}

/// Makes the page and the pictures of the run in `folder` again, from its settings, records, report and best weights, and
/// from its images, if these are still there; `None` if `emit` said to stop. Where the weights answer something else than
/// the report has, as after `evaluate --calibrate`, report.json is written again too. Works on the device of this `choice`;
/// without one on the run's own, or on the processor where there is no such GPU. `threads` are its threads, 0 for one per
/// core. The arithmetic is the run's, where the device has it; features are cached. `emit` gets [`Event::Features`] of the
/// images that have to be computed, then of [`MAPS`].
///
/// # Errors
/// If the run's files cannot be read, do not fit each other, or the page cannot be written; the errors of `emit`.
pub fn remake(
    folder: &Path,
    (choice, threads): (Option<DeviceChoice>, usize),
    cache: &CacheSettings,
    download: &mut hub::Watch<'_>,
    emit: &mut Emit<'_>,
) -> Result<Option<Remade>> {
    let config = TrainConfig::of_run(folder)?;
    if !folder.join("results.csv").is_file() {
        let (what, hint) = go_on(folder);
        let (expected, hint) = ("an epoch that is done", format!("to {what}: {hint}"));
        return Err(Error::invalid(folder.display().to_string(), expected, "none yet", hint));
    }
    let device = &device(&config, choice, threads)?;
    let (history, note) = History::read_csv_noting(folder.join("results.csv"))?;
    let model = Model::open(folder.join(SHIPPED))?;
    let path = folder.join("report.json");
    let mut report = path.exists().then(|| Report::read(&path)).transpose()?;
    let (data, mut reason) = match open_data_with(&config, download) {
        Ok(data) => (Some(data), None),
        Err(Error::Stopped(_)) => return Ok(None),
        Err(error) => (None, Some(error.to_string())),
    };
    let mut answers = None;
    if let Some(data) = &data {
        let mut stopped = false;
        let mut told = |event| {
            let control = emit(event)?;
            stopped |= control == Control::Stop;
            Ok(control)
        };
        match evaluated(&model, data, device, cache, &mut told) {
            _ if stopped => return Ok(None),
            Ok(found) => answers = found,
            Err(error) => reason = Some(error.to_string()),
        }
    }
    let trained_on = model.card.trained.as_ref().and_then(|trained| trained.device.as_ref());
    let elsewhere = trained_on.is_some_and(|then| *then != device.fingerprint());
    // A run that was not reported on knows its images by those that it trained on.
    let trained = model.card.trained.as_ref().filter(|_| report.is_none());
    if let (Some(data), Some(trained), true) = (&data, trained, answers.is_some())
        && !is_own(data, &trained.images, &device.compute().threads)?
    {
        reason = Some(format!("{} has other images than the run was trained on", config.data));
        answers = None;
    }
    if let (Some(is), Some(was)) = (&answers, &report)
        && let Some(why) = other_images(was, &is.report)
    {
        reason =
            Some(format!("{} has other images than the run was reported on: {why}", config.data));
        answers = None;
    }
    if let Some(Evaluated { report: is, .. }) = &answers
        && report.as_ref().is_none_or(|was| answers_differ(was, is, elsewhere))
    {
        let shipped = report.and_then(|was| was.shipped);
        let is = Report { shipped, ..is.clone() };
        report::write(folder, &is)?;
        report = Some(is);
    }
    report::draw(folder, &history, report.as_ref())?;
    let shown = Shown {
        folder,
        stopped: stopped(folder, &config, &history, report.as_ref()),
        config: &config,
        history: &history,
        epoch: history.best(config.best_by()).map(|e| e.epoch),
        model: &model,
        report: report.as_ref(),
        data: data.as_ref(),
        answers: answers.as_ref(),
    };
    let (start, mut failed) = (Instant::now(), None);
    let mut maps = |done, total| {
        let seconds = start.elapsed().as_secs_f64();
        emit(Event::Features { split: MAPS, done, total, seconds }).unwrap_or_else(|error| {
            failed = Some(error);
            Control::Stop
        })
    };
    let path = write_with(&shown, device, &mut maps)?;
    failed.map_or(Ok(()), Err)?;
    Ok(path.map(|path| Remade { path, without_images: reason, note }))
}

/// Why these are not the images that a run was reported on.
fn other_images(was: &Report, is: &Report) -> Option<String> {
    // Those that the run itself found are on its page.
    let known = was.trained_on.unwrap_or(0);
    if let Some(trained) = is.trained_on.filter(|&trained| trained > known) {
        return Some(format!("{trained} of {} were trained on", is.samples));
    }
    let support = |r: &Report| r.per_class.iter().map(|c| c.support).collect::<Vec<_>>();
    let others = support(was) != support(is);
    others.then(|| format!("{}, not {}, or of other classes", is.samples, was.samples))
}

/// The device that a page is made on.
fn device(config: &TrainConfig, choice: Option<DeviceChoice>, threads: usize) -> Result<Device> {
    let on = |choice| {
        let precision = match (config.precision, choice) {
            (Precision::F16, DeviceChoice::Cpu) => Precision::F32,
            (Precision::Bf16, DeviceChoice::Gpu(_)) => Precision::F32,
            (precision, _) => precision,
        };
        job::device(threads, precision, choice)
    };
    match (choice, config.device) {
        // Without a GPU that has f16.
        (Some(DeviceChoice::Auto), _) if config.precision == Precision::F16 => {
            on(DeviceChoice::Auto).or_else(|_| on(DeviceChoice::Cpu))
        }
        (Some(choice), _) => on(choice),
        (None, own @ DeviceChoice::Gpu(_)) => on(own).or_else(|_| on(DeviceChoice::Cpu)),
        (None, _) => on(DeviceChoice::Cpu),
    }
}

/// Losses of the same weights on two devices differ by less, added and as a fraction.
const DEVICES: f64 = 0.01;

/// Whether two evaluations are of other weights, another temperature or other images; `elsewhere` if they are of two devices,
/// which round otherwise.
fn answers_differ(was: &Report, is: &Report, elsewhere: bool) -> bool {
    let temperature = |r: &Report| r.calibration.as_ref().and_then(|c| c.temperature);
    if elsewhere && temperature(was) == temperature(is) {
        let near = (was.loss - is.loss).abs() <= DEVICES * (1.0 + was.loss);
        return !near;
    }
    let parts = |r: &Report| (r.loss, r.confusion_matrix.clone(), r.calibration.clone());
    parts(was) != parts(is)
}

/// What was trained on what, in a sentence, and how far.
fn lead(run: &Shown<'_>) -> String {
    let Shown { config, history, model, stopped, .. } = *run;
    let (net, classes) = (&model.card.architecture, model.card.classes.len());
    let data = &config.data;
    let done = history.epochs.len();
    let how_far = match stopped {
        Some(planned) => format!(" The run was stopped after {done} of {planned} epochs."),
        None => String::new(),
    };
    let what = match run.report {
        Some(report) => {
            let (samples, split) = (grouped(report.samples), report.split.as_str());
            let leaked = match report.trained_on {
                Some(count @ 1..) => {
                    let are =
                        if count == 1 { "is a training image" } else { "are training images" };
                    format!(" {} of these {are} too, so it may be too good.", grouped(count))
                }
                _ => String::new(),
            };
            let accuracy = report.accuracy;
            format!(
                "{net} trained on {data}, {classes} classes: accuracy {accuracy:.4} on {samples} {split} images.{leaked}"
            )
        }
        None => format!("{net} trained on {data}, {classes} classes."),
    };
    what + &how_far
}

/// What is known of a run.
fn facts(
    run: &Shown<'_>,
    data: Option<&Dataset>,
    device: &Device,
) -> Result<Vec<(String, String)>> {
    let Shown { folder, config, history, model, epoch, stopped, report, .. } = *run;
    let card = &model.card;
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_string(), value));
    // It is written when the run begins.
    let settings = folder.join("config.toml");
    if let Ok(time) = std::fs::metadata(&settings).and_then(|file| file.modified()) {
        fact("begun", date(time));
    }
    fact("data", data.map_or(config.data.clone(), |data| images(&config.data, data)));
    fact("classes", names(&card.classes));
    let parameters: usize = model.parameters.tensors.iter().map(|p| p.values.len()).sum();
    let weights = match config.weights.as_str() {
        "none" => "randomly initialised".to_string(),
        name => format!("weights {name}"),
    };
    fact("net", format!("{}, {weights}, {} parameters", card.architecture, grouped(parameters)));
    let upsampled = match card.upsample {
        1 => String::new(),
        factor => format!(" upsampled x{factor},"),
    };
    let reduced = if card.decode.is_full() { "" } else { " large JPEGs decoded reduced," };
    fact(
        "images enter",
        format!(
            "at {}x{},{upsampled} {},{reduced} {} preprocessing, {} arithmetic",
            card.width,
            card.height,
            card.fit,
            card.preprocess.name(),
            config.precision.dtype(device.compute()).name()
        ),
    );
    if !history.epochs.is_empty() {
        fact("trained", phases(history));
    }
    if let Some(epoch) = epoch {
        let record = history.epochs.iter().find(|e| e.epoch == epoch);
        let is = record.map_or(String::new(), |record| config.best_by().words(record));
        let name = if stopped.is_some() { "best weights so far" } else { "shipped weights" };
        let refit = report.and_then(|r| r.shipped.as_ref()).map_or(0, |shipped| shipped.refit);
        let again = match refit {
            0 => String::new(),
            n => format!("; the head fitted again with the {} validation images", grouped(n)),
        };
        fact(name, format!("those of epoch {epoch}, {is}{again}"));
    }
    let best = folder.join(SHIPPED);
    if best.is_file() {
        fact("model file", best.display().to_string());
    }
    Ok(facts)
}

/// The source and how many images each split has.
fn images(source: &str, data: &Dataset) -> String {
    let parts = [
        ("training", Some(&data.train)),
        ("validation", data.validation.as_ref()),
        ("test", data.test.as_ref()),
    ];
    let count = |(name, subset): (&str, Option<&Subset>)| {
        subset.map(|subset| format!("{} {name}", grouped(subset.len())))
    };
    let counts: Vec<String> = parts.into_iter().filter_map(count).collect();
    format!("{source}: {} images", counts.join(", "))
}

fn names(classes: &[String]) -> String {
    match classes.len() {
        0..=NAMED => format!("{}: {}", classes.len(), classes.join(", ")),
        n => format!("{}: {}, ... {}", grouped(n), classes[..NAMED].join(", "), classes[n - 1]),
    }
}

/// Epochs and seconds of each phase.
fn phases(history: &History) -> String {
    let mut list: Vec<(PhaseName, usize, f64)> = Vec::new();
    for e in &history.epochs {
        match list.last_mut().filter(|last| last.0 == e.phase) {
            Some(last) => (last.1, last.2) = (last.1 + 1, last.2 + e.seconds),
            None => list.push((e.phase, 1, e.seconds)),
        }
    }
    let text = |(phase, epochs, seconds): &(PhaseName, usize, f64)| {
        let plural = if *epochs == 1 { "" } else { "s" };
        format!("{} {epochs} epoch{plural} ({seconds:.1} s)", phase.name())
    };
    list.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A time as day and minute, in UTC: the Gregorian calendar by Hinnant's algorithm ("chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`).
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, minutes) = (seconds / 86_400 + 719_468, seconds % 86_400 / 60);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{of_month:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds: u64| date(UNIX_EPOCH + Duration::from_secs(seconds));
        // Python: datetime.fromtimestamp(n, timezone.utc)
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_782_399), "2000-02-28 23:59 UTC");
        assert_eq!(at(951_868_800), "2000-03-01 00:00 UTC");
        assert_eq!(at(1_709_210_700), "2024-02-29 12:45 UTC");
        assert_eq!(at(4_102_444_799), "2099-12-31 23:59 UTC");
    }

    #[test]
    fn phases_are_counted_in_order() {
        let text = "epoch,phase,seconds,images_per_second,loss,accuracy,val_loss,val_accuracy,learning_rate\n\
             1,head,1.5,9,0.5,0.5,,,0.1\n2,fine-tune,2,9,0.5,0.5,,,0.1\n3,fine-tune,2.25,9,0.5,0.5,,,0.1\n";
        let history = History::from_csv(text).unwrap();
        assert_eq!(phases(&history), "head 1 epoch (1.5 s), fine-tune 2 epochs (4.2 s)");
    }
}
