//! The images that a model gets most wrong, as a web page.

use super::figures::{legend, sections};
use super::page::{escape, page};
use crate::error::Result;
use crate::measure::metrics::Report;
use crate::study::hard::HardImages;

/// The page: each image beside the maps of the predicted and of the true class. `architecture` is the model's, `report` of
/// the same images.
///
/// # Errors
/// If an image cannot be drawn.
pub fn gallery(architecture: &str, report: &Report, hard: &HardImages) -> Result<String> {
    let mut body = format!(
        "<p class=\"lead\">{} {} images, accuracy {:.4}, loss {:.4}</p>\n",
        report.samples,
        escape(&report.split),
        report.accuracy,
        report.loss
    );
    if hard.sections.is_empty() {
        body.push_str("<p class=\"good\">The model makes no mistakes on these images.</p>\n");
    } else {
        body.push_str(&legend());
        body.push_str(&sections(hard, &report.classes)?);
    }
    let title = format!("Mistakes of {architecture}");
    Ok(page(&title, &title, &body))
}
