//! Curves of several runs in one picture.

use kuva::plot::{LegendPosition, LinePlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use super::plots::{Figure, Picture, picture, short};
use crate::error::Result;
use crate::history::{EpochRecord, History};

const COLORS: [&str; 8] =
    ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf"];

/// A figure of several runs against the epoch: validation solid, training dashed, a colour a run.
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
        let (name, color) = (short(name), COLORS[i % COLORS.len()]);
        let (solid, dashed) = (points(history, &validation), points(history, &train));
        let line = |points| LinePlot::new().with_data(points).with_color(color);
        if solid.is_empty() {
            plots.push(line(dashed).with_dashed().with_legend(name).into());
        } else {
            plots.push(line(dashed).with_dashed().into());
            plots.push(line(solid).with_stroke_width(2.0).with_legend(name).into());
        }
    }
    let last = runs.iter().flat_map(|r| &r.1.epochs).map(|e| e.epoch).max().unwrap_or(1);
    let title = if accuracy { "accuracy" } else { "loss" };
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title(format!("{title} by epoch (validation solid, training dashed)"))
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
