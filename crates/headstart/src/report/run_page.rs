//! One page about a finished run: what was trained on what, how good it is, where it is wrong, and what to do next.
//!
//! The page is one file: pictures are inside. It has a script of its own, for buttons that copy commands, and needs none.

mod tables;

use std::fmt::Write;

use self::tables::{by_class, confusions, epochs, facts, settings, tiles, words};
use super::figure::Figure;
use super::figures::{folded, legend};
use super::page::{chart, escape, page_with};
use super::plots::curves;
use super::{CurveNotes, confusion_matrix, is_drawn, reliability};
use crate::error::Result;
use crate::measure::history::History;
use crate::measure::metrics::Report;
use crate::study::hard::HardImages;

/// What the page is made from. All text is text: the page escapes it.
#[derive(Clone, Debug)]
pub struct RunPage<'a> {
    /// What was trained, such as the name of the run's folder.
    pub title: &'a str,
    /// One sentence under it.
    pub lead: &'a str,
    /// Names and values of what is known of the run: data, net, date, settings.
    pub facts: &'a [(String, String)],
    /// Settings that are not the default, as flags.
    pub settings: &'a [String],
    /// The evaluation of the shipped weights; none where no images were held out.
    pub report: Option<&'a Report>,
    /// All epochs.
    pub history: &'a History,
    /// In what training metrics are not like validation metrics.
    pub notes: &'a CurveNotes,
    /// Whether the run was stopped, and can be resumed; [`STOPPED`] says so in the page's head.
    pub stopped: bool,
    /// The epoch whose weights are shipped; none where that is not known.
    pub shipped: Option<usize>,
    /// The images that the shipped weights get most wrong.
    pub hard: Option<&'a HardImages>,
    /// What to do next, each with its command.
    pub next: &'a [(String, String)],
}

/// What the head of a stopped run's page has.
pub const STOPPED: &str = "<meta name=\"headstart-run\" content=\"stopped\">\n";

/// Buttons that copy commands; without it, selecting a command takes all of it.
const SCRIPT: &str = "<script>
document.querySelectorAll('pre.command').forEach(pre => {
  if (!navigator.clipboard) return;
  const button = document.createElement('button');
  button.textContent = 'copy';
  button.onclick = async () => {
    await navigator.clipboard.writeText(pre.firstChild.textContent);
    button.textContent = 'copied';
  };
  pre.append(button);
});
addEventListener('keydown', event => {
  if (event.key !== 'Escape') return;
  document.querySelectorAll('.zoom input:checked').forEach(box => box.checked = false);
});
</script>
";

