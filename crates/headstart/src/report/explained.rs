//! Where in an image a net sees a class, as a picture: the image, the image with lines, the map, and its scale.

use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use super::names::{in_png, shorten, width as text_width};
use super::raster::{SCALE, pixels};
use crate::data::image::picture::png;
use crate::data::image::{Interpolation, Rgb8, resize};
use crate::error::Result;
use crate::study::gradcam::{Heat, LEVELS, colour, map_picture, overlay};

/// Longer side of a panel, in units of two pixels.
const PANEL: usize = 240;
const MARGIN: usize = 16;
const GAP: usize = 14;
/// Above the panels: class and probability, the next classes, captions.
const HEAD: usize = 92;
/// Colour bar and its numbers.
const BAR: [usize; 2] = [14, 52];
/// Classes after the one shown.
const OTHERS: usize = 3;
const LETTERS: usize = 28;
const INK: &str = "#1d2126";
const SOFT: &str = "#5f6771";

/// A PNG file: `image`, the same with lines where the map of `heat` is at 25, 50 and 75% of its greatest value, and the
/// map with its scale, under the class with its probability. Names of `classes` that the font lacks are numbers.
///
/// # Errors
/// If it cannot be drawn.
pub fn explained(image: &Rgb8<'_>, heat: &Heat, classes: &[String]) -> Result<Vec<u8>> {
    let longest = image.width.max(image.height);
    let units = |n: usize| ((n * PANEL) as f64 / longest as f64).round().max(1.0) as usize;
    let (width, height) = (units(image.width), units(image.height));
    let name = |class: usize| {
        let name = classes.get(class).map_or("", String::as_str);
        in_png(&shorten(name, LETTERS), class)
    };
    let step = width + GAP;
    // A narrow image still has room for what stands above it.
    let wide = (MARGIN * 2 + step * 3 + BAR.iter().sum::<usize>()).max(520);
    let mut scene = Scene::new(wide as f64, (HEAD + height.max(120) + MARGIN) as f64);
    scene.background_color = Some("#ffffff".into());
    heading(&mut scene, heat, &name);
    for (i, caption) in captions(heat, width).into_iter().enumerate() {
        let x = (MARGIN + i * step) as f64;
        scene.add(text(x, HEAD as f64 - 8.0, &caption, 11, SOFT));
    }
    scale(&mut scene, (MARGIN + step * 3) as f64, height.max(120) as f64);
    let mut picture = pixels(scene)?;
    let by = SCALE as usize;
    let (panel_width, panel_height) = (width * by, height * by);
    let how =
        if longest * 2 <= PANEL * by { Interpolation::Nearest } else { Interpolation::Bicubic };
    let own = resize(image, panel_width, panel_height, how)?;
    let map = map_picture(heat, panel_width, panel_height);
    for (i, panel) in [&own, &overlay(&own, heat), &map].into_iter().enumerate() {
        paste(&mut picture, panel, (MARGIN + i * step) * by, HEAD * by);
    }
    png(&picture)
}

/// The class with its probability, and the most probable others.
fn heading(scene: &mut Scene, heat: &Heat, name: &dyn Fn(usize) -> String) {
    let percent = |class: usize| 100.0 * heat.probabilities.get(class).copied().unwrap_or(0.0);
    let class = heat.class;
    let line = format!("{}  {:.1}%", name(class), percent(class));
    scene.add(text(MARGIN as f64, 32.0, &line, 19, INK));
    let mut others: Vec<usize> = (0..heat.probabilities.len()).filter(|&c| c != class).collect();
    others.sort_by(|&a, &b| heat.probabilities[b].total_cmp(&heat.probabilities[a]));
    let list: Vec<String> = others
        .into_iter()
        .take(OTHERS)
        .map(|c| format!("{} {:.1}%", name(c), percent(c)))
        .collect();
    if !list.is_empty() {
        let line = format!("others: {}", list.join(", "));
        scene.add(text(MARGIN as f64, 54.0, &line, 12, SOFT));
    }
}

