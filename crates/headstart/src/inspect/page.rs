//! An inspection as one HTML page that needs nothing beside it: thumbnails are in it.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Group, Inspection, LabelCheck, Member, parts};
use crate::dataset::Dataset;
use crate::error::Result;
use crate::image::{Interpolation, Rgb8, resize};
use crate::summary::grouped;

/// Longest side of a thumbnail in pixels.
const THUMBNAIL: usize = 96;
/// Groups and images shown of each kind of finding.
const SHOWN: usize = 60;
/// Images shown of one group.
const MEMBERS: usize = 12;

const STYLE: &str = include_str!("page.css");

/// The page for `found`, which is about `data`: thumbnails are read from it anew.
pub fn html(found: &Inspection, data: &Dataset) -> String {
    let mut out = String::new();
    let name = escape(&found.name);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name}: data check</title>\n<style>\n{STYLE}</style></head><body><main>\n\
         <h1>{name}</h1>\n<p class=\"lead\">{} images, {} classes</p>\n",
        grouped(found.images),
        grouped(found.classes.len())
    );
    tiles(&mut out, found);
    counts(&mut out, found);
    rows(
        &mut out,
        "unreadable",
        "Files that cannot be used",
        found.unreadable.iter().map(|s| (s.name.as_str(), s.reason.clone())),
    );
    rows(
        &mut out,
        "extensions",
        "Wrong extensions",
        found.wrong_extensions.iter().map(|w| (w.name.as_str(), format!("is a {}", w.format))),
    );
    groups(&mut out, "exact", "Exact duplicates", &found.exact_duplicates, data);
    groups(&mut out, "near", "Near duplicates", &found.near_duplicates, data);
    if let Some(check) = &found.labels {
        labels(&mut out, check, data);
    }
    gallery(&mut out, "tiny", "Tiny images", &found.tiny, data);
    gallery(&mut out, "blank", "Blank images", &found.blank, data);
    rows(
        &mut out,
        "warnings",
        "Warnings",
        found.warnings.iter().map(|w| (w.as_str(), String::new())),
    );
    if found.findings() == 0 {
        out.push_str("<p class=\"good\">Nothing to complain about.</p>\n");
    }
    let _ = write!(
        out,
        "<footer>headstart {} data check</footer>\n</main></body></html>\n",
        env!("CARGO_PKG_VERSION")
    );
    out
}

/// The findings in numbers, each a link to its section.
fn tiles(out: &mut String, found: &Inspection) {
    out.push_str("<nav class=\"tiles\">\n");
    let doubtful = found.labels.as_ref().map(|check| check.issues.len());
    for (id, count, label, grave) in [
        ("unreadable", found.unreadable.len(), "cannot be used", true),
        ("extensions", found.wrong_extensions.len(), "wrong extension", false),
        ("exact", found.exact_duplicates.len(), "exact duplicates", false),
        ("near", found.near_duplicates.len(), "near duplicates", false),
        ("exact", found.leaks, "in two splits", true),
        ("exact", found.conflicts, "under two classes", true),
        ("labels", doubtful.unwrap_or(0), "labels likely wrong", true),
        ("tiny", found.tiny.len(), "tiny", false),
        ("blank", found.blank.len(), "blank", false),
    ] {
        if id == "labels" && doubtful.is_none() {
            continue;
        }
        let class = match (count, grave) {
            (0, _) => "none",
            (_, true) => "grave",
            _ => "some",
        };
        let number = grouped(count);
        let _ = writeln!(out, "<a class=\"{class}\" href=\"#{id}\"><b>{number}</b>{label}</a>");
    }
    out.push_str("</nav>\n");
}

