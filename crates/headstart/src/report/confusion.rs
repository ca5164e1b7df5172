//! The confusion matrix, as PNG and SVG.

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::names::{in_png, shorten, width};
use super::plots::{FONTS, Picture, drawn};
use crate::error::Result;
use crate::measure::metrics::Report;
use crate::numbers::grouped;

/// Most classes that are named; with more, only some have labels, which are numbers.
const NAMED: usize = 120;
/// Letters of a name.
const LETTERS: usize = 26;
/// Least pixels of a cell with a number in it.
const NUMBERED: f64 = 22.0;
const MARGIN: f64 = 16.0;
const HEAD: f64 = 62.0;
/// Colour bar: pixels before it, of it, and of its numbers.
const BAR: [f64; 3] = [28.0, 16.0, 64.0];
const INK: &str = "#1d2126";
const GRID: &str = "#e3e5e8";

/// Images by true class (row) and predicted class (column), in percent of the row. The colour follows the square root of the
/// fraction, so that few images are visible too. Names that the font lacks are numbers in the PNG.
///
/// # Errors
/// If the picture cannot be drawn.
pub fn confusion_matrix(report: &Report) -> Result<Picture> {
    let names: Vec<String> = report.classes.iter().map(|c| shorten(c, LETTERS)).collect();
    let plain: Vec<String> = names.iter().enumerate().map(|(i, name)| in_png(name, i)).collect();
    drawn(&scene(report, &names), scene(report, &plain))
}

/// Positions and sizes.
struct Place {
    left: f64,
    cell: f64,
    side: f64,
}

fn scene(report: &Report, names: &[String]) -> Scene {
    let n = names.len();
    let cell = match n {
        0..=12 => 44f64.max(180.0 / n.max(1) as f64),
        13..=24 => 30.0,
        25..=40 => 24.0,
        41..=NAMED => 14.0,
        _ => (NAMED as f64 * 14.0 / n as f64).max(1.0),
    };
    let step = if n <= NAMED { 1 } else { n.div_ceil(40) };
    let texts: Vec<String> = match step {
        1 => names.to_vec(),
        _ => (0..n).map(|i| i.to_string()).collect(),
    };
    let size = if cell < NUMBERED && step == 1 { 10 } else { 13 };
    let widest = texts.iter().map(|t| width(t, f64::from(size))).fold(0.0, f64::max);
    // Names below the columns lie flat where they fit, lean where cells are large, else stand.
    let (turn, below) = match (widest + 8.0 <= cell * step as f64, cell >= 30.0) {
        (true, _) => (None, 20.0),
        (_, true) => (Some(-45.0), 16.0 + widest * 0.75),
        _ => (Some(-90.0), 12.0 + widest),
    };
    let place = Place { left: MARGIN + 28.0 + widest, cell, side: n as f64 * cell };
    let wide = place.left + place.side + BAR.iter().sum::<f64>() + MARGIN;
    let high = HEAD + place.side.max(150.0) + below + 26.0 + MARGIN;
    let mut scene = Scene::new(wide, high);
    scene.font_family = Some(FONTS.to_string());
    cells(&mut scene, report, &place);
    let text =
        |x: f64, y: f64, content: &str, size: u32, anchor: TextAnchor, rotate: Option<f64>| {
            let (content, color) = (content.to_string(), Some(Color::from(INK)));
            Primitive::Text { x, y, content, size, anchor, rotate, bold: false, color }
        };
    let middle = f64::from(size) * 0.36;
    for (i, name) in texts.iter().enumerate().step_by(step) {
        let along = (i as f64 + 0.5) * cell;
        let (x, y) = (place.left - 8.0, HEAD + along + middle);
        scene.add(text(x, y, name, size, TextAnchor::End, None));
        let (x, y) = (place.left + along, HEAD + place.side);
        scene.add(match turn {
            None => text(x, y + 18.0, name, size, TextAnchor::Middle, None),
            Some(-90.0) => text(x + middle, y + 8.0, name, size, TextAnchor::End, turn),
            _ => text(x + middle, y + 14.0, name, size, TextAnchor::End, turn),
        });
    }
    let (centre, split) = (place.left + place.side / 2.0, shorten(&report.split, LETTERS));
    let images: usize = report.confusion_matrix.iter().flatten().sum();
    let second = format!("{split}, {} images, accuracy {:.4}", grouped(images), report.accuracy);
    let over = centre.max(width(&second, 12.0) / 2.0 + MARGIN);
    scene.add(text(over, 28.0, "confusion matrix", 16, TextAnchor::Middle, None));
    scene.add(text(over, 48.0, &second, 12, TextAnchor::Middle, None));
    scene.add(text(
        centre,
        HEAD + place.side + below + 22.0,
        "predicted",
        14,
        TextAnchor::Middle,
        None,
    ));
    let aside = HEAD + place.side / 2.0;
    scene.add(text(MARGIN + 8.0, aside, "true", 14, TextAnchor::Middle, Some(-90.0)));
    bar(&mut scene, place.left + place.side + BAR[0], place.side.clamp(150.0, 320.0));
    scene
}

