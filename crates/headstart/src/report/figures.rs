//! Images that a model gets wrong, as parts of a page: the image, and where the net looked, as lines over it.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::page::{escape, path, zoom};
use crate::data::image::picture::png;
use crate::data::image::{Rgb8, jpeg};
use crate::error::Result;
use crate::study::gradcam::{Heat, LEVELS, colour, contours};
use crate::study::hard::{HardImage, HardImages};

/// Images of at most so many pixels stay exact, and the browser magnifies them without blur.
const SMALL: usize = 96;
/// Of larger ones, as libjpeg counts it.
const QUALITY: u8 = 85;
/// Images of the first section that stand open in a page about more than these.
const OPEN: usize = 4;

/// What the pictures mean, once for all of them.
pub(super) fn legend() -> String {
    let mut out = String::from(
        "<p class=\"soft\">Beside each image: where the net saw the predicted and where it saw the true class, or the second of a correct prediction \
         (Grad-CAM, last layer before the pooling). Lines are at",
    );
    for (i, level) in LEVELS.iter().enumerate() {
        let before = ["", ",", " and"][i.min(2)];
        let (colour, percent) = (hex(*level), level * 100.0);
        let _ =
            write!(out, "{before} <span class=\"key\" style=\"--c:{colour}\"></span>{percent:.0}%");
    }
    out.push_str(
        " of the map's greatest value. Percentages below are the model's probabilities. \
         Select a picture to see it large.</p>\n",
    );
    out
}

/// Every section with all of its images.
///
/// # Errors
/// If an image cannot be encoded.
pub(super) fn sections(hard: &HardImages, classes: &[String]) -> Result<String> {
    let (mut out, mut shown) = (String::new(), vec![false; hard.images.len()]);
    for section in &hard.sections {
        let title = escape(&section.title);
        let _ = writeln!(out, "<h2 dir=\"auto\">{title}</h2>");
        grid(&mut out, hard, classes, &section.images, &mut shown)?;
    }
    Ok(out)
}

/// The same as a part of a page, below its own heading: the first section's first images stand open, all else opens on demand.
/// Sections of which every image was shown before are left out.
///
/// # Errors
/// As [`sections`].
pub(super) fn folded(hard: &HardImages, classes: &[String]) -> Result<String> {
    let (mut out, mut shown) = (String::new(), vec![false; hard.images.len()]);
    for (i, section) in hard.sections.iter().enumerate() {
        if section.images.iter().all(|&i| shown[i]) {
            continue;
        }
        let title = escape(&section.title);
        let (open, rest) = match i {
            0 => section.images.split_at(section.images.len().min(OPEN)),
            _ => section.images.split_at(0),
        };
        if i == 0 {
            let _ = writeln!(out, "<h3 dir=\"auto\">{title}</h3>");
            grid(&mut out, hard, classes, open, &mut shown)?;
        }
        if !rest.is_empty() {
            let summary = match i {
                0 => format!("{} more", rest.len()),
                _ => title,
            };
            let _ = writeln!(out, "<details><summary dir=\"auto\">{summary}</summary>");
            grid(&mut out, hard, classes, rest, &mut shown)?;
            out.push_str("</details>\n");
        }
    }
    Ok(out)
}

/// Images beside each other; `shown` says which are in the page already.
fn grid(
    out: &mut String,
    hard: &HardImages,
    classes: &[String],
    images: &[usize],
    shown: &mut [bool],
) -> Result<()> {
    out.push_str("<div class=\"grid wide\">\n");
    for &i in images {
        let again = std::mem::replace(&mut shown[i], true);
        figure(out, &hard.images[i], classes, &format!("image{i}"), again)?;
    }
    out.push_str("</div>\n");
    Ok(())
}