/// Images by class and split, as bars.
fn counts(out: &mut String, found: &Inspection) {
    let most = found.parts.iter().flat_map(|p| &p.class_counts).max().copied().unwrap_or(0).max(1);
    out.push_str("<section><h2>Classes</h2>\n");
    if found.balance.is_uneven() {
        let b = &found.balance;
        let _ = writeln!(
            out,
            "<p>Uneven: {} images of {}, {} of {}.</p>",
            grouped(b.most),
            escape(&b.largest),
            grouped(b.fewest),
            escape(&b.smallest)
        );
    }
    out.push_str("<table><thead><tr><th>class</th>");
    for part in &found.parts {
        let ((h0, w0), (h1, w1)) = (part.smallest, part.largest);
        let size = match (h0, w0) == (h1, w1) {
            true => format!("{w0}&times;{h0}"),
            false => format!("{w0}&times;{h0} to {w1}&times;{h1}"),
        };
        let images = grouped(part.images);
        let _ = write!(out, "<th>{} <small>{images} images, {size}</small></th>", part.name);
    }
    out.push_str("</tr></thead><tbody>\n");
    for (label, class) in found.classes.iter().enumerate() {
        let _ = write!(out, "<tr><td>{}</td>", escape(class));
        for part in &found.parts {
            let count = part.class_counts[label];
            let width = 100.0 * count as f64 / most as f64;
            let _ = write!(
                out,
                "<td><span class=\"bar\" style=\"--w:{width:.1}%\"></span>{}</td>",
                grouped(count)
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></section>\n");
}

fn heading(out: &mut String, id: &str, title: &str, count: usize) {
    let _ = writeln!(out, "<section id=\"{id}\"><h2>{title} <i>{}</i></h2>", grouped(count));
    if count > SHOWN {
        let _ = writeln!(out, "<p>The first {SHOWN} are shown; --json lists all.</p>");
    }
}

fn rows<'a>(
    out: &mut String,
    id: &str,
    title: &str,
    items: impl ExactSizeIterator<Item = (&'a str, String)>,
) {
    if items.len() == 0 {
        return;
    }
    heading(out, id, title, items.len());
    out.push_str("<table><tbody>\n");
    for (name, text) in items.take(SHOWN) {
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(&text));
    }
    out.push_str("</tbody></table></section>\n");
}

fn groups(out: &mut String, id: &str, title: &str, list: &[Group], data: &Dataset) {
    if list.is_empty() {
        return;
    }
    heading(out, id, title, list.len());
    // Those that spoil results come first.
    let mut sorted: Vec<&Group> = list.iter().collect();
    sorted.sort_by_key(|g| (!g.across_splits, !g.across_classes));
    for group in sorted.into_iter().take(SHOWN) {
        let grave = if group.remark().is_empty() { "" } else { " grave" };
        let _ = write!(out, "<div class=\"group{grave}\"><div class=\"row\">");
        group.images.iter().take(MEMBERS).for_each(|member| figure(out, member, "", data));
        out.push_str("</div>");
        let more = group.images.len().saturating_sub(MEMBERS);
        let mut notes = Vec::new();
        if more > 0 {
            notes.push(format!("and {more} more"));
        }
        if !group.remark().is_empty() {
            notes.push(group.remark().to_string());
        }
        if !notes.is_empty() {
            let _ = write!(out, "<p>{}</p>", notes.join("; "));
        }
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n");
}

fn gallery(out: &mut String, id: &str, title: &str, list: &[Member], data: &Dataset) {
    if list.is_empty() {
        return;
    }
    heading(out, id, title, list.len());
    out.push_str("<div class=\"row\">");
    list.iter().take(SHOWN).for_each(|member| figure(out, member, "", data));
    out.push_str("</div></section>\n");
}

fn labels(out: &mut String, check: &LabelCheck, data: &Dataset) {
    if check.issues.is_empty() {
        return;
    }
    heading(out, "labels", "Labels that are likely wrong", check.issues.len());
    let _ = write!(
        out,
        "<p>Of {} training images; heads over {} of {} that did not see an image agree with {:.1}%.</p>\n\
         <div class=\"row\">",
        grouped(check.images),
        escape(&check.layer),
        escape(&check.model),
        100.0 * check.accuracy
    );
    for issue in check.issues.iter().take(SHOWN) {
        let (suggested, p) = (escape(&issue.suggested), issue.probability);
        figure(out, &issue.image, &format!("rather <b>{suggested}</b> {p:.3}<br>"), data);
    }
    out.push_str("</div></section>\n");
}

/// An image with what is known of it; `note` is HTML.
fn figure(out: &mut String, member: &Member, note: &str, data: &Dataset) {
    let subset = parts(data).into_iter().find(|part| part.0 == member.split).map(|part| part.1);
    let picture = subset
        .filter(|subset| member.position < subset.len())
        .and_then(|subset| subset.image(member.position).ok())
        .and_then(|image| thumbnail(&image).ok());
    let name = escape(&member.name);
    let image = match picture {
        Some(png) => {
            format!("<img alt=\"\" src=\"data:image/png;base64,{}\">", STANDARD.encode(png))
        }
        None => "<span class=\"gone\">not readable</span>".to_string(),
    };
    let (height, width) = member.size;
    let _ = write!(
        out,
        "<figure title=\"{name}\">{image}<figcaption><b>{}</b> {}, {width}&times;{height}<br>{note}{name}</figcaption></figure>",
        escape(&member.class),
        member.split
    );
}

/// A PNG whose longer side is at most [`THUMBNAIL`]; smaller images stay as they are.
fn thumbnail(image: &Rgb8<'_>) -> Result<Vec<u8>> {
    let longer = image.width.max(image.height);
    let scaled = |side: usize| (side * THUMBNAIL / longer).max(1);
    let small = match longer > THUMBNAIL {
        true => resize(image, scaled(image.width), scaled(image.height), Interpolation::Bilinear)?,
        false => image.clone().into_owned(),
    };
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, small.width as u32, small.height as u32);
    encoder.set_color(png::ColorType::Rgb);
    let failed = |e: png::EncodingError| {
        crate::Error::invalid("thumbnail", "a PNG that can be written", e.to_string(), "")
    };
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&small.pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(out)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
