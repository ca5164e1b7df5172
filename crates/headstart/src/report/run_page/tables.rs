//! The tables of a run's page.

use std::fmt::Write;

use crate::measure::history::{EpochRecord, History};
use crate::measure::metrics::{Average, ClassReport, Report};
use crate::numbers::grouped;
use crate::report::page::escape;

/// Pairs of classes in the list of confusions.
const PAIRS: usize = 8;
/// Most classes whose whole table stands open, and how many of more stand before it.
const OPEN: usize = 20;
const LOWEST: usize = 8;

/// The metrics of all images in large digits.
pub(super) fn tiles(out: &mut String, report: &Report) {
    let intervals = report.confidence_intervals.as_ref();
    let interval = |bounds: Option<[f64; 2]>| match (bounds, intervals) {
        (Some([low, high]), Some(i)) => format!("{:.0}%: {low:.4} to {high:.4}", i.level * 100.0),
        _ => String::new(),
    };
    let four = |value: f64| format!("{value:.4}");
    let split = format!("{} accuracy", report.split);
    let mut list = vec![(four(report.accuracy), split, interval(intervals.map(|i| i.accuracy)))];
    if let Some(baseline) = &report.baseline {
        let always = format!("always {}", baseline.class);
        list.push((four(baseline.accuracy), "majority-class baseline".into(), always));
    }
    list.push((four(report.loss), "loss".into(), interval(intervals.map(|i| i.loss))));
    if report.has_top5() {
        list.push((
            four(report.top5),
            "top-5 accuracy".into(),
            interval(intervals.map(|i| i.top5)),
        ));
    }
    list.push((
        four(report.averages.macro_average.f1),
        "macro F1".into(),
        "mean over classes".into(),
    ));
    if let Some(calibration) = &report.calibration {
        list.push((four(calibration.ece), "calibration error (ECE)".into(), String::new()));
    }
    out.push_str("<div class=\"tiles figures\">\n");
    for (value, name, below) in list {
        let (name, below) = (escape(&name), escape(&below));
        let _ = writeln!(out, "<div><b>{value}</b>{name}<small dir=\"auto\">{below}</small></div>");
    }
    out.push_str("</div>\n");
}

/// What is known of the run.
pub(super) fn facts(out: &mut String, facts: &[(String, String)]) {
    out.push_str("<div class=\"scroll\"><table class=\"files facts\"><tbody>\n");
    for (name, value) in facts {
        let (name, value) = (escape(name), escape(value));
        let _ =
            writeln!(out, "<tr><th scope=\"row\">{name}</th><td dir=\"auto\">{value}</td></tr>");
    }
    out.push_str("</tbody></table></div>\n");
}

/// Settings that are not the default, each for itself.
pub(super) fn settings(out: &mut String, settings: &[String]) {
    out.push_str("<h3>Settings other than the default</h3>\n");
    if settings.is_empty() {
        out.push_str("<p class=\"soft\">None.</p>\n");
        return;
    }
    out.push_str("<ul class=\"flags\">\n");
    for setting in settings {
        let _ = match setting.starts_with("--") {
            true => writeln!(out, "<li><code>{}</code></li>", words(setting)),
            false => writeln!(out, "<li>{}</li>", escape(setting)),
        };
    }
    out.push_str("</ul>\n");
}

/// A command as HTML whose lines end between words, not at their hyphens.
pub(super) fn words(command: &str) -> String {
    let word = |word: &str| match word.contains('-') {
        true => format!("<span>{}</span>", escape(word)),
        false => escape(word),
    };
    command.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Precision, recall, F1 and support of each class, and their averages. Of many classes those with the lowest F1 stand open.
pub(super) fn by_class(out: &mut String, report: &Report) {
    let all: Vec<&ClassReport> = report.per_class.iter().collect();
    if all.len() <= OPEN {
        return classes(out, "", &all, report);
    }
    let mut lowest: Vec<&ClassReport> = all.iter().copied().filter(|c| c.support > 0).collect();
    lowest.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    lowest.truncate(LOWEST);
    let caption = format!("The {} classes with the lowest F1", lowest.len());
    classes(out, &caption, &lowest, report);
    let count = grouped(all.len());
    let _ = writeln!(out, "<details><summary>All {count} classes</summary>");
    classes(out, "", &all, report);
    out.push_str("</details>\n");
}

/// A table of some classes over the averages of all.
fn classes(out: &mut String, caption: &str, list: &[&ClassReport], report: &Report) {
    let caption = match caption {
        "" => String::new(),
        text => format!("<caption>{}</caption>", escape(text)),
    };
    let _ = write!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Metrics by class\">\
         <table class=\"numbers whole\">{caption}\
         <thead><tr><th scope=\"col\">class</th><th scope=\"col\">precision</th>\
         <th scope=\"col\" class=\"bars\">recall<span class=\"of-bar\">, as a bar from 0 to 1</span></th>\
         <th scope=\"col\">F1</th><th scope=\"col\">support</th></tr></thead>\n<tbody>\n",
    );
    let row = |out: &mut String, name: &str, a: Average, support: usize| {
        let Average { precision, recall, f1 } = a;
        let (name, support) = (escape(name), grouped(support));
        let bar = 100.0 * recall.clamp(0.0, 1.0);
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\" dir=\"auto\">{name}</th><td>{precision:.4}</td>\
             <td><div class=\"count\"><span>{recall:.4}</span><div class=\"bar\" style=\"--w:{bar:.1}%\"></div></div></td>\
             <td>{f1:.4}</td><td>{support}</td></tr>"
        );
    };
    for c in list {
        let (precision, recall, f1) = (c.precision, c.recall, c.f1);
        row(out, &c.class, Average { precision, recall, f1 }, c.support);
    }
    out.push_str("</tbody>\n<tfoot>\n");
    row(out, "macro average", report.averages.macro_average, report.samples);
    row(out, "weighted average", report.averages.weighted_average, report.samples);
    out.push_str("</tfoot></table></div>\n");
}