/// What stands above the panels, which are `width` units wide: all of it where it fits.
fn captions(heat: &Heat, width: usize) -> [String; 3] {
    let levels = LEVELS.map(|level| format!("{:.0}", level * 100.0)).join(", ");
    let lines = match heat.is_empty() {
        true => "no part supports it".to_string(),
        false => format!("lines at {levels}%"),
    };
    let whole = ["image".to_string(), lines, "map, % of its greatest value".to_string()];
    let short = ["image", if heat.is_empty() { "nothing" } else { "lines" }, "map"];
    let mut both = whole.into_iter().zip(short);
    std::array::from_fn(|_| match both.next() {
        Some((whole, _)) if text_width(&whole, 11.0) <= width as f64 => whole,
        Some((_, short)) => short.to_string(),
        None => String::new(),
    })
}

/// The colour bar: what part of the map's greatest value each colour means.
fn scale(scene: &mut Scene, left: f64, height: f64) {
    const STEPS: usize = 64;
    let (top, step) = (HEAD as f64, height / STEPS as f64);
    let rect = |y: f64, height: f64, fill: Color, stroke: Option<Color>| Primitive::Rect {
        x: left,
        y,
        width: BAR[0] as f64,
        height,
        fill,
        stroke_width: stroke.as_ref().map(|_| 1.0),
        stroke,
        opacity: None,
    };
    for i in 0..STEPS {
        let [r, g, b] = colour(1.0 - (i as f32 + 0.5) / STEPS as f32).map(|c| c.round() as u8);
        scene.add(rect(top + i as f64 * step, step + 0.5, Color::Rgb(r, g, b), None));
    }
    scene.add(rect(top, height, Color::None, Some(Color::from("#8a9099"))));
    for level in [0.0].into_iter().chain(LEVELS).chain([1.0]) {
        let y = top + height * (1.0 - f64::from(level)) + 4.0;
        // The outermost stay inside the bar's height.
        let y = y.clamp(top + 9.0, top + height);
        let percent = format!("{:.0}%", level * 100.0);
        scene.add(text(left + BAR[0] as f64 + 6.0, y, &percent, 11, INK));
    }
}

fn text(x: f64, y: f64, content: &str, size: u32, color: &str) -> Primitive {
    let (content, color) = (content.to_string(), Some(Color::from(color)));
    Primitive::Text {
        x,
        y,
        content,
        size,
        anchor: TextAnchor::Start,
        rotate: None,
        bold: false,
        color,
    }
}

/// Copies `panel` into `picture` as far as it reaches.
fn paste(picture: &mut Rgb8<'static>, panel: &Rgb8<'_>, left: usize, top: usize) {
    let stride = picture.width * 3;
    let columns = panel.width.min(picture.width.saturating_sub(left)) * 3;
    let pixels = picture.pixels.to_mut();
    for (y, row) in panel.pixels.chunks_exact(panel.width * 3).enumerate() {
        if let Some(out) =
            pixels.get_mut((top + y) * stride + left * 3..).filter(|o| o.len() >= columns)
        {
            out[..columns].copy_from_slice(&row[..columns]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::{Window, decode};

    #[test]
    fn image_lines_map_and_scale_stand_side_by_side() {
        let values = vec![0.0, 0.0, 0.0, 2.0];
        let heat = Heat {
            height: 2,
            width: 2,
            values,
            class: 1,
            probabilities: vec![0.25, 0.75],
            window: Window::WHOLE,
        };
        let classes = ["cat".to_string(), "玫瑰".to_string()];
        for (width, height) in [(40, 40), (900, 300), (20, 1000), (1, 1)] {
            let image = Rgb8::new(width, height, vec![90; width * height * 3]).unwrap();
            let out = decode("x.png", &explained(&image, &heat, &classes).unwrap()).unwrap();
            let at = |x: usize, y: usize| &out.pixels[(y * out.width + x) * 3..][..3];
            let longest = width.max(height);
            let wide = (width * PANEL * 2) as f64 / longest as f64;
            let (left, top) = (MARGIN * 2, HEAD * 2);
            assert_eq!(at(left, top), [90; 3]);
            // The map is dark where it is 0; the bar is light above.
            let third = left + 2 * (wide.round() as usize / 2 * 2 + GAP * 2) + 1;
            let dark = [13u8, 8, 135];
            let near = |p: &[u8]| p.iter().zip(dark).all(|(a, b)| a.abs_diff(b) < 40);
            assert!(width < 40 || near(at(third, top + 1)), "{width} {:?}", at(third, top + 1));
            let yellow = out.pixels.chunks_exact(3).filter(|p| p[0] > 235 && p[2] < 60).count();
            assert!(yellow > 20);
        }
    }
}
