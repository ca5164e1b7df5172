//! Curves, as PNG and SVG.

use kuva::backend::svg::SvgBackend;
use kuva::plot::annotations::ReferenceLine;
use kuva::plot::{LinePlot, LineStyle, ScatterPlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::{Scene, render_multiple};

use super::figure::Figure;
use super::legend::{self, Entry};
use super::notes::CurveNotes;
use super::raster::raster;
use crate::error::Result;
use crate::measure::epoch::{EpochRecord, PhaseName};
use crate::measure::history::History;

pub(super) const TRAIN: &str = "#1f77b4";
pub(super) const VALIDATION: &str = "#ff7f0e";
/// The head fitted with L-BFGS.
const FITTED: &str = "#2ca02c";
/// Fonts of an SVG: that of the PNG, or one as wide.
pub(super) const FONTS: &str = "DejaVu Sans, Verdana, sans-serif";
/// Of a training metric that is not like the validation's; those of a PNG are half as long, with round ends.
pub(super) const DASHES: &str = "12 10";

/// The greatest value that is drawn; with greater ones places in the picture are no numbers.
const HUGE: f64 = 1e30;

/// One picture in both formats.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// A PNG file.
    pub png: Vec<u8>,
    /// An SVG document.
    pub svg: String,
}

/// Training and validation metrics against the epoch; the start of fine-tuning is marked. A training metric that counts what
/// validation does not, by `notes`, is dashed and says so. The validation metric of a head fitted with L-BFGS, which
/// has no epochs of its own, is a level line.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn curves(history: &History, figure: Figure, notes: &CurveNotes) -> Result<Picture> {
    let (fitted, epochs) = notes.split(history);
    let title = figure.name();
    let last = history.epochs.last().map_or(1, |e| e.epoch);
    let first = epochs.first().map_or(1, |e| e.epoch);
    let (left, right) = (first as f64 - 0.5, last.max(first) as f64 + 0.5);
    let (mut plots, mut legend): (Vec<Plot>, Vec<Entry>) = Default::default();
    let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
    let least = if figure == Figure::Loss { 0.0 } else { -HUGE };
    let unlike = notes.unlike(figure);
    let validation = |e: &EpochRecord| figure.validation(e);
    for (name, color, of, dashed) in [
        (
            train_name(&unlike),
            TRAIN,
            &(|e: &EpochRecord| Some(figure.training(e))) as Metric<'_>,
            !unlike.is_empty(),
        ),
        ("validation".to_string(), VALIDATION, &validation as Metric<'_>, false),
    ] {
        let points: Vec<(f64, f64)> = epochs
            .iter()
            .filter_map(|e| Some((e.epoch as f64, of(e)?)))
            .filter(|(_, y)| y.is_finite())
            .map(|(x, y)| (x, y.clamp(least, HUGE)))
            .collect();
        if points.is_empty() {
            continue;
        }
        lowest = points.iter().map(|p| p.1).fold(lowest, f64::min);
        highest = points.iter().map(|p| p.1).fold(highest, f64::max);
        let line = LinePlot::new().with_data(points.clone()).with_color(color);
        let style = if dashed { LineStyle::Custom(DASHES.into()) } else { LineStyle::Solid };
        plots.push(line.with_stroke_width(2.0).with_line_style(style).into());
        legend.push(Entry { text: name, color, stroke: 2.0, dashed });
        plots.push(ScatterPlot::new().with_data(points).with_color(color).with_size(4.0).into());
    }
    if let Some(head) = fitted {
        let (name, value) = match figure.validation(head) {
            Some(value) => ("validation, head fitted with L-BFGS", value),
            None => ("train, head fitted with L-BFGS", figure.training(head)),
        };
        let value = if value.is_finite() { value.clamp(least, HUGE) } else { 0.0 };
        (lowest, highest) = (lowest.min(value), highest.max(value));
        let line = LinePlot::new().with_data([(left, value), (right, value)]).with_color(FITTED);
        plots.push(line.with_stroke_width(2.0).into());
        legend.push(Entry { text: name.to_string(), color: FITTED, stroke: 2.0, dashed: false });
    }
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title(format!("{title} by epoch"))
        .with_x_label("epoch")
        .with_y_label(title)
        .with_width(480.0)
        .with_height(330.0)
        .with_x_axis_min(left)
        .with_x_axis_max(right)
        .with_x_tick_step(((right - left) / 10.0).ceil())
        .with_x_tick_format(TickFormat::Integer);
    if figure == Figure::Loss {
        layout = layout.with_y_axis_min(0.0);
        if highest > 0.0 {
            layout = layout.with_y_axis_max(1.08 * highest);
        }
    } else if epochs.windows(2).any(|e| e[0].phase != e[1].phase) {
        // Room for the name of the phase above the curves.
        layout = layout.with_y_axis_max(highest + 0.1 * (highest - lowest).max(0.05));
    }
    let changes = epochs.windows(2).filter(|e| e[0].phase != e[1].phase);
    for first in changes.map(|e| e[1]) {
        let line = ReferenceLine::vertical(first.epoch as f64 - 0.5).with_color("#555555");
        let label = match first.phase {
            PhaseName::FineTune => "fine-tuning".to_string(),
            phase => phase.name(),
        };
        layout = layout.with_reference_line(line.with_label(label));
    }
    picture(plots, layout, &legend)
}