/// The classes that are confused most often.
pub(super) fn confusions(out: &mut String, report: &Report) {
    let mut pairs = Vec::new();
    for (label, row) in report.confusion_matrix.iter().enumerate() {
        let off = row.iter().enumerate().filter(|&(answer, &count)| answer != label && count > 0);
        pairs.extend(off.map(|(answer, &count)| (count, label, answer)));
    }
    pairs.sort_by_key(|&(count, ..)| std::cmp::Reverse(count));
    if pairs.is_empty() {
        out.push_str("<p class=\"good\">The model makes no mistakes on these images.</p>\n");
        return;
    }
    out.push_str(
        "<div class=\"scroll\" tabindex=\"0\"><table class=\"numbers\"><caption>Confused most often</caption><thead><tr>\
         <th scope=\"col\">true</th><th scope=\"col\" class=\"text\">predicted as</th><th scope=\"col\">images</th>\
         <th scope=\"col\">% of class</th></tr></thead><tbody>\n",
    );
    for (count, label, answer) in pairs.into_iter().take(PAIRS) {
        let (of, to) = (escape(&report.classes[label]), escape(&report.classes[answer]));
        let sum: usize = report.confusion_matrix[label].iter().sum();
        let percent = 100.0 * count as f64 / sum as f64;
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\" dir=\"auto\">{of}</th><td class=\"text\" dir=\"auto\">{to}</td><td>{}</td><td>{percent:.1}</td></tr>",
            grouped(count)
        );
    }
    out.push_str("</tbody></table></div>\n");
}

/// The epoch whose weights are shipped and the last one, where they differ.
///
/// `refit` is how many validation images the shipped head was fitted on after its epoch.
pub(super) fn epochs(
    out: &mut String,
    history: &History,
    (shipped, refit, stopped): (Option<usize>, usize, bool),
    has_temperature: bool,
) {
    let Some(last) = history.epochs.last() else { return };
    let own = shipped.and_then(|number| history.epochs.iter().find(|e| e.epoch == number));
    let mut rows: Vec<(String, &EpochRecord)> = Vec::new();
    if let Some(own) = own {
        let what = match (stopped, refit) {
            (true, _) => "best so far",
            (false, 0) => "shipped",
            (false, _) => "before the refit",
        };
        rows.push((format!("{what}: epoch {} ({})", own.epoch, own.phase.name()), own));
    }
    if own.is_none_or(|own| own.epoch != last.epoch) {
        rows.push((format!("last: epoch {} ({})", last.epoch, last.phase.name()), last));
    }
    let has_f1 = rows.iter().any(|(_, epoch)| epoch.val_macro_f1.is_some());
    let (columns, f1) = if has_f1 { (3, "<th scope=\"col\">macro F1</th>") } else { (2, "") };
    let _ = writeln!(
        out,
        "<div class=\"scroll\" tabindex=\"0\"><table class=\"numbers\"><thead><tr>\
         <th scope=\"col\" rowspan=\"2\">epoch</th><th scope=\"colgroup\" colspan=\"{columns}\">validation</th>\
         <th scope=\"colgroup\" colspan=\"2\">training</th></tr>\n\
         <tr><th scope=\"col\">accuracy</th>{f1}<th scope=\"col\">loss</th><th scope=\"col\">accuracy</th>\
         <th scope=\"col\">loss</th></tr></thead><tbody>"
    );
    let or_none = |value: Option<f64>| value.map_or("none".into(), |v| format!("{v:.4}"));
    for (name, e) in rows {
        let (accuracy, loss) = (or_none(e.val_accuracy), or_none(e.val_loss));
        let f1 = match has_f1 {
            true => format!("<td>{}</td>", or_none(e.val_macro_f1)),
            false => String::new(),
        };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\" class=\"words\">{name}</th><td>{accuracy}</td>{f1}<td>{loss}</td><td>{:.4}</td><td>{:.4}</td></tr>",
            e.accuracy, e.loss
        );
    }
    if refit > 0 {
        let images = grouped(refit);
        let _ = writeln!(
            out,
            "</tbody></table></div>\n<p class=\"soft\">The shipped head was fitted again with the {images} validation images. \
             What epochs have is of the head before.</p>"
        );
    } else {
        out.push_str("</tbody></table></div>\n");
    }
    if has_temperature {
        out.push_str(
            "<p class=\"soft\">The losses of epochs are without the calibration's temperature.</p>\n",
        );
    }
}
