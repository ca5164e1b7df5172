//! Curves of several runs in one picture.

use kuva::plot::{LegendPosition, LinePlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use super::names::shorten;
use super::plots::{Figure, Picture, picture};
use crate::error::Result;
use crate::measure::epoch::EpochRecord;
use crate::measure::history::History;

/// Okabe and Ito's, which can be distinguished without red-green vision; their yellow is too light for lines.
const COLORS: [&str; 7] =
    ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000"];
/// Letters of a run's name.
const LETTERS: usize = 36;

/// A metric of several runs against the epoch: validation thick, training thin, one colour per run. Where runs are the same,
/// the later one covers the earlier.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn overlaid(runs: &[(&str, &History)], figure: Figure) -> Result<Picture> {
    let accuracy = figure == Figure::Accuracy;
    let train = |e: &EpochRecord| Some(if accuracy { e.accuracy } else { e.loss });
    let validation = |e: &EpochRecord| if accuracy { e.val_accuracy } else { e.val_loss };
    let points = |h: &History, of: &dyn Fn(&EpochRecord) -> Option<f64>| -> Vec<(f64, f64)> {
        let pairs = h.epochs.iter().filter_map(|e| Some((e.epoch as f64, of(e)?)));
        pairs.filter(|p| p.1.is_finite()).collect()
    };
    let mut plots: Vec<Plot> = Vec::new();
    for (i, (name, history)) in runs.iter().enumerate() {
        let color = COLORS[i % COLORS.len()];
        let (thick, thin) = (points(history, &validation), points(history, &train));
        let line = |points, width| {
            LinePlot::new().with_data(points).with_color(color).with_stroke_width(width)
        };
        let name = shorten(name, LETTERS);
        if thick.is_empty() {
            plots.push(line(thin, 1.0).with_legend(name).into());
        } else {
            plots.push(line(thin, 1.0).into());
            plots.push(line(thick, 3.0).with_legend(name).into());
        }
    }
    let last = runs.iter().flat_map(|r| &r.1.epochs).map(|e| e.epoch).max().unwrap_or(1);
    let title = if accuracy { "accuracy" } else { "loss" };
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title(format!("{title} by epoch (thick: validation, thin: training)"))
        .with_x_label("epoch")
        .with_y_label(title)
        .with_width(720.0)
        .with_height(440.0)
        .with_x_axis_min(0.5)
        .with_x_axis_max(last as f64 + 0.5)
        .with_x_tick_step((last as f64 / 10.0).ceil())
        .with_x_tick_format(TickFormat::Integer)
        .with_legend_position(LegendPosition::OutsideRightTop);
    if !accuracy {
        layout = layout.with_y_axis_min(0.0);
    }
    picture(plots, layout)
}