impl RunPage<'_> {
    /// The page.
    ///
    /// # Errors
    /// If a picture cannot be drawn.
    pub fn html(&self) -> Result<String> {
        let mut body = format!("<p class=\"lead\" dir=\"auto\">{}</p>\n", escape(self.lead));
        if let Some(report) = self.report {
            tiles(&mut body, report);
        }
        self.contents(&mut body);
        body.push_str("<section id=\"run\"><h2>The run</h2>\n");
        facts(&mut body, self.facts);
        settings(&mut body, self.settings);
        body.push_str("</section>\n");
        self.next(&mut body);
        if let Some(report) = self.report {
            self.classes(&mut body, report)?;
        }
        self.curves(&mut body)?;
        if let Some(report) = self.report {
            calibration(&mut body, report)?;
            self.images(&mut body, report)?;
        }
        body.push_str(SCRIPT);
        let meta = if self.stopped { STOPPED } else { "" };
        Ok(page_with(&format!("{}: report", self.title), self.title, meta, &body))
    }

    /// Links to the sections that the page has.
    fn contents(&self, body: &mut String) {
        let report = self.report;
        let has_images = self.hard.is_some_and(|hard| !hard.sections.is_empty());
        body.push_str("<nav class=\"contents\" aria-label=\"On this page\">\n");
        for (id, name, there) in [
            ("next", "What to do next", !self.next.is_empty()),
            ("classes", "By class", report.is_some()),
            ("confusion", "Confusion matrix", report.is_some()),
            ("curves", "Training", !self.history.epochs.is_empty()),
            ("calibration", "Calibration", report.is_some_and(|r| r.calibration.is_some())),
            ("images", "Images", report.is_some() && has_images),
        ] {
            if there {
                let _ = writeln!(body, "<a href=\"#{id}\">{name}</a>");
            }
        }
        body.push_str("</nav>\n");
    }

    fn next(&self, body: &mut String) {
        if self.next.is_empty() {
            return;
        }
        body.push_str("<section id=\"next\"><h2>What to do next</h2>\n<dl class=\"next\">\n");
        for (what, command) in self.next {
            let (what, command) = (escape(what), words(command));
            let _ = writeln!(
                body,
                "<dt>{what}</dt><dd><pre class=\"command\" tabindex=\"0\"><code>{command}</code></pre></dd>"
            );
        }
        body.push_str("</dl></section>\n");
    }

    /// The table by class, and what is taken for what.
    fn classes(&self, body: &mut String, report: &Report) -> Result<()> {
        body.push_str("<section id=\"classes\"><h2>By class</h2>\n");
        by_class(body, report);
        body.push_str("</section>\n<section id=\"confusion\"><h2>Confusion matrix</h2>\n");
        let alt = format!(
            "Confusion matrix of {} images: true classes in rows, predicted classes in columns.",
            report.samples
        );
        body.push_str("<div class=\"charts\">");
        match is_drawn(report) {
            true => {
                let picture = chart(&confusion_matrix(report)?, &alt);
                let _ = writeln!(body, "<div class=\"chart-box\">{picture}</div>");
            }
            false => body.push_str(
                "<p class=\"soft\">It is not drawn for more than 1,000 classes; confusion_matrix.csv has it.</p>\n",
            ),
        }
        confusions(body, report);
        body.push_str("</div></section>\n");
        Ok(())
    }

    fn curves(&self, body: &mut String) -> Result<()> {
        if self.history.epochs.is_empty() {
            return Ok(());
        }
        body.push_str("<section id=\"curves\"><h2>Training</h2>\n");
        body.push_str("<div class=\"charts\">\n");
        for figure in [Figure::Accuracy, Figure::Loss] {
            let alt = format!("{} by epoch, training and validation.", figure.name());
            let picture = curves(self.history, figure, self.notes)?;
            let _ = writeln!(body, "<div class=\"chart-box\">{}</div>", chart(&picture, &alt));
        }
        body.push_str("</div>\n");
        let refit = self.report.and_then(|r| r.shipped.as_ref()).map_or(0, |s| s.refit);
        let calibration = self.report.and_then(|report| report.calibration.as_ref());
        let has_temperature = calibration.is_some_and(|c| c.temperature.is_some());
        epochs(body, self.history, (self.shipped, refit, self.stopped), has_temperature);
        body.push_str("</section>\n");
        Ok(())
    }

    fn images(&self, body: &mut String, report: &Report) -> Result<()> {
        let Some(hard) = self.hard.filter(|hard| !hard.sections.is_empty()) else { return Ok(()) };
        body.push_str("<section id=\"images\"><h2>Images</h2>\n");
        body.push_str(&legend());
        body.push_str(&folded(hard, &report.classes)?);
        body.push_str("</section>\n");
        Ok(())
    }
}

fn calibration(body: &mut String, report: &Report) -> Result<()> {
    let Some(calibration) = &report.calibration else { return Ok(()) };
    let percent = 100.0 * calibration.ece;
    let temperature = match calibration.temperature {
        Some(t) => format!(" at temperature {t:.3}"),
        None => String::new(),
    };
    let before = match &calibration.uncalibrated {
        Some(u) => {
            format!(" Without it: ECE {:.4} and loss {:.4}, not {:.4}.", u.ece, u.loss, report.loss)
        }
        None => {
            " The probabilities are as the net gives them: it has no temperature, as where none \
                 lowered the loss on validation images by more than chance."
                .to_string()
        }
    };
    let picture = chart(
        &reliability(calibration)?,
        "Accuracy against confidence: on the diagonal, probabilities are what they say.",
    );
    let _ = writeln!(
        body,
        "<section id=\"calibration\"><h2>Calibration</h2>\n<div class=\"charts\"><div class=\"chart-box\">{picture}</div>\n\
         <p class=\"soft\">Confidence and accuracy differ by {percent:.1} percentage points on average (expected calibration \
         error, ECE {:.4}{temperature}).{before} On the diagonal, a probability is what it says; below it, the model is too sure. \
         The bars are the fraction of images at each confidence.</p></div></section>",
        calibration.ece
    );
    Ok(())
}

#[cfg(test)]
mod tests;
