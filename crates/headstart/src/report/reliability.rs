//! Accuracy against confidence, as PNG and SVG.

use kuva::plot::{LegendPosition, LinePlot, ScatterPlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::plots::{Picture, TRAIN, VALIDATION, picture};
use crate::calibration::Calibration;
use crate::error::Result;

/// Accuracy of each bin that has images against their mean confidence, the share of images in it, and
/// the diagonal on which a calibrated classifier lies.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn reliability(calibration: &Calibration) -> Result<Picture> {
    let bins = || calibration.bins.iter().filter(|b| b.count > 0);
    let total: usize = bins().map(|b| b.count).sum();
    let finite = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let accuracy: Vec<(f64, f64)> =
        bins().map(|b| (b.confidence, b.accuracy)).filter(finite).collect();
    let shares: Vec<(f64, f64)> = calibration
        .bins
        .iter()
        .flat_map(|b| {
            let share = b.count as f64 / total.max(1) as f64;
            [(b.lower, 0.0), (b.lower, share), (b.upper, share), (b.upper, 0.0)]
        })
        .collect();
    let diagonal = LinePlot::new().with_data([(0.0, 0.0), (1.0, 1.0)]).with_color("#888888");
    let share = LinePlot::new().with_data(shares).with_color(VALIDATION).with_fill();
    let line = LinePlot::new().with_data(accuracy.clone()).with_color(TRAIN);
    let dots = ScatterPlot::new().with_data(accuracy).with_color(TRAIN).with_size(4.0);
    let plots: Vec<Plot> = vec![
        share.with_fill_opacity(0.25).with_legend("share of images").into(),
        diagonal.with_dashed().with_legend("calibrated").into(),
        line.with_stroke_width(2.0).with_legend("this model").into(),
        dots.into(),
    ];
    let at = calibration.temperature.map_or(String::new(), |t| format!(", temperature {t:.3}"));
    let layout = Layout::auto_from_plots(&plots)
        .with_title(format!("reliability (ECE {:.4}{at})", calibration.ece))
        .with_x_label("confidence")
        .with_y_label("accuracy")
        .with_width(640.0)
        .with_height(460.0)
        .with_x_axis_min(0.0)
        .with_x_axis_max(1.0)
        .with_y_axis_min(0.0)
        .with_y_axis_max(1.0)
        .with_legend_position(LegendPosition::OutsideRightTop);
    picture(plots, layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_says_the_error_and_empty_ones_can_be_drawn() {
        let p = [0.9, 0.1, 0.9, 0.1, 0.4, 0.6];
        let picture = reliability(&Calibration::new(2, &p, &[0, 1, 1])).unwrap();
        assert!(picture.svg.contains("ECE 0.4000") && picture.svg.contains("confidence"));
        assert!(picture.png.starts_with(b"\x89PNG"));
        reliability(&Calibration::new(2, &[], &[])).unwrap();
    }
}
