//! `headstart compare`.

use headstart::Error;
use headstart::atomic::{make_folder, write_bytes};
use headstart::compare::{Comparison, RunSummary, compare, read};
use headstart::metrics::has_top5;
use headstart::report::{CurveNotes, Curves, Figure, overlaid};

use crate::args::Compare;
use crate::failure::Failure;
use crate::output;
use crate::output::note;

/// Compares runs.
pub fn run(args: &Compare) -> Result<(), Failure> {
    let runs: Result<Vec<RunSummary>, Error> = args.runs.iter().map(read).collect();
    let comparison = compare(runs?);
    for cut in comparison.runs.iter().filter_map(|run| run.note.as_ref()) {
        note!("warning: {cut}");
    }
    if let Some(folder) = &args.out {
        make_folder(folder)?;
        let notes: Vec<_> = args.runs.iter().map(|run| CurveNotes::read(run)).collect();
        let runs = comparison.runs.iter().zip(&notes);
        let curves = runs.map(|(r, notes)| Curves { name: &r.run, history: &r.history, notes });
        let list: Vec<_> = curves.collect();
        for (name, figure) in [("accuracy", Figure::Accuracy), ("loss", Figure::Loss)] {
            let picture = overlaid(&list, figure)?;
            write_bytes(folder.join(format!("{name}.svg")), picture.svg.as_bytes())?;
            write_bytes(folder.join(format!("{name}.png")), &picture.png)?;
        }
    }
    if args.json {
        output::json(&comparison)?;
    } else {
        output::text(table(&comparison))?;
    }
    Ok(())
}

/// One row for each setting or metric, one column for each run.
fn table(c: &Comparison) -> String {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    let mut row = |name: &str, of: &dyn Fn(&RunSummary) -> Option<String>| {
        let values = c.runs.iter().map(|r| of(r).unwrap_or_else(|| "-".into()));
        rows.push((name.to_string(), values.collect()));
    };
    let four = |v: f64| format!("{v:.4}");
    row("run", &|r| Some(r.run.clone()));
    row("epochs done", &|r| Some(r.epochs.to_string()));
    row("seconds", &|r| Some(format!("{:.1}", r.seconds)));
    row("best epoch", &|r| r.best.as_ref().map(|e| e.epoch.to_string()));
    row("best val_accuracy", &|r| r.best.as_ref()?.val_accuracy.map(four));
    row("best val_loss", &|r| r.best.as_ref()?.val_loss.map(four));
    if c.runs.iter().any(|r| r.best.as_ref().is_some_and(|e| e.val_macro_f1.is_some())) {
        row("best val_macro_f1", &|r| r.best.as_ref()?.val_macro_f1.map(four));
    }
    row("last val_accuracy", &|r| r.last.as_ref()?.val_accuracy.map(four));
    row("last val_loss", &|r| r.last.as_ref()?.val_loss.map(four));
    row("last accuracy", &|r| r.last.as_ref().map(|e| four(e.accuracy)));
    row("last loss", &|r| r.last.as_ref().map(|e| four(e.loss)));
    row("reported on", &|r| r.report.as_ref().map(|f| f.split.clone()));
    row("reported accuracy", &|r| r.report.as_ref().map(|f| four(f.accuracy)));
    if c.runs.iter().filter_map(|r| r.report.as_ref()).any(|f| has_top5(f.classes)) {
        row("reported top-5", &|r| r.report.as_ref().map(|f| four(f.top5)));
    }
    row("reported macro F1", &|r| r.report.as_ref().map(|f| four(f.macro_f1)));
    row("reported loss", &|r| r.report.as_ref().map(|f| four(f.loss)));
    for d in &c.differences {
        let values = d.values.iter().map(|v| v.clone().unwrap_or_else(|| "-".into()));
        rows.push((d.setting.clone(), values.collect()));
    }
    let width = |cell: &str| cell.chars().count();
    let first = rows.iter().map(|r| width(&r.0)).max().unwrap_or(0);
    let columns: Vec<usize> =
        (0..c.runs.len()).map(|i| rows.iter().map(|r| width(&r.1[i])).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (name, values) in &rows {
        text.push_str(&format!("{name:first$}"));
        for (value, width) in values.iter().zip(&columns) {
            text.push_str(&format!("  {value:>width$}"));
        }
        text.push('\n');
    }
    text
}
