//! A run's events on stderr.

use std::collections::HashMap;

use headstart::dataset::{Dataset, Skipped};
use headstart::inference::Control;
use headstart::metrics::has_top5;
use headstart::model::Model;
use headstart::monitor::Monitor;
use headstart::run::{Event, Weights};
use headstart::{DType, inspect};

use crate::download::Download;
use crate::interrupt;
use crate::output::note;
use crate::progress::Progress;

/// Shows the events of a run.
pub struct Show {
    download: Download,
    progress: Progress,
    /// Whether run folders stay.
    folders: bool,
}

impl Show {
    pub fn new() -> Show {
        Show { download: Download::new(), progress: Progress::new(0), folders: true }
    }

    /// For runs whose folders go with them.
    pub fn without_folders() -> Show {
        Show { folders: false, ..Show::new() }
    }

    /// Shows one event; `Stop` after Ctrl-C.
    pub fn show(&mut self, event: &Event<'_>) -> Control {
        match event {
            Event::Download(event) => return self.download.show(event),
            Event::Data(data) => {
                describe_data(data);
                self.progress.top5 = has_top5(data.classes.len());
            }
            Event::Model { model, weights, dtype, train_size } => {
                describe_model(model, weights, *dtype);
                if let Some(side) =
                    train_size.filter(|&s| (s, s) != (model.card.height, model.card.width))
                {
                    note!("training images enter it at {side}x{side} in gradient steps");
                }
            }
            Event::Device(why) => note!("{why}"),
            Event::BatchSize(size) => note!("--batch-size auto: {size} images a step"),
            Event::Begins { folder, epochs, monitor } => {
                if self.folders {
                    note!("run folder: {}", folder.display());
                }
                self.progress.epochs = *epochs;
                self.progress.macro_f1 = *monitor == Monitor::MacroF1;
                interrupt::watch();
            }
            Event::Fold { fold, folds, accuracy, loss } => {
                self.progress.clear();
                note!("fold {fold} of {folds}: accuracy {accuracy:.4}  loss {loss:.4}");
            }
            Event::Training(event) => return self.progress.show(event),
            _ => {}
        }
        interrupt::control()
    }

    /// Removes the bars.
    pub fn clear(&mut self) {
        self.download.end();
        self.progress.clear();
    }
}

/// Names what was left out: each file, or their number where many have the same reason.
pub fn skipped(files: &[Skipped]) {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut places = HashMap::new();
    for Skipped { name, reason } in files {
        let at = *places.entry(reason.as_str()).or_insert(groups.len());
        if at == groups.len() {
            groups.push((reason, Vec::new()));
        }
        groups[at].1.push(name);
    }
    for (reason, names) in groups.iter().take(REASONS) {
        match &names[..] {
            few if few.len() <= NAMED => {
                few.iter().for_each(|name| note!("skipped {name}: {reason}"))
            }
            [first, ..] => note!("skipped {} files, such as {first}: {reason}", names.len()),
            [] => {}
        }
    }
    let others: usize = groups.iter().skip(REASONS).map(|(_, names)| names.len()).sum();
    if others > 0 {
        note!(
            "skipped {others} files for {} other reasons; `headstart data check` lists them",
            groups.len() - REASONS
        );
    }
}

/// Reasons for which files are left out that are told, and files that are named for each.
const REASONS: usize = 10;
const NAMED: usize = 5;

pub fn describe_data(data: &Dataset) {
    note!("{}", data.describe());
    skipped(&data.skipped);
    note!("classes: {}", shorten(&data.classes));
    for warning in inspect::warnings(data) {
        note!("warning: {warning}");
    }
}

/// Prints what the weights are, how images enter the net, and, for a new run, what else can be chosen.
fn describe_model(model: &Model, weights: &Weights<'_>, dtype: DType) {
    match weights {
        Weights::Loaded { name, report } => note!("weights {name}: {report}"),
        Weights::Random { .. } => note!("weights: none, the net is randomly initialised"),
        Weights::Earlier => {}
    }
    if let Weights::Random { from_scratch: true } = weights {
        note!(
            "a frozen, randomly initialised net is of little use: everything trains for --epochs; \
             --fine-tune-at trains the head first"
        );
    }
    let card = &model.card;
    let (height, width, factor) = (card.height, card.width, card.upsample);
    let reduced = if card.decode.is_full() { "" } else { " large JPEGs decoded reduced," };
    note!(
        "images enter {} at {}x{}, {}, {},{reduced} {} preprocessing, {} arithmetic",
        card.architecture,
        height * factor,
        width * factor,
        card.interpolation.name(),
        card.fit,
        card.preprocess.name(),
        dtype.name()
    );
    if factor > 1 && !matches!(weights, Weights::Earlier) {
        note!(
            "note: upsampled {factor} times by nearest neighbour, as the Keras tutorial does; --image-size {} \
             --interpolation bicubic gives better features (CIFAR-10, linear head on 4,000 images: \
             test accuracy 0.79 instead of 0.69)",
            height * factor
        );
    }
}

fn shorten(names: &[String]) -> String {
    match names.len() {
        0..=20 => names.join(", "),
        n => format!("{}, ... {} ({n} in all)", names[..10].join(", "), names[n - 1]),
    }
}
