//! An inspection as one HTML page without other files: thumbnails are inside.

use std::fmt::Write;

use super::page::{escape, page, path, picture};
use crate::data::dataset::Dataset;
use crate::numbers::grouped;
use crate::study::inspect::{BLANK, Group, Inspection, LabelCheck, Member, TINY, parts};

/// Longest side of a thumbnail in pixels.
const THUMBNAIL: usize = 128;
/// Groups and images shown of each kind of finding.
const SHOWN: usize = 60;
/// Images shown of one group.
const MEMBERS: usize = 12;

/// The page for `found`, which is about `data`, from which thumbnails are read again.
pub fn html(found: &Inspection, data: &Dataset) -> String {
    let mut out = format!(
        "<p class=\"lead\">{} images, {} classes</p>\n",
        grouped(found.images),
        grouped(found.classes.len())
    );
    tiles(&mut out, found);
    if found.findings() == 0 {
        out.push_str("<p class=\"good\">No problems found.</p>\n");
    }
    counts(&mut out, found);
    let unreadable = found.unreadable.iter().map(|s| (s.name.as_str(), s.reason.clone()));
    rows(&mut out, &UNREADABLE, unreadable);
    let extensions = found.wrong_extensions.iter();
    let extensions = extensions.map(|w| (w.name.as_str(), format!("is a {}", w.format)));
    rows(&mut out, &EXTENSIONS, extensions);
    groups(&mut out, &EXACT, &found.exact_duplicates, data);
    groups(&mut out, &NEAR, &found.near_duplicates, data);
    if let Some(check) = &found.labels {
        labels(&mut out, check, data);
    }
    let tiny = format!("A side has fewer than {TINY} pixels: there may be too little to see.");
    let blank = format!("No colour varies by more than {BLANK} of 255: there is nothing to see.");
    gallery(&mut out, &Kind { id: "tiny", title: "Tiny images", text: &tiny }, &found.tiny, data);
    let kind = Kind { id: "blank", title: "Blank images", text: &blank };
    gallery(&mut out, &kind, &found.blank, data);
    let warnings = found.warnings.iter().map(|w| (w.as_str(), String::new()));
    rows(&mut out, &Kind { id: "warnings", title: "Warnings", text: "" }, warnings);
    page(&format!("{}: data check", found.name), &found.name, &out)
}

/// A kind of finding: its anchor, its title, and what it means.
struct Kind<'a> {
    id: &'a str,
    title: &'a str,
    text: &'a str,
}

const UNREADABLE: Kind<'_> = Kind {
    id: "unreadable",
    title: "Files that cannot be used",
    text: "Training leaves them out.",
};
const EXTENSIONS: Kind<'_> = Kind {
    id: "extensions",
    title: "Wrong extensions",
    text: "headstart reads them by their content; other programs may trust the name.",
};
const EXACT: Kind<'_> = Kind {
    id: "exact",
    title: "Exact duplicates",
    text: "The same image more than once: keep one. Under two classes, one label is wrong; in two splits, the model \
           is tested on an image that it was trained on.",
};
const NEAR: Kind<'_> = Kind {
    id: "near",
    title: "Near duplicates",
    text: "Images that look the same: saved again, resized, slightly changed, or only very similar.",
};

