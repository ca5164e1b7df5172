//! Curves of several runs in one picture.

use kuva::plot::{LinePlot, LineStyle, ScatterPlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use super::figure::Figure;
use super::legend::Entry;
use super::names::shorten;
use super::notes::CurveNotes;
use super::plots::{DASHES, Picture, picture};
use crate::error::Result;
use crate::measure::epoch::EpochRecord;
use crate::measure::history::History;

/// Okabe and Ito's, which can be distinguished without red-green vision; their yellow is too light for lines.
const COLORS: [&str; 7] =
    ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000"];
/// Letters of a run's name.
const LETTERS: usize = 36;

/// A run's curves.
#[derive(Clone, Copy, Debug)]
pub struct Curves<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its epochs.
    pub history: &'a History,
    /// In what its training metrics are not like its validation metrics.
    pub notes: &'a CurveNotes,
}

/// A metric of several runs against the epoch: validation thick, training thin, one colour per run. A training metric
/// that counts what validation does not is dashed; a head fitted with L-BFGS is a level line. Where runs are the same, the
/// later one covers the earlier.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn overlaid(runs: &[Curves<'_>], figure: Figure) -> Result<Picture> {
    let last = runs.iter().flat_map(|r| &r.history.epochs).map(|e| e.epoch).max().unwrap_or(1);
    let (left, right) = (0.5, last as f64 + 0.5);
    let (mut plots, mut legend): (Vec<Plot>, Vec<Entry>) = Default::default();
    let mut dashed = false;
    for (i, Curves { name, history, notes }) in runs.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let (fitted, epochs) = notes.split(history);
        let points = |of: &dyn Fn(&EpochRecord) -> Option<f64>| -> Vec<(f64, f64)> {
            let pairs = epochs.iter().filter_map(|e| Some((e.epoch as f64, of(e)?)));
            pairs.filter(|p| p.1.is_finite()).collect()
        };
        let (thick, thin) =
            (points(&|e| figure.validation(e)), points(&|e| Some(figure.training(e))));
        let line = |points, width| {
            LinePlot::new().with_data(points).with_color(color).with_stroke_width(width)
        };
        let mut lines = Vec::new();
        if let Some(head) = fitted {
            let value = figure.validation(head).unwrap_or(figure.training(head));
            lines.push(line(vec![(left, value), (right, value)], 1.5));
        }
        if !thin.is_empty() {
            let unlike = !notes.unlike(figure).is_empty();
            dashed |= unlike;
            let style = if unlike { LineStyle::Custom(DASHES.into()) } else { LineStyle::Solid };
            lines.push(line(thin, 1.0).with_line_style(style));
        }
        if !thick.is_empty() {
            lines.push(line(thick.clone(), 3.0));
        }
        legend.push(Entry { text: shorten(name, LETTERS), color, stroke: 3.0, dashed: false });
        plots.extend(lines.into_iter().map(Plot::from));
        // One epoch is no line.
        if let [_] = thick[..] {
            plots.push(ScatterPlot::new().with_data(thick).with_color(color).with_size(5.0).into());
        }
    }
    let title = figure.name();
    let more = if dashed { ", dashed: with what only training has" } else { "" };
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title(format!("{title} by epoch"))
        .with_subtitle(format!("thick: validation, thin: training{more}"))
        .with_x_label("epoch")
        .with_y_label(title)
        .with_width(720.0)
        .with_height(420.0)
        .with_x_axis_min(left)
        .with_x_axis_max(right)
        .with_x_tick_step((last as f64 / 10.0).ceil())
        .with_x_tick_format(TickFormat::Integer);
    if figure == Figure::Loss {
        layout = layout.with_y_axis_min(0.0);
    }
    picture(plots, layout, &legend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_epoch_and_fitted_heads_can_be_drawn() {
        let text = "epoch,phase,seconds,images_per_second,loss,accuracy,val_loss,val_accuracy,learning_rate\n\
             1,head,1.5,9,0.5,0.5,0.25,0.75,0.1\n";
        let history = History::from_csv(text).unwrap();
        let plain = CurveNotes::default();
        let fitted = CurveNotes {
            fitted_head: true,
            loss: vec!["label smoothing 0.1".into()],
            ..plain.clone()
        };
        let runs = [("a", &plain), ("b", &fitted)];
        let runs = runs.map(|(name, notes)| Curves { name, history: &history, notes });
        for figure in [Figure::Accuracy, Figure::Loss] {
            let svg = overlaid(&runs, figure).unwrap().svg;
            assert!(svg.contains(">a<") && svg.contains(">b<") && !svg.contains("dashed"));
        }
        let smooth = CurveNotes { fitted_head: false, ..fitted };
        let runs = [Curves { name: "c", history: &history, notes: &smooth }];
        assert!(overlaid(&runs, Figure::Loss).unwrap().svg.contains("dashed"));
        assert!(!overlaid(&runs, Figure::Accuracy).unwrap().svg.contains("dashed"));
    }
}
