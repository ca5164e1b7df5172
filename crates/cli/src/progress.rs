//! Progress on stderr: a bar on a terminal, else a line per epoch.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use headstart::events::Event;
use headstart::inference::Control;
use headstart::summary::grouped;
use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt;
use crate::output::note;

/// Shows events.
pub struct Progress {
    bar: Option<(String, ProgressBar)>,
    terminal: bool,
    /// Epochs of all phases, shown beside an epoch's number.
    pub epochs: usize,
    /// Whether the top-5 accuracy says anything of these classes.
    pub top5: bool,
    /// Whether epochs are compared by macro F1, which is shown then.
    pub macro_f1: bool,
    last_line: Instant,
}

/// How often long work prints a line where there is no bar.
const INTERVAL: Duration = Duration::from_secs(30);

impl Progress {
    /// For a command that trains `epochs` epochs, or none.
    pub fn new(epochs: usize) -> Progress {
        let terminal = std::io::stderr().is_terminal() && !crate::output::is_silent();
        let (top5, macro_f1, last_line) = (true, false, Instant::now());
        Progress { bar: None, terminal, epochs, top5, macro_f1, last_line }
    }

    /// Shows one event; `Stop` after Ctrl-C.
    pub fn show(&mut self, event: &Event) -> Control {
        match event {
            Event::Phase { .. } => self.phase(event),
            Event::Features { split, done, total, seconds } => {
                let title = format!("frozen layers, {split}");
                self.count(&title, *done, *total, *done as f64 / seconds.max(1e-9));
            }
            Event::Cache { split, images, reused, bytes: size, seconds, .. } if *reused > 0 => {
                self.clear();
                note!(
                    "{split}: features of {} of {} images are kept from before ({}); this saves {:.1} s",
                    grouped(*reused),
                    grouped(*images),
                    bytes(*size),
                    seconds,
                );
            }
            Event::Cache { .. } => {}
            Event::CacheNote { message } => {
                self.clear();
                note!("cache: {message}");
            }
            Event::Resumed { epochs, steps } => {
                let steps = if *steps > 0 { format!(" and {steps} steps") } else { String::new() };
                note!("resumed: the run goes on after {epochs} epochs{steps}");
            }
            Event::Solving { l2, evaluations, gradient, fraction } => {
                let message = format!("{evaluations} evaluations, gradient {gradient:.1e}");
                let percent = (100.0 * fraction) as usize;
                self.bar(&format!("L-BFGS, L2 {l2:e}, percent"), percent, 100, message);
            }
            Event::Solved { .. } => self.solved(event),
            Event::Refitted { images } => {
                self.clear();
                note!("classifier fitted again on all {images} training and validation images");
            }
            Event::Evaluating { split, done, total } => {
                self.count(&format!("evaluating, {split}"), *done, *total, 0.0);
            }
            Event::Step { epoch, step, steps, loss, accuracy, images_per_second, .. } => {
                let title = format!("epoch {epoch}/{}", self.epochs);
                let message =
                    format!("{images_per_second:.1} img/s  loss {loss:.4}  accuracy {accuracy:.4}");
                self.bar(&title, *step, *steps, message);
            }
            Event::RangeTest { learning_rate, loss, step, steps } => {
                let message = format!("learning rate {learning_rate:.1e}  loss {loss:.4}");
                self.bar("range test", *step, *steps, message);
            }
            Event::Epoch(record) => self.epoch(record),
            Event::EarlyStopping { phase, best, skipped } => {
                self.clear();
                let early = match skipped {
                    0 => "finished".to_string(),
                    n => format!("stopped {n} epochs early"),
                };
                note!("{} {early}; the weights are those of epoch {best}", phase.name());
                self.epochs -= skipped;
            }
            Event::TimeUp { epoch, step, steps, .. } => {
                self.clear();
                note!("the time is over: epoch {epoch} ends after {step} of {steps} steps");
            }
            Event::Calibrated { fit, .. } => {
                self.clear();
                note!("calibration: {fit}");
            }
            Event::CrossValidating { done, total } => {
                self.bar("cross-validating, heads", *done, *total, String::new());
                if done == total {
                    self.clear();
                }
            }
            Event::Evaluation { .. } => self.evaluation(event),
        }
        interrupt::control()
    }

    /// Removes the bar.
    pub fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Shows how many of `total` images are done.
    pub fn images(&mut self, title: &str, done: usize, total: usize) -> Control {
        self.count(title, done, total, 0.0);
        interrupt::control()
    }