fn rect(x: f64, y: f64, width: f64, height: f64, fill: Color, stroke: Option<&str>) -> Primitive {
    let (stroke, stroke_width) = (stroke.map(Color::from), stroke.map(|_| 1.0));
    Primitive::Rect { x, y, width, height, fill, stroke, stroke_width, opacity: None }
}

/// The grid, and every cell that has images.
fn cells(scene: &mut Scene, report: &Report, place: &Place) {
    let Place { left, cell, side } = *place;
    for (y, row) in report.confusion_matrix.iter().enumerate() {
        let sum: usize = row.iter().sum();
        for (x, &count) in row.iter().enumerate().filter(|c| *c.1 > 0) {
            let share = count as f64 / sum as f64;
            let (x, y) = (left + x as f64 * cell, HEAD + y as f64 * cell);
            scene.add(rect(x, y, cell, cell, blue(share), None));
            if cell >= NUMBERED {
                let size = (cell * 0.36).min(13.0);
                let light = if share > 0.4 { "#ffffff" } else { INK };
                scene.add(Primitive::Text {
                    x: x + cell / 2.0,
                    y: y + cell / 2.0 + size * 0.36,
                    content: percent(count, sum),
                    size: size.round() as u32,
                    anchor: TextAnchor::Middle,
                    rotate: None,
                    bold: false,
                    color: Some(Color::from(light)),
                });
            }
        }
    }
    let line = |x1: f64, y1: f64, x2: f64, y2: f64| Primitive::Line {
        x1,
        y1,
        x2,
        y2,
        stroke: Color::from(GRID),
        stroke_width: 0.5,
        stroke_dasharray: None,
    };
    let lines = if cell >= 8.0 { report.classes.len() } else { 0 };
    for i in 1..lines {
        let at = i as f64 * cell;
        scene.add(line(left + at, HEAD, left + at, HEAD + side));
        scene.add(line(left, HEAD + at, left + side, HEAD + at));
    }
    scene.add(rect(left, HEAD, side, side, Color::from("none"), Some("#8a9099")));
}

/// What the colours mean.
fn bar(scene: &mut Scene, left: f64, height: f64) {
    const STEPS: usize = 64;
    let step = height / STEPS as f64;
    for i in 0..STEPS {
        let root = 1.0 - (i as f64 + 0.5) / STEPS as f64;
        scene.add(rect(left, HEAD + i as f64 * step, BAR[1], step + 0.5, blue(root * root), None));
    }
    scene.add(rect(left, HEAD, BAR[1], height, Color::from("none"), Some("#8a9099")));
    for (share, content) in
        [(0.0, "0"), (0.01, "1"), (0.05, "5"), (0.2, "20"), (0.5, "50"), (1.0, "100%")]
    {
        scene.add(Primitive::Text {
            x: left + BAR[1] + 7.0,
            y: HEAD + height * (1.0 - f64::sqrt(share)) + 4.0,
            content: content.to_string(),
            size: 12,
            anchor: TextAnchor::Start,
            rotate: None,
            bold: false,
            color: Some(Color::from(INK)),
        });
    }
    scene.add(Primitive::Text {
        x: left + BAR[1] + BAR[2] - 8.0,
        y: HEAD + height / 2.0,
        content: "% of the true class".to_string(),
        size: 12,
        anchor: TextAnchor::Middle,
        rotate: Some(-90.0),
        bold: false,
        color: Some(Color::from(INK)),
    });
}

