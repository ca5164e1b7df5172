//! Accuracy against confidence, as PNG and SVG.

use kuva::plot::{LinePlot, LineStyle, ScatterPlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::legend::Entry;
use super::plots::{Picture, TRAIN, VALIDATION, picture};
use crate::error::Result;
use crate::measure::calibration::Calibration;

/// Least fraction of the images for a bin on the line: the accuracy of a few images is chance.
const LINE: f64 = 0.01;

/// Accuracy of each bin that has images against their mean confidence, the fraction of images in it, and
/// the diagonal of a calibrated classifier. Bins with fewer images have smaller dots; the line leaves out those of
/// less than 1%.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn reliability(calibration: &Calibration) -> Result<Picture> {
    let bins = || calibration.bins.iter().filter(|b| b.count > 0);
    let total: usize = bins().map(|b| b.count).sum();
    let finite = |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let share = |count: usize| count as f64 / total.max(1) as f64;
    let sized: Vec<((f64, f64), f64)> = bins()
        .map(|b| ((b.confidence, b.accuracy), share(b.count)))
        .filter(|(point, _)| finite(point))
        .collect();
    let dots = ScatterPlot::new()
        .with_data(sized.iter().map(|s| s.0))
        .with_sizes(sized.iter().map(|s| 2.0 + 6.0 * s.1.sqrt()));
    let on_line = sized.iter().filter(|s| s.1 >= LINE).map(|s| s.0);
    let shares: Vec<(f64, f64)> = calibration
        .bins
        .iter()
        .flat_map(|b| {
            let share = share(b.count);
            [(b.lower, 0.0), (b.lower, share), (b.upper, share), (b.upper, 0.0)]
        })
        .collect();
    let diagonal = LinePlot::new().with_data([(0.0, 0.0), (1.0, 1.0)]).with_color("#888888");
    // Long dashes, as those of a PNG are half as long, with round ends.
    let dashes = LineStyle::Custom("12 10".into());
    let share = LinePlot::new().with_data(shares).with_color(VALIDATION).with_fill();
    let line = LinePlot::new().with_data(on_line).with_color(TRAIN);
    let plots: Vec<Plot> = vec![
        share.with_fill_opacity(0.25).into(),
        diagonal.with_line_style(dashes).into(),
        line.with_stroke_width(2.0).into(),
        dots.with_color(TRAIN).into(),
    ];
    let at = calibration.temperature.map_or(String::new(), |t| format!(", temperature {t:.3}"));
    let layout = Layout::auto_from_plots(&plots)
        .with_title(format!("reliability (ECE {:.4}{at})", calibration.ece))
        .with_x_label("confidence")
        .with_y_label("accuracy, fraction of images")
        .with_width(480.0)
        .with_height(380.0)
        .with_x_axis_min(0.0)
        .with_x_axis_max(1.03)
        .with_x_tick_step(0.2)
        .with_y_axis_min(0.0)
        .with_y_axis_max(1.05)
        .with_y_tick_step(0.2);
    let entry = |text: &str, color, dashed| Entry { text: text.into(), color, stroke: 2.0, dashed };
    let legend = [
        entry("this model", TRAIN, false),
        entry("calibrated", "#888888", true),
        entry("fraction of images", VALIDATION, false),
    ];
    picture(plots, layout, &legend)
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
