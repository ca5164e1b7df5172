//! Scenes as PNG files, with turned text as crisp as the rest.
//!
//! kuva's own turned text has no soft edges. So text is drawn level, on white, and turned here.

use kuva::backend::raster::RasterBackend;
use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, TextAnchor};

use crate::data::image::Rgb8;
use crate::data::image::decode;
use crate::data::image::picture::png;
use crate::error::{Error, Result};

/// PNG pixels per SVG unit.
pub(super) const SCALE: f32 = 2.0;
/// Samples across a pixel of text that is turned by other than quarters.
const FINE: usize = 3;

/// A PNG file of a scene, at two pixels a unit.
///
/// # Errors
/// If it cannot be drawn.
pub(super) fn raster(scene: Scene) -> Result<Vec<u8>> {
    png(&pixels(scene)?)
}

/// The pixels of a scene, two a unit.
///
/// # Errors
/// As [`raster`].
pub(super) fn pixels(mut scene: Scene) -> Result<Rgb8<'static>> {
    let (mut turned, mut moved) = (Vec::new(), 0usize);
    scene.elements.retain(|element| {
        match element {
            Primitive::GroupStart { .. } => moved += 1,
            Primitive::GroupEnd => moved = moved.saturating_sub(1),
            _ => {}
        }
        // Inside a group, coordinates are the group's.
        match Turned::of(element).filter(|_| moved == 0) {
            Some(text) => {
                turned.push(text);
                false
            }
            None => true,
        }
    });
    let mut image = drawn(&scene, SCALE)?;
    for text in turned {
        text.draw(&mut image)?;
    }
    Ok(image)
}

fn drawn(scene: &Scene, scale: f32) -> Result<Rgb8<'static>> {
    let file = RasterBackend::new()
        .with_scale(scale)
        .render_scene(scene)
        .map_err(|e| Error::invalid("picture", "something that can be drawn", e, ""))?;
    decode("picture", &file)
}

/// Text that is not level.
struct Turned {
    at: (f64, f64),
    content: String,
    size: u32,
    anchor: TextAnchor,
    degrees: f64,
    colour: [f32; 3],
}

impl Turned {
    fn of(element: &Primitive) -> Option<Turned> {
        let Primitive::Text { x, y, content, size, anchor, rotate: Some(degrees), color, .. } =
            element
        else {
            return None;
        };
        let colour = match color {
            Some(Color::Rgb(r, g, b)) => [*r, *g, *b].map(f32::from),
            Some(_) => return None,
            None => [0.0; 3],
        };
        let (at, content) = ((*x, *y), content.clone());
        Some(Turned { at, content, size: *size, anchor: *anchor, degrees: *degrees, colour })
    }