/// Whole percents; `<1` and `>99` where rounding would hide images.
fn percent(count: usize, of: usize) -> String {
    match (100.0 * count as f64 / of as f64).round() {
        p if p >= 100.0 && count < of => ">99".to_string(),
        p if p < 1.0 => "<1".to_string(),
        p => format!("{p:.0}"),
    }
}

/// White over ColorBrewer's blues, by the root of a fraction.
fn blue(share: f64) -> Color {
    const POINTS: [[f64; 3]; 3] = [[255.0; 3], [158.0, 202.0, 225.0], [8.0, 69.0, 148.0]];
    let at = share.clamp(0.0, 1.0).sqrt() * 2.0;
    let low = (at as usize).min(1);
    let mix = |c: usize| POINTS[low][c] + (POINTS[low + 1][c] - POINTS[low][c]) * (at - low as f64);
    let [r, g, b] = [mix(0), mix(1), mix(2)].map(|v| v.round() as u8);
    Color::Rgb(r, g, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions of the texts that read `wanted`.
    fn texts(svg: &str, wanted: &str) -> Vec<(f64, f64)> {
        let number = |tag: &str, name: &str| -> f64 {
            let from = tag.find(&format!(" {name}=\"")).unwrap() + name.len() + 3;
            tag[from..].split('"').next().unwrap().parse().unwrap()
        };
        let text = |t: &&str| t.split(['>', '<']).nth(1) == Some(wanted);
        let tags = svg.split("<text").skip(1).filter(text);
        tags.map(|t| (number(t, "x"), number(t, "y"))).collect()
    }

    fn report(classes: &[String], labels: &[usize], answers: &[usize]) -> Report {
        let n = classes.len();
        let mut p = vec![0.0; n * labels.len()];
        answers.iter().enumerate().for_each(|(i, &a)| p[i * n + a] = 1.0);
        Report::new("test", classes, &p, labels)
    }

    #[test]
    fn hits_lie_on_the_falling_diagonal_beside_their_class() {
        let report = report(&["a", "b", "c"].map(String::from), &[0, 1, 2], &[0, 1, 1]);
        let picture = confusion_matrix(&report).unwrap();
        let mut ones = texts(&picture.svg, "100");
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
    fn colours_mean_the_same_in_every_picture() {
        let fills = |answers: &[usize]| -> bool {
            let report = report(&["a".into(), "b".into()], &[0, 0, 0, 0, 1, 1, 1, 1], answers);
            let svg = confusion_matrix(&report).unwrap().svg;
            let half = blue(0.5);
            let Color::Rgb(r, g, b) = half else { panic!("{half:?}") };
            let wanted = [format!("#{r:02x}{g:02x}{b:02x}"), format!("rgb({r},{g},{b})")];
            // The bar's colours are between its steps.
            wanted.iter().any(|w| svg.contains(w))
        };
        assert!(fills(&[0, 0, 1, 1, 1, 1, 0, 0]) && fills(&[0, 0, 1, 1, 1, 1, 1, 1]));
        assert!(!fills(&[0, 0, 0, 1, 1, 1, 1, 1]));
    }

    #[test]
    fn any_number_of_classes_and_any_names_can_be_drawn() {
        for n in [1, 2, 13, 30, 100, 130, 1000] {
            let classes: Vec<String> = (0..n).map(|i| format!("some class, no. {i}")).collect();
            let picture = confusion_matrix(&report(&classes, &[0], &[n - 1])).unwrap();
            let named = texts(&picture.svg, "some class, no. 0").len();
            assert_eq!(named, if n <= NAMED { 2 } else { 0 }, "{n}");
            assert_eq!(texts(&picture.svg, "1,000").len(), 0);
        }
        confusion_matrix(&report(&[], &[], &[])).unwrap();
        let long = "long ".repeat(50);
        let odd = ["<script>", "玫瑰", &long, ""].map(String::from);
        let picture = confusion_matrix(&report(&odd, &[0, 1, 2, 3], &[0, 1, 2, 3])).unwrap();
        assert!(picture.svg.contains("玫瑰") && picture.svg.contains("&lt;script&gt;"));
        assert!(!picture.svg.contains("<script>") && !picture.svg.contains(&long));
    }

    #[test]
    fn percents_do_not_read_as_all_or_nothing() {
        let read = |count| percent(count, 1000);
        assert_eq!([1000, 999, 500, 5, 4].map(read), ["100", ">99", "50", "1", "<1"]);
    }
}
