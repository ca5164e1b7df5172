//! The learning rate range test as a picture.

use kuva::plot::LinePlot;
use kuva::plot::annotations::ReferenceLine;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::plots::{Picture, TRAIN, picture};
use crate::error::Result;
use crate::train::lr_find::LrCurve;

/// Smoothed loss against the learning rate, on a logarithmic axis, with the suggestion marked. Losses far above
/// those before the minimum are left out, so that the fall is visible.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn lr_curve(curve: &LrCurve) -> Result<Picture> {
    let points = shown(&curve.points);
    let line = LinePlot::new().with_data(points).with_color(TRAIN).with_stroke_width(2.0);
    let plots: Vec<Plot> = vec![line.into()];
    let mut layout = Layout::auto_from_plots(&plots)
        .with_title("loss by learning rate")
        .with_x_label("learning rate")
        .with_y_label("loss, smoothed")
        .with_width(640.0)
        .with_height(420.0)
        .with_log_x();
    if let Some(rate) = curve.suggestion() {
        let line = ReferenceLine::vertical(f64::from(rate)).with_color("#555555");
        layout = layout.with_reference_line(line.with_label(format!("suggested: {rate:.1e}")));
    }
    picture(plots, layout, &[])
}

/// The points up to where the loss leaves the picture for good, the last of them on its edge.
fn shown(points: &[(f32, f64)]) -> Vec<(f64, f64)> {
    let all = points.iter().map(|p| (f64::from(p.0), p.1)).filter(|p| p.1.is_finite());
    let mut all: Vec<(f64, f64)> = all.collect();
    let lowest = (0..all.len()).min_by(|&a, &b| all[a].1.total_cmp(&all[b].1)).unwrap_or(0);
    let Some(&(_, low)) = all.get(lowest) else { return all };
    let before = all[..=lowest].iter().map(|p| p.1).fold(low, f64::max);
    let most = before + (before - low).max(0.1 * before.abs());
    let Some(out) = (lowest..all.len()).find(|&i| all[i].1 > most) else { return all };
    // Straight on the logarithmic axis, as the line is drawn.
    let ((x0, y0), (x1, y1)) = (all[out - 1], all[out]);
    let x = x0 * (x1 / x0).powf((most - y0) / (y1 - y0));
    all.truncate(out);
    all.push((x, most));
    all
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

    #[test]
    fn what_is_far_above_the_beginning_is_cut_off() {
        let points = |losses: &[f64]| -> Vec<(f32, f64)> {
            losses.iter().enumerate().map(|(i, &l)| (10f32.powi(i as i32), l)).collect()
        };
        let cut = shown(&points(&[2.0, 1.5, 1.0, 2.0, 4.0, 900.0]));
        assert_eq!(cut.len(), 5);
        assert!((cut[4].1 - 3.0).abs() < 1e-9 && (cut[4].0.log10() - 3.5).abs() < 1e-6, "{cut:?}");
        assert_eq!(shown(&points(&[2.0, 1.0, 2.5])).len(), 3);
        assert_eq!(shown(&points(&[1.0, f64::NAN, 9.0])).len(), 2);
        assert!(shown(&[]).is_empty());
    }
}
