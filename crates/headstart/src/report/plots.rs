//! Curves and the confusion matrix, as PNG and SVG.

use std::sync::Arc;

use kuva::plot::annotations::ReferenceLine;
use kuva::plot::{ColorMap, Heatmap, LegendPosition, LinePlot, ScatterPlot};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use crate::error::{Error, Result};
use crate::history::{EpochRecord, History};
use crate::metrics::Report;

pub(super) const TRAIN: &str = "#1f77b4";
pub(super) const VALIDATION: &str = "#ff7f0e";
/// PNG pixels per SVG unit.
const SCALE: f32 = 2.0;
/// Most classes whose cells carry numbers and names.
const NAMED: usize = 40;
/// Most characters of a name: a picture grows with them, in both directions.
const NAME: usize = 40;

/// One picture in both formats.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// A PNG file.
    pub png: Vec<u8>,
    /// An SVG document.
    pub svg: String,
}

/// Which figure of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Share of hits.
    Accuracy,
    /// Cross-entropy.
    Loss,
}

/// Training and validation figures against the epoch; the start of fine-tuning is marked.
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

/// Images by label (row) and answer (column); the colour is the share of the row.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn confusion_matrix(report: &Report) -> Result<Picture> {
    let n = report.classes.len();
    let shares: Vec<Vec<f64>> = report
        .confusion_matrix
        .iter()
        .map(|row| {
            let sum = row.iter().sum::<usize>().max(1) as f64;
            row.iter().map(|&c| c as f64 / sum).collect()
        })
        .collect();
    let names: Vec<String> = if n <= NAMED {
        report.classes.iter().map(|name| short(name)).collect()
    } else {
        let step = n.div_ceil(NAMED);
        (0..n).map(|i| if i % step == 0 { i.to_string() } else { String::new() }).collect()
    };
    // The library draws the first row at the bottom.
    let (shares, mut rows) = (shares.into_iter().rev(), names.clone());
    rows.reverse();
    let white_to_blue = |share: f64| {
        let mix = |to: f64| (255.0 + (to - 255.0) * share.clamp(0.0, 1.0)).round();
        format!("rgb({},{},{})", mix(107.0), mix(174.0), mix(214.0))
    };
    let mut heatmap = Heatmap::new()
        .with_data(shares)
        .with_color_map(ColorMap::Custom(Arc::new(white_to_blue)))
        .with_legend("share of class");
    if n <= 12 {
        heatmap = heatmap.with_values();
    }
    let heatmap = heatmap.with_labels(rows.clone(), names.clone());
    let plots: Vec<Plot> = vec![heatmap.into()];
    let split = short(&report.split);
    let side = 260.0 + 40.0 * n.min(20) as f64;
    let layout = Layout::auto_from_plots(&plots)
        .with_title(format!("confusion matrix ({split}, accuracy {:.4})", report.accuracy))
        .with_x_label("answer")
        .with_y_label("label")
        .with_x_categories(names)
        .with_y_categories(rows)
        .with_x_tick_rotate(-45.0)
        .with_width(side + 120.0)
        .with_height(side);
    picture(plots, layout)
}

/// A name as pictures show it: its end where it is long, as that of a path tells more, and nothing that an SVG
/// cannot hold.
pub(super) fn short(name: &str) -> String {
    let count = name.chars().count();
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let kept = name.chars().skip(if count > NAME { count - NAME + 1 } else { 0 }).map(visible);
    if count > NAME { std::iter::once('…').chain(kept).collect() } else { kept.collect() }
}

pub(super) fn picture(plots: Vec<Plot>, layout: Layout) -> Result<Picture> {
    let scene = kuva::render::render::render_multiple(plots, layout);
    let svg = kuva::backend::svg::SvgBackend::default().render_scene(&scene);
    let png = kuva::backend::raster::RasterBackend::new()
        .with_scale(SCALE)
        .render_scene(&scene)
        .map_err(|e| Error::invalid("picture", "something that can be drawn", e, ""))?;
    Ok(Picture { png, svg })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::PhaseName;

    /// Positions of the texts that read `wanted`.
    fn texts(svg: &str, wanted: &str) -> Vec<(f64, f64)> {
        let number = |tag: &str, name: &str| -> f64 {
            let from = tag.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
            tag[from..].split('"').next().unwrap().parse().unwrap()
        };
        let tags = svg.split("<text").skip(1);
        let tags = tags.filter(|t| t.split('>').nth(1).is_some_and(|t| t.starts_with(wanted)));
        tags.map(|t| (number(t, "x"), number(t, "y"))).collect()
    }

    #[test]
    fn hits_lie_on_the_falling_diagonal_beside_their_class() {
        let classes = ["a", "b", "c"].map(String::from);
        let p = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0];
        let report = Report::new("test", &classes, &p, &[0, 1, 2]);
        let picture = confusion_matrix(&report).unwrap();
        let mut ones = texts(&picture.svg, "1.00");
        ones.sort_by(|a, b| a.1.total_cmp(&b.1));
        // Rows a, b, c from the top; columns a, b, b.
        assert_eq!(ones.len(), 3);
        assert!(ones[0].0 < ones[1].0 && (ones[1].0 - ones[2].0).abs() < 1.0, "{ones:?}");
        let mut labels = texts(&picture.svg, "a");
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!((labels[0].1 - ones[0].1).abs() < 12.0, "{labels:?} {ones:?}");
        assert!(picture.png.starts_with(b"\x89PNG"));
    }

    #[test]
    fn many_classes_and_single_epochs_can_be_drawn() {
        let classes: Vec<String> = (0..120).map(|i| format!("class {i}")).collect();
        let p = vec![1.0 / 120.0; 120];
        confusion_matrix(&Report::new("test", &classes, &p, &[3])).unwrap();
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