/// One image with its maps. Its pixels are in the page once, under `id`.
fn figure(
    out: &mut String,
    image: &HardImage,
    classes: &[String],
    id: &str,
    again: bool,
) -> Result<()> {
    let right = image.predicted == image.label;
    let name = &image.name;
    let source = if again { None } else { Some(file(&image.image)?) };
    out.push_str("<figure><div class=\"trio\">");
    let (class, kind) = (&classes[image.predicted], if right { "good" } else { "bad" });
    let percent = |class: usize| 100.0 * image.probabilities.get(class).copied().unwrap_or(0.0);
    let alt = format!("{name}, predicted as {class}");
    cell(out, &drawing(&image.image, source.as_deref(), id, None, &alt), "image");
    let mut of_class = |what: &str, kind: &str, class: usize, heat: Option<&Heat>| {
        let name = &classes[class];
        let text = format!(
            "{what}, {:.1}%<br><b class=\"{kind}\" dir=\"auto\">{}</b>",
            percent(class),
            escape(name)
        );
        match heat {
            Some(heat) => {
                let alt = match heat.is_empty() {
                    true => format!("no part of the image supports {name}"),
                    false => format!("where the net saw {name}"),
                };
                cell(out, &drawing(&image.image, None, id, Some(heat), &alt), &text);
            }
            None => {
                let _ = write!(out, "<div><p>{text}</p></div>");
            }
        }
    };
    let maps = image.maps.as_ref();
    let what = if right { "predicted, true" } else { "predicted" };
    of_class(what, kind, image.predicted, maps.map(|m| &m[0]));
    let (what, kind) = if right { ("second", "") } else { ("true", "good") };
    of_class(what, kind, image.other, maps.map(|m| &m[1]));
    let _ = writeln!(out, "</div><figcaption>{}</figcaption></figure>", path(name));
    Ok(())
}

fn cell(out: &mut String, drawing: &str, text: &str) {
    let _ = write!(out, "<div>{drawing}<p>{text}</p></div>");
}

/// The image, from its `source` or, where it is in the page already, by `id`, with the lines of a map over it.
fn drawing(
    image: &Rgb8<'_>,
    source: Option<&str>,
    id: &str,
    heat: Option<&Heat>,
    alt: &str,
) -> String {
    // The longer side is 100 units.
    let longest = image.width.max(image.height) as f32;
    let (w, h) = (image.width as f32 / longest * 100.0, image.height as f32 / longest * 100.0);
    let class = if longest as usize <= SMALL { " class=\"px\"" } else { "" };
    let pixels = match source {
        Some(source) => format!(
            "<image id=\"{id}\"{class} width=\"{w:.2}\" height=\"{h:.2}\" preserveAspectRatio=\"none\" href=\"{source}\"/>"
        ),
        None => format!("<use href=\"#{id}\"/>"),
    };
    let mut lines = String::new();
    for level in if heat.is_some() { &LEVELS[..] } else { &[] } {
        let mut d = String::new();
        for line in heat.map(|heat| contours(heat, *level)).unwrap_or_default() {
            for (i, (x, y)) in line.iter().enumerate() {
                let letter = if i == 0 { 'M' } else { 'L' };
                let _ = write!(d, "{letter}{:.1} {:.1}", x * w, y * h);
            }
        }
        if !d.is_empty() {
            let colour = hex(*level);
            let _ = write!(
                lines,
                "<path class=\"casing\" d=\"{d}\"/><path stroke=\"{colour}\" d=\"{d}\"/>"
            );
        }
    }
    let alt = escape(alt);
    zoom(&format!(
        "<svg viewBox=\"0 0 {w:.2} {h:.2}\" role=\"img\" aria-label=\"{alt}\"><title>{alt}</title>{pixels}{lines}</svg>"
    ))
}

/// An image as an address that holds it.
fn file(image: &Rgb8<'_>) -> Result<String> {
    let (kind, bytes) = match image.width.max(image.height) > SMALL {
        true => ("jpeg", jpeg(image, QUALITY)?),
        false => ("png", png(image)?),
    };
    Ok(format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)))
}

/// The colour of a value of a map.
fn hex(value: f32) -> String {
    let [r, g, b] = colour(value).map(|c| c.round() as u8);
    format!("#{r:02x}{g:02x}{b:02x}")
}