/// The findings in numbers, each a link to its section.
fn tiles(out: &mut String, found: &Inspection) {
    out.push_str("<nav class=\"tiles\">\n");
    let in_exact = |of: &dyn Fn(&Group) -> bool| match found.exact_duplicates.iter().any(of) {
        true => "exact",
        false => "near",
    };
    let (leaks, conflicts) = (in_exact(&|g| g.across_splits), in_exact(&|g| g.across_classes));
    let suspected = found.labels.as_ref().map(|check| check.issues.len());
    for (id, count, label, grave) in [
        ("unreadable", found.unreadable.len(), "cannot be used", true),
        ("extensions", found.wrong_extensions.len(), "wrong extension", false),
        ("exact", found.exact_duplicates.len(), "exact duplicates", false),
        ("near", found.near_duplicates.len(), "near duplicates", false),
        (leaks, found.leaks, "in two splits", true),
        (conflicts, found.conflicts, "under two classes", true),
        ("labels", suspected.unwrap_or(0), "suspected label errors", true),
        ("tiny", found.tiny.len(), "tiny", false),
        ("blank", found.blank.len(), "blank", false),
    ] {
        if id == "labels" && suspected.is_none() {
            continue;
        }
        let class = if grave { "grave" } else { "some" };
        let number = grouped(count);
        let _ = match count {
            0 => writeln!(out, "<span><b>0</b>{label}</span>"),
            _ => writeln!(out, "<a class=\"{class}\" href=\"#{id}\"><b>{number}</b>{label}</a>"),
        };
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
    out.push_str("<table class=\"counts\"><thead><tr><th scope=\"col\">class</th>");
    for part in &found.parts {
        let ((h0, w0), (h1, w1)) = (part.smallest, part.largest);
        let size = match (h0, w0) == (h1, w1) {
            true => format!("{w0}&times;{h0}"),
            false => format!("{w0}&times;{h0} to {w1}&times;{h1}"),
        };
        let images = grouped(part.images);
        let _ = write!(
            out,
            "<th scope=\"col\">{} <small>{images} images, {size}</small></th>",
            part.name
        );
    }
    out.push_str("</tr></thead><tbody>\n");
    for (label, class) in found.classes.iter().enumerate() {
        let _ = write!(out, "<tr><th scope=\"row\" dir=\"auto\">{}</th>", escape(class));
        for part in &found.parts {
            let count = part.class_counts[label];
            let width = 100.0 * count as f64 / most as f64;
            let _ = write!(
                out,
                "<td><div class=\"count\"><span>{}</span><div class=\"bar\" style=\"--w:{width:.1}%\"></div></div></td>",
                grouped(count)
            );
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></section>\n");
}

fn heading(out: &mut String, kind: &Kind<'_>, count: usize) {
    let Kind { id, title, text } = kind;
    let _ = writeln!(out, "<section id=\"{id}\"><h2>{title} <i>{}</i></h2>", grouped(count));
    let cut = match count > SHOWN {
        true => format!(" The first {SHOWN} are shown; --json lists all."),
        false => String::new(),
    };
    if !text.is_empty() || !cut.is_empty() {
        let _ = writeln!(out, "<p>{text}{cut}</p>");
    }
}

fn rows<'a>(
    out: &mut String,
    kind: &Kind<'_>,
    items: impl ExactSizeIterator<Item = (&'a str, String)>,
) {
    if items.len() == 0 {
        return;
    }
    heading(out, kind, items.len());
    out.push_str("<table class=\"files\"><tbody>\n");
    for (name, text) in items.take(SHOWN) {
        let text = match text.is_empty() {
            true => text,
            false => format!("<td>{}</td>", escape(&text)),
        };
        let _ = writeln!(out, "<tr><th scope=\"row\">{}</th>{text}</tr>", path(name));
    }
    out.push_str("</tbody></table></section>\n");
}

fn groups(out: &mut String, kind: &Kind<'_>, list: &[Group], data: &Dataset) {
    if list.is_empty() {
        return;
    }
    heading(out, kind, list.len());
    out.push_str("<div class=\"groups\">\n");
    // Those that distort results come first.
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
    out.push_str("</div></section>\n");
}

fn gallery(out: &mut String, kind: &Kind<'_>, list: &[Member], data: &Dataset) {
    if list.is_empty() {
        return;
    }
    heading(out, kind, list.len());
    out.push_str("<div class=\"row\">");
    list.iter().take(SHOWN).for_each(|member| figure(out, member, "", data));
    out.push_str("</div></section>\n");
}

fn labels(out: &mut String, check: &LabelCheck, data: &Dataset) {
    if check.issues.is_empty() {
        return;
    }
    let text = format!(
        "Among {} training images, by heads over {} of {}; {}-fold cross-validated accuracy {:.1}%. An estimated {} at most \
         of these {} labels are wrong; the other images are hard. The number after a class is its probability. The most \
         confident come first.",
        grouped(check.images),
        escape(&check.layer),
        escape(&check.model),
        check.folds,
        100.0 * check.accuracy,
        grouped(check.estimated_wrong),
        grouped(check.issues.len())
    );
    let kind = Kind { id: "labels", title: "Suspected label errors", text: &text };
    heading(out, &kind, check.issues.len());
    out.push_str("<div class=\"row\">\n");
    for issue in check.issues.iter().take(SHOWN) {
        let (suggested, p) = (escape(&issue.suggested), issue.probability);
        figure(out, &issue.image, &format!("suggested: <b>{suggested}</b> {p:.3}<br>"), data);
    }
    out.push_str("</div></section>\n");
}

/// An image with what is known of it; `note` is HTML.
fn figure(out: &mut String, member: &Member, note: &str, data: &Dataset) {
    let subset = parts(data).into_iter().find(|part| part.0 == member.split).map(|part| part.1);
    let picture = subset
        .filter(|subset| member.position < subset.len())
        .and_then(|subset| subset.image(member.position).ok())
        .and_then(|image| picture(&image, THUMBNAIL, &member.name).ok());
    let image = picture.unwrap_or_else(|| "<span class=\"gone\">not readable</span>".to_string());
    let (height, width) = member.size;
    let _ = write!(
        out,
        "<figure>{image}<figcaption><b dir=\"auto\">{}</b> {}, {width}&times;{height}<br>{note}{}</figcaption></figure>",
        escape(&member.class),
        member.split,
        path(&member.name)
    );
}