/// A metric of an epoch.
type Metric<'m> = &'m dyn Fn(&EpochRecord) -> Option<f64>;

/// The legend of the training metric: with what it counts and validation does not.
fn train_name(unlike: &[&str]) -> String {
    match unlike {
        [] => "train".to_string(),
        list => format!("train ({})", list.join(", ")),
    }
}

pub(super) fn picture(plots: Vec<Plot>, layout: Layout, legend: &[Entry]) -> Result<Picture> {
    let layout =
        layout.with_font_family(FONTS).with_title_size(16).with_label_size(13).with_tick_size(12);
    let mut scene = render_multiple(plots, layout);
    legend::add(&mut scene, legend);
    let svg = SvgBackend::default().render_scene(&scene);
    Ok(Picture { png: raster(scene)?, svg })
}

/// One scene as SVG, the other, with names that the font has, as PNG.
pub(super) fn drawn(svg: &Scene, png: Scene) -> Result<Picture> {
    let svg = SvgBackend::default().render_scene(svg);
    Ok(Picture { png: raster(png)?, svg })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: usize, phase: PhaseName, value: f64) -> EpochRecord {
        EpochRecord {
            epoch,
            phase,
            seconds: 1.0,
            images_per_second: 1.0,
            loss: value,
            accuracy: value,
            val_loss: Some(value),
            val_accuracy: Some(value),
            learning_rate: 1e-4,
            val_macro_f1: None,
        }
    }

    /// Pixels of a colour in a PNG.
    fn count(png: &[u8], colour: [u8; 3]) -> usize {
        let image = crate::data::image::decode("x.png", png).unwrap();
        image.pixels.chunks_exact(3).filter(|p| **p == colour).count()
    }

    const BLUE: [u8; 3] = [0x1f, 0x77, 0xb4];
    const ORANGE: [u8; 3] = [0xff, 0x7f, 0x0e];
    const GREEN: [u8; 3] = [0x2c, 0xa0, 0x2c];

    #[test]
    fn single_epochs_are_points() {
        for value in [0.0, 0.5, 1.0] {
            let epoch = EpochRecord {
                val_loss: None,
                val_accuracy: None,
                ..record(1, PhaseName::FineTune, value)
            };
            let history = History { epochs: vec![epoch] };
            for figure in [Figure::Accuracy, Figure::Loss] {
                let picture = curves(&history, figure, &CurveNotes::default()).unwrap();
                assert!(picture.svg.contains(">train<") && !picture.svg.contains("validation"));
                // More than the line in the legend.
                assert!(count(&picture.png, BLUE) > 160, "{value} {}", count(&picture.png, BLUE));
            }
        }
    }

    #[test]
    fn training_metrics_that_count_more_are_dashed_and_say_so() {
        let epochs = (1..=9).map(|e| record(e, PhaseName::Head, 0.5)).collect();
        let (history, plain) = (History { epochs }, CurveNotes::default());
        let notes = CurveNotes {
            images: vec!["mixup 0.2".into()],
            loss: vec!["label smoothing 0.1".into()],
            fitted_head: false,
        };
        let of = |figure, notes| curves(&history, figure, notes).unwrap().svg;
        assert!(of(Figure::Accuracy, &notes).contains(">train (mixup 0.2)<"));
        let loss = of(Figure::Loss, &notes);
        assert!(loss.contains(">train (mixup 0.2, label smoothing 0.1)<") && loss.contains(DASHES));
        let same = of(Figure::Loss, &plain);
        assert!(same.contains(">train<") && !same.contains(DASHES));
    }

    #[test]
    fn a_fitted_head_is_a_level_line_over_the_other_epochs() {
        let mut epochs = vec![record(1, PhaseName::Head, 0.9)];
        let notes = CurveNotes { fitted_head: true, ..CurveNotes::default() };
        let alone = History { epochs: epochs.clone() };
        for figure in [Figure::Accuracy, Figure::Loss] {
            let picture = curves(&alone, figure, &notes).unwrap();
            assert!(count(&picture.png, GREEN) > 1000 && count(&picture.png, ORANGE) == 0);
        }
        epochs.extend((2..=4).map(|e| record(e, PhaseName::FineTune, 0.8)));
        let picture = curves(&History { epochs }, Figure::Accuracy, &notes).unwrap();
        assert!(picture.svg.contains("head fitted with L-BFGS"));
        assert!(count(&picture.png, GREEN) > 1000 && count(&picture.png, ORANGE) > 500);
        // The axis begins with the first epoch that there is a point for.
        assert!(!picture.svg.contains(">1<") && picture.svg.contains(">4<"));
    }
}