    /// Draws it into `image`, which has [`SCALE`] pixels a unit.
    fn draw(&self, image: &mut Rgb8<'static>) -> Result<()> {
        let quarter = self.degrees.rem_euclid(90.0) == 0.0;
        let fine = if quarter { 1 } else { FINE };
        let (level, (ax, ay)) = self.level(SCALE * fine as f32)?;
        let (width, height) = (level.width as f64, level.height as f64);
        let to = |v: f64| match quarter {
            // On whole pixels, so that each pixel of the text becomes one pixel.
            true => (v * f64::from(SCALE)).round(),
            false => v * f64::from(SCALE),
        };
        let (cx, cy) = (to(self.at.0), to(self.at.1));
        let (sin, cos) = self.degrees.to_radians().sin_cos();
        let corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)].map(|(x, y)| {
            let (dx, dy) = ((x - ax) / fine as f64, (y - ay) / fine as f64);
            (cx + cos * dx - sin * dy, cy + sin * dx + cos * dy)
        });
        let bounds = |of: fn((f64, f64)) -> f64, most: usize| {
            let values = corners.map(of);
            let low = values.iter().copied().fold(f64::INFINITY, f64::min).floor().max(0.0);
            let high = values.iter().copied().fold(0.0, f64::max).ceil();
            low as usize..(high as usize).min(most)
        };
        let (columns, rows) = (bounds(|p| p.0, image.width), bounds(|p| p.1, image.height));
        let stride = image.width;
        let pixels = image.pixels.to_mut();
        for y in rows {
            for x in columns.clone() {
                let mut ink = 0.0;
                for i in 0..fine * fine {
                    let part = |k: usize| (k as f64 + 0.5) / fine as f64;
                    let (px, py) = (x as f64 + part(i % fine) - cx, y as f64 + part(i / fine) - cy);
                    let u = ax + (cos * px + sin * py) * fine as f64;
                    let v = ay + (cos * py - sin * px) * fine as f64;
                    if u >= 0.0 && v >= 0.0 && u < width && v < height {
                        let at = (v as usize * level.width + u as usize) * 3;
                        ink += 1.0 - f32::from(level.pixels[at]) / 255.0;
                    }
                }
                let share = ink / (fine * fine) as f32;
                let at = (y * stride + x) * 3;
                for (own, over) in pixels[at..at + 3].iter_mut().zip(self.colour) {
                    *own = (f32::from(*own) * (1.0 - share) + over * share).round() as u8;
                }
            }
        }
        Ok(())
    }

    /// The text by itself, level, black on white, and the pixel of its anchor there.
    fn level(&self, scale: f32) -> Result<(Rgb8<'static>, (f64, f64))> {
        let size = f64::from(self.size);
        // Room for the widest letters that the font has.
        let width = (self.content.chars().count() as f64 * 1.2 + 2.0) * size;
        let x = match self.anchor {
            TextAnchor::Start => size,
            TextAnchor::Middle => (width / 2.0).round(),
            TextAnchor::End => (width - size).round(),
        };
        let y = (size * 1.5).round();
        let mut scene = Scene::new(width.ceil(), (size * 2.2).ceil());
        scene.background_color = Some("#ffffff".into());
        scene.add(Primitive::Text {
            x,
            y,
            content: self.content.clone(),
            size: self.size,
            anchor: self.anchor,
            rotate: None,
            bold: false,
            color: Some(Color::Rgb(0, 0, 0)),
        });
        let scaled = (x * f64::from(scale), y * f64::from(scale));
        Ok((drawn(&scene, scale)?, scaled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rotate: Option<f64>, anchor: TextAnchor) -> Rgb8<'static> {
        let mut scene = Scene::new(120.0, 120.0);
        scene.add(Primitive::Text {
            x: 60.0,
            y: 60.0,
            content: "label".into(),
            size: 14,
            anchor,
            rotate,
            bold: false,
            color: Some(Color::from("#1d2126")),
        });
        pixels(scene).unwrap()
    }

    #[test]
    fn text_that_stands_is_text_that_lies_turned() {
        for anchor in [TextAnchor::Start, TextAnchor::Middle, TextAnchor::End] {
            let (lies, stands) = (text(None, anchor), text(Some(-90.0), anchor));
            let n = lies.width;
            assert_eq!((n, lies.height), (240, 240));
            let at = |image: &Rgb8<'_>, y: usize, x: usize| image.pixels[(y * n + x) * 3];
            // A point to the right of the anchor is above it once the text stands.
            let off = (0..n * n).filter(|&i| {
                let (y, x) = (i / n, i % n);
                at(&lies, y, x).abs_diff(at(&stands, n - 1 - x, y)) > 1
            });
            assert_eq!(off.count(), 0);
            assert!(lies.pixels.iter().any(|&p| p < 60));
        }
    }

    #[test]
    fn leaning_text_has_soft_edges() {
        let leans = text(Some(-45.0), TextAnchor::Middle);
        let ink = |low: u8, high: u8| {
            leans.pixels.iter().step_by(3).filter(|p| (low..=high).contains(p)).count()
        };
        assert!(ink(0, 80) > 50 && ink(90, 230) > 100, "{} {}", ink(0, 80), ink(90, 230));
        let level = text(None, TextAnchor::Middle);
        let sum =
            |image: &Rgb8<'_>| -> f64 { image.pixels.iter().map(|p| f64::from(255 - p)).sum() };
        assert!((sum(&leans) / sum(&level) - 1.0).abs() < 0.05);
    }
}
