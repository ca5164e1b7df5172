//! Progress of a download: a bar on a terminal, else lines.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use headstart::hub::Event;
use headstart::inference::Control;
use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt;
use crate::output::note;
use crate::progress::bytes;

/// How often a long download prints a line where there is no bar.
const INTERVAL: Duration = Duration::from_secs(30);

/// What a hash of which too little is known is worth.
pub const DAMAGE_ALONE: &str = "that guards against damage, not against a file made on purpose";

/// Shows the events of one download.
pub struct Download {
    bar: Option<ProgressBar>,
    terminal: bool,
    /// The last line, so that repeated events do not repeat it.
    said: String,
    started: Option<(Instant, String, u64)>,
    last_line: Instant,
    done: u64,
}

impl Download {
    pub fn new() -> Download {
        Download {
            bar: None,
            terminal: std::io::stderr().is_terminal() && !crate::output::is_silent(),
            said: String::new(),
            started: None,
            last_line: Instant::now(),
            done: 0,
        }
    }

    /// Shows one event; `Stop` after Ctrl-C.
    pub fn show(&mut self, event: &Event<'_>) -> Control {
        // Only what takes long is worth stopping in good order.
        if self.said.is_empty() {
            interrupt::watch();
        }
        match *event {
            Event::Distrusted { path, expected, found } => {
                let path = path.display();
                self.say(format!("{path} is not used: expected {expected}, found {found}"));
            }
            Event::Listing { url, count } => self.listing(url, count),
            Event::LeftOut { url, count, first } => {
                let s = if count == 1 { "" } else { "s" };
                self.say(format!("left out {count} object{s} below {url}, such as {first}"));
            }
            Event::Waiting { file } => {
                self.say(format!("waiting: another process is downloading {file}"));
            }
            Event::Retrying { file, reason, pause } => {
                let pause = pause.as_secs_f64();
                self.say(format!("{file}: {reason}; trying again in {pause:.0} s"));
            }
            Event::Downloading { file, url, done, total } => {
                self.downloading(file, url, done, total);
            }
            Event::PartlyChecked { file, digest } => {
                self.say(format!("warning: {file} was checked against {digest}: {DAMAGE_ALONE}"));
            }
            Event::Arrived { .. } => self.end(),
        }
        interrupt::control()
    }

    fn downloading(&mut self, file: &str, url: &str, done: u64, total: Option<u64>) {
        if self.started.is_none() {
            let from = if done > 0 {
                format!(", {} are here already", bytes(done))
            } else {
                String::new()
            };
            self.say(format!("downloading {file} from {url}{from}"));
            self.started = Some((Instant::now(), file.to_string(), done));
        }
        self.done = done;
        let of = total.map_or(String::new(), |total| format!(" of {}", bytes(total)));
        if !self.terminal {
            if self.last_line.elapsed() > INTERVAL {
                self.say(format!("{file}: {}{of}", bytes(done)));
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total.unwrap_or(0));
            let template = "{prefix} [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  ETA {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(file.to_string());
            bar.set_position(done);
            bar.reset_eta();
            bar
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    }

    /// Says where a list comes from once it takes a while, and then how far it is.
    fn listing(&mut self, url: &str, count: u64) {
        if self.last_line.elapsed() > INTERVAL {
            self.say(format!("listing {url}: {count} objects so far"));
        }
    }

    fn say(&mut self, line: String) {
        if line != self.said {
            match &self.bar {
                Some(bar) => bar.println(&line),
                None => note!("{line}"),
            }
            self.last_line = Instant::now();
            self.said = line;
        }
    }

    /// Removes the bar and prints size and time.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some((start, file, before)) = self.started.take() {
            let (new, seconds) = (self.done.saturating_sub(before), start.elapsed().as_secs_f64());
            if new > 0 {
                note!("{file}: {} in {seconds:.1} s", bytes(new));
            }
        }
    }
}