    fn solved(&mut self, event: &Event) {
        let Event::Solved { l2, evaluations, gradient, converged, held_out_loss } = event else {
            return;
        };
        self.clear();
        if let Some(loss) = held_out_loss {
            note!("L2 {l2:e}: loss {loss:.4} by cross-validation");
            return;
        }
        let (result, gradient) = match converged {
            true => ("converged", String::new()),
            false => ("did not converge", format!(", gradient {gradient:.1e}")),
        };
        note!("classifier {result} (L-BFGS, L2 {l2:e}, {evaluations} evaluations{gradient})");
    }

    fn epoch(&mut self, e: &headstart::history::EpochRecord) {
        self.clear();
        let validation = match (e.val_loss, e.val_accuracy) {
            (Some(loss), Some(accuracy)) => {
                format!("  val_loss {loss:.4}  val_accuracy {accuracy:.4}")
            }
            _ => String::new(),
        };
        let macro_f1 = e.val_macro_f1.filter(|_| self.macro_f1);
        let macro_f1 = macro_f1.map_or(String::new(), |f1| format!("  val_macro_f1 {f1:.4}"));
        note!(
            "epoch {}/{} ({})  {:.1} s  {:.1} img/s  loss {:.4}  accuracy {:.4}{validation}{macro_f1}",
            e.epoch,
            self.epochs,
            e.phase.name(),
            e.seconds,
            e.images_per_second,
            e.loss,
            e.accuracy,
        );
    }

    fn evaluation(&mut self, event: &Event) {
        let Event::Evaluation { epoch, split, loss, accuracy, top5, samples, seconds, .. } = event
        else {
            return;
        };
        self.clear();
        let of = epoch.map_or(String::new(), |e| format!(", weights of epoch {e}"));
        let top5 = if self.top5 { format!("  top-5 {top5:.4}") } else { String::new() };
        note!(
            "{split}{of}: loss {loss:.4}  accuracy {accuracy:.4}{top5}  ({} image{} in {seconds:.1} s)",
            grouped(*samples),
            if *samples == 1 { "" } else { "s" }
        );
    }

    fn phase(&mut self, event: &Event) {
        let Event::Phase {
            phase,
            from,
            trainable,
            frontier,
            cached,
            on_disk,
            cache_bytes,
            augment,
            arena_bytes,
            ..
        } = event
        else {
            return;
        };
        self.clear();
        let from = from.as_ref().map_or(String::new(), |layer| format!(" from {layer}"));
        note!("{}{from}: {} trainable parameters", phase.name(), grouped(*trainable));
        let (outputs, size) = (frontier.join(", "), bytes(*cache_bytes));
        if *cached {
            let place = if *on_disk { "on disk" } else { "in memory" };
            note!(
                "  frozen layers run once per image; cached features of {outputs}: {size} {place}"
            );
        } else if *cache_bytes > 0 && !augment.is_empty() {
            note!(
                "  images are augmented in every epoch ({}): frozen layers run in every epoch",
                augment.join(", ")
            );
        } else if *cache_bytes > 0 {
            note!(
                "  cached features of {outputs} would take {size}: frozen layers run in every epoch"
            );
        }
        note!("  activations and gradients of a step take {}", bytes(*arena_bytes));
    }

    /// Shows how many of `total` images are done, and images per second where `rate` is not 0.
    pub fn count(&mut self, title: &str, done: usize, total: usize, rate: f64) {
        let rate = if rate > 0.0 { format!("{rate:.1} img/s") } else { String::new() };
        // Without a bar: a line from time to time, and one at the end where there is a speed.
        let end = done == total && !rate.is_empty();
        if !self.terminal && (end || self.last_line.elapsed() > INTERVAL) {
            self.last_line = Instant::now();
            note!("{title}: {} of {} images  {rate}", grouped(done), grouped(total));
        }
        self.bar(title, done, total, rate);
        if done == total {
            self.clear();
        }
    }

    fn bar(&mut self, title: &str, done: usize, total: usize, message: String) {
        if !self.terminal {
            return;
        }
        if self.bar.as_ref().is_none_or(|(shown, _)| shown != title) {
            self.clear();
            let bar = ProgressBar::new(total as u64);
            let template = "{prefix} [{bar:20}] {pos}/{len}  ETA {eta}  {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(title.to_string());
            self.bar = Some((title.to_string(), bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(done as u64);
            bar.set_message(message);
        }
    }
}

/// A size for people.
pub fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| n >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", n as f64 / *unit as f64),
        None => format!("{n} bytes"),
    }
}
