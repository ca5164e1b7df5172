//! The images that a model gets most wrong, as a web page.

use std::fmt::Write;

use super::page::{escape, image, page, path, picture};
use crate::data::image::Rgb8;
use crate::data::image::picture::{png, thumbnail};
use crate::error::Result;
use crate::measure::metrics::Report;
use crate::measure::rank::argmax;
use crate::net::model::Model;
use crate::study::gradcam::{GradCam, enter, overlay};

/// Pixels of a thumbnail's longer side.
const SIDE: usize = 160;
/// Most pairs of classes that have a section.
const PAIRS: usize = 8;
/// Images shown per pair.
const PAIR_IMAGES: usize = 6;

/// Images that belong together, by position.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// What they have in common.
    pub title: String,
    /// Their positions, the worst first.
    pub images: Vec<usize>,
}

/// The `worst` misclassified images by loss, and the most confused pairs of classes, each with the images of which the
/// model was most confident. Equals stay in order.
pub fn choose(report: &Report, p: &[f32], labels: &[usize], worst: usize) -> Vec<Section> {
    let n = report.classes.len().max(1);
    let row = |i: usize| &p[i * n..][..n];
    let wrong: Vec<usize> = (0..labels.len()).filter(|&i| argmax(row(i)) != labels[i]).collect();
    let mut by_loss = wrong.clone();
    by_loss.sort_by(|&a, &b| row(a)[labels[a]].total_cmp(&row(b)[labels[b]]));
    by_loss.truncate(worst);
    let mut sections = Vec::new();
    if !by_loss.is_empty() {
        let title = format!("Worst mistakes ({} of {})", by_loss.len(), wrong.len());
        sections.push(Section { title, images: by_loss });
    }
    let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
    for (label, counts) in report.confusion_matrix.iter().enumerate() {
        for (answer, &count) in counts.iter().enumerate() {
            if label != answer && count > 0 {
                pairs.push((count, label, answer));
            }
        }
    }
    pairs.sort_by_key(|&(count, ..)| std::cmp::Reverse(count));
    for (count, label, answer) in pairs.into_iter().take(PAIRS) {
        let of_pair = |&i: &usize| labels[i] == label && argmax(row(i)) == answer;
        let mut images: Vec<usize> = wrong.iter().copied().filter(of_pair).collect();
        images.sort_by(|&a, &b| row(b)[answer].total_cmp(&row(a)[answer]));
        images.truncate(PAIR_IMAGES);
        let (label, answer) = (&report.classes[label], &report.classes[answer]);
        let title = format!("{label} predicted as {answer} ({count})");
        sections.push(Section { title, images });
    }
    sections
}

/// What the page needs of one image.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// Its path.
    pub name: String,
    /// The image.
    pub image: Rgb8<'a>,
    /// Its label.
    pub label: usize,
}

/// The page: each image beside Grad-CAM overlays of the predicted and of the true class.
///
/// # Errors
/// If `get` fails or an image cannot be drawn.
pub fn gallery<'a>(
    model: &Model,
    cam: &mut GradCam,
    report: &Report,
    sections: &[Section],
    get: &dyn Fn(usize) -> Result<Shown<'a>>,
) -> Result<String> {
    let mut body = format!(
        "<p class=\"lead\">{} {} images, accuracy {:.4}, loss {:.4}</p>\n",
        report.samples,
        escape(&report.split),
        report.accuracy,
        report.loss
    );
    if sections.is_empty() {
        body.push_str("<p class=\"good\">The model makes no mistakes on these images.</p>\n");
    } else {
        body.push_str(
            "<p class=\"soft\">Beside each image: where the model sees the predicted class and where it sees the true class \
             (Grad-CAM, last layer before the pooling: bright areas support the class). \
             Percentages are the model's probabilities.</p>\n",
        );
    }
    for section in sections {
        let title = escape(&section.title);
        let _ = writeln!(body, "<section><h2 dir=\"auto\">{title}</h2>\n<div class=\"grid\">");
        for &i in &section.images {
            body.push_str(&figure(model, cam, report, get(i)?)?);
        }
        body.push_str("</div></section>\n");
    }
    let title = format!("Mistakes of {}", model.card.architecture);
    Ok(page(&title, &title, &body))
}

fn figure(model: &Model, cam: &mut GradCam, report: &Report, shown: Shown<'_>) -> Result<String> {
    let Shown { name, image: own, label } = shown;
    let pixels = enter(model, &own)?;
    let small = thumbnail(&own, SIDE)?;
    let mut cells = format!("<div>{}<p>image</p></div>", picture(&own, SIDE, &name)?);
    let answer = cam.heat(&pixels, None)?;
    let other = cam.heat(&pixels, Some(label))?;
    for (what, kind, heat) in [("predicted", "bad", &answer), ("true", "good", &other)] {
        let (class, p) = (&report.classes[heat.class], heat.probabilities[heat.class]);
        let picture =
            image(&png(&overlay(&small, heat))?, &format!("where the model sees {class}"));
        let (class, percent) = (escape(class), p * 100.0);
        let _ = write!(
            cells,
            "<div>{picture}<p>{what}, {percent:.1}%<br><b class=\"{kind}\" dir=\"auto\">{class}</b></p></div>"
        );
    }
    let name = path(&name);
    Ok(format!(
        "<figure><div class=\"trio\">{cells}</div><figcaption>{name}</figcaption></figure>\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first_and_pairs_by_number() {
        let classes = ["a", "b", "c"].map(String::from);
        let p =
            [[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0]];
        let (p, labels) = (p.concat(), [0, 1, 1, 2, 1]);
        let report = Report::new("test", &classes, &p, &labels);
        let sections = choose(&report, &p, &labels, 2);
        assert_eq!(sections[0].images, [2, 3]);
        assert_eq!(sections[0].title, "Worst mistakes (2 of 3)");
        assert_eq!(sections[1].title, "b predicted as a (2)");
        assert_eq!((&sections[1].images[..], &sections[2].images[..]), (&[2, 1][..], &[3][..]));
    }

    #[test]
    fn without_mistakes_there_are_no_sections() {
        let classes = ["a", "b"].map(String::from);
        let p = [0.9, 0.1, 0.2, 0.8];
        let report = Report::new("test", &classes, &p, &[0, 1]);
        assert!(choose(&report, &p, &[0, 1], 5).is_empty());
    }
}
