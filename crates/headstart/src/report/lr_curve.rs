//! The learning rate range test as a picture.

use kuva::plot::annotations::ReferenceLine;
use kuva::plot::{LegendPosition, LinePlot};
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::plots::{Picture, TRAIN, picture};
use crate::error::Result;
use crate::lr_find::LrCurve;

/// Smoothed loss against the learning rate, on a logarithmic axis, with the suggestion marked.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn lr_curve(curve: &LrCurve) -> Result<Picture> {
    let points: Vec<(f64, f64)> = curve.points.iter().map(|p| (f64::from(p.0), p.1)).collect();
    let line = LinePlot::new().with_data(points).with_color(TRAIN).with_stroke_width(2.0);
    let plots: Vec<Plot> = vec![line.with_legend("loss, smoothed").into()];
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title("loss by learning rate")
        .with_x_label("learning rate")
        .with_y_label("loss")
        .with_width(640.0)
        .with_height(420.0)
        .with_log_x()
        .with_legend_position(LegendPosition::OutsideRightTop);
    if let Some(rate) = curve.suggestion() {
        let line = ReferenceLine::vertical(f64::from(rate)).with_color("#555555");
        layout = layout.with_reference_line(line.with_label(format!("{rate:.1e}")));
    }
    picture(plots, layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suggestion_is_in_the_picture() {
        let losses = [2.0, 2.0, 1.5, 1.0, 0.6, 0.5, 4.0];
        let points = losses.iter().enumerate().map(|(i, &l)| (1e-6 * 10f32.powi(i as i32), l));
        let curve = LrCurve { points: points.collect() };
        let picture = lr_curve(&curve).unwrap();
        assert!(picture.svg.contains(&format!("{:.1e}", curve.suggestion().unwrap())));
        assert!(picture.png.starts_with(b"\x89PNG"));
        lr_curve(&LrCurve { points: vec![(1e-3, 1.0)] }).unwrap();
    }
}
