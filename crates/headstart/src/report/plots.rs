//! Curves, as PNG and SVG.

use kuva::backend::raster::RasterBackend;
use kuva::backend::svg::SvgBackend;
use kuva::plot::annotations::ReferenceLine;
use kuva::plot::{LegendPosition, LinePlot, ScatterPlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::{Scene, render_multiple};

use crate::error::{Error, Result};
use crate::measure::epoch::EpochRecord;
use crate::measure::history::History;

pub(super) const TRAIN: &str = "#1f77b4";
pub(super) const VALIDATION: &str = "#ff7f0e";
/// PNG pixels per SVG unit.
const SCALE: f32 = 2.0;

/// One picture in both formats.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// A PNG file.
    pub png: Vec<u8>,
    /// An SVG document.
    pub svg: String,
}

/// Which metric of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Accuracy.
    Accuracy,
    /// Cross-entropy.
    Loss,
}

/// Training and validation metrics against the epoch; the start of fine-tuning is marked.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn curves(history: &History, figure: Figure) -> Result<Picture> {
    let title = if figure == Figure::Accuracy { "accuracy" } else { "loss" };
    let train = |e: &EpochRecord| match figure {
        Figure::Accuracy => Some(e.accuracy),
        Figure::Loss => Some(e.loss),
    };
    let validation = |e: &EpochRecord| match figure {
        Figure::Accuracy => e.val_accuracy,
        Figure::Loss => e.val_loss,
    };
    let points = |of: &dyn Fn(&EpochRecord) -> Option<f64>| -> Vec<(f64, f64)> {
        let pairs = history.epochs.iter().filter_map(|e| Some((e.epoch as f64, of(e)?)));
        pairs.filter(|(_, y)| y.is_finite()).collect()
    };
    let series =
        [("train", TRAIN, points(&train)), ("validation", VALIDATION, points(&validation))];
    let mut plots: Vec<Plot> = Vec::new();
    for (name, color, points) in series.iter().filter(|s| !s.2.is_empty()) {
        let line = LinePlot::new().with_data(points.clone()).with_color(*color);
        plots.push(line.with_stroke_width(2.0).with_legend(*name).into());
        let dots = ScatterPlot::new().with_data(points.clone()).with_color(*color);
        plots.push(dots.with_size(4.0).into());
    }
    let last = history.epochs.last().map_or(1, |e| e.epoch);
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title(format!("{title} by epoch"))
        .with_x_label("epoch")
        .with_y_label(title)
        .with_width(640.0)
        .with_height(420.0)
        .with_x_axis_min(0.5)
        .with_x_axis_max(last as f64 + 0.5)
        .with_x_tick_step((last as f64 / 10.0).ceil())
        .with_x_tick_format(TickFormat::Integer)
        .with_legend_position(LegendPosition::OutsideRightTop);
    if figure == Figure::Loss {
        layout = layout.with_y_axis_min(0.0);
    }
    let changes = history.epochs.windows(2).filter(|e| e[0].phase != e[1].phase);
    for (number, first) in changes.map(|e| &e[1]).enumerate() {
        let line = ReferenceLine::vertical(first.epoch as f64 - 0.5).with_color("#555555");
        let label = match number {
            0 => "fine-tuning".to_string(),
            _ => first.phase.name(),
        };
        layout = layout.with_reference_line(line.with_label(label));
    }
    picture(plots, layout)
}

pub(super) fn picture(plots: Vec<Plot>, layout: Layout) -> Result<Picture> {
    let scene = render_multiple(plots, layout);
    drawn(&scene, &scene)
}

/// One scene as SVG, the other, with names that the font has, as PNG.
pub(super) fn drawn(svg: &Scene, png: &Scene) -> Result<Picture> {
    let svg = SvgBackend::default().render_scene(svg);
    let png = RasterBackend::new()
        .with_scale(SCALE)
        .render_scene(png)
        .map_err(|e| Error::invalid("picture", "something that can be drawn", e, ""))?;
    Ok(Picture { png, svg })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::epoch::PhaseName;

    #[test]
    fn single_epochs_can_be_drawn() {
        let epoch = EpochRecord {
            epoch: 1,
            phase: PhaseName::FineTune,
            seconds: 1.0,
            images_per_second: 1.0,
            loss: 0.0,
            accuracy: 0.0,
            val_loss: None,
            val_accuracy: None,
            learning_rate: 1e-4,
        };
        let history = History { epochs: vec![epoch] };
        for figure in [Figure::Accuracy, Figure::Loss] {
            assert!(curves(&history, figure).unwrap().svg.contains("train"));
        }
    }
}
