//! Maps as pictures: lines over the image, and the map by itself.

use super::{Heat, LEVELS, contours};
use crate::data::image::Rgb8;
#[cfg(test)]
use crate::data::image::Window;

/// Width of a line as a fraction of the image's longer side, and of the white on each side of it.
const LINE: f32 = 1.0 / 110.0;
const CASING: f32 = 1.0 / 260.0;

/// What stands for what the net has not seen.
const UNSEEN: [u8; 3] = [225; 3];

/// `image` with lines where the map has 25, 50 and 75% of its greatest value ([`LEVELS`]), coloured as
/// [`map_picture`] colours these values. What the lines do not cover stays as it is; what the net has not seen is paler.
pub fn overlay(image: &Rgb8<'_>, heat: &Heat) -> Rgb8<'static> {
    let Rgb8 { width, height, .. } = *image;
    let mut pixels = image.pixels.to_vec();
    pale(&mut pixels, heat, width, height);
    let longest = width.max(height) as f32;
    let half = (longest * LINE).max(1.2) / 2.0;
    let casing = half + (longest * CASING).max(0.8);
    for level in LEVELS {
        let lines: Vec<Vec<(f32, f32)>> = contours(heat, level)
            .into_iter()
            .map(|line| {
                line.into_iter().map(|(x, y)| (x * width as f32, y * height as f32)).collect()
            })
            .collect();
        for (half, colour) in [(casing, [255.0; 3]), (half, colour(level))] {
            let cover = coverage(&lines, half, width, height);
            for (pixel, share) in pixels.chunks_exact_mut(3).zip(cover) {
                for (own, over) in pixel.iter_mut().zip(colour) {
                    *own = (f32::from(*own) * (1.0 - share) + over * share).round() as u8;
                }
            }
        }
    }
    Rgb8 { width, height, pixels: pixels.into() }
}

/// Makes paler what the net has not seen of an image.
fn pale(pixels: &mut [u8], heat: &Heat, width: usize, height: usize) {
    for (i, pixel) in pixels.chunks_exact_mut(3).enumerate() {
        let at = |i: usize, n: usize| (i as f32 + 0.5) / n as f32;
        if !heat.covers(at(i % width, width), at(i / width, height)) {
            for (own, over) in pixel.iter_mut().zip(UNSEEN) {
                *own = ((u16::from(*own) + 2 * u16::from(over)) / 3) as u8;
            }
        }
    }
}

/// The part of each pixel that lines of half that width cover, from 0 to 1.
fn coverage(lines: &[Vec<(f32, f32)>], half: f32, width: usize, height: usize) -> Vec<f32> {
    let mut cover = vec![0.0f32; width * height];
    let range = |a: f32, b: f32, most: usize| {
        let (low, high) = (a.min(b) - half - 1.0, a.max(b) + half + 1.0);
        low.max(0.0) as usize..(high.max(0.0) as usize + 1).min(most)
    };
    for ends in lines.iter().flat_map(|line| line.windows(2)) {
        let ((x0, y0), (x1, y1)) = (ends[0], ends[1]);
        let (dx, dy) = (x1 - x0, y1 - y0);
        let square = dx * dx + dy * dy;
        for y in range(y0, y1, height) {
            for x in range(x0, x1, width) {
                let (px, py) = (x as f32 + 0.5 - x0, y as f32 + 0.5 - y0);
                let along =
                    if square > 0.0 { ((px * dx + py * dy) / square).clamp(0.0, 1.0) } else { 0.0 };
                let far = ((px - along * dx).powi(2) + (py - along * dy).powi(2)).sqrt();
                let at = &mut cover[y * width + x];
                *at = at.max((half + 0.5 - far).clamp(0.0, 1.0));
            }
        }
    }
    cover
}

/// The map by itself, larger values lighter, resized bilinearly; grey where the net has not seen the image.
pub fn map_picture(heat: &Heat, width: usize, height: usize) -> Rgb8<'static> {
    let most = heat.most();
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let at = |i: usize, n: usize| (i as f32 + 0.5) / n as f32;
            let (x, y) = (at(x, width), at(y, height));
            if !heat.covers(x, y) {
                pixels.extend(UNSEEN);
                continue;
            }
            let (x, y) = heat.inside(x, y);
            let value = heat.part_of(most, x, y);
            pixels.extend(colour(value).map(|c| c.round() as u8));
        }
    }
    Rgb8 { width, height, pixels: pixels.into() }
}

/// Dark blue over purple and orange to yellow, as values go from 0 to 1, always lighter, so that it is readable
/// without red-green vision: five points of matplotlib's "plasma".
pub(crate) fn colour(value: f32) -> [f32; 3] {
    const POINTS: [[f32; 3]; 5] = [
        [13.0, 8.0, 135.0],
        [126.0, 3.0, 168.0],
        [204.0, 71.0, 120.0],
        [248.0, 149.0, 64.0],
        [240.0, 249.0, 33.0],
    ];
    let at = value.clamp(0.0, 1.0) * 4.0;
    let low = (at as usize).min(3);
    std::array::from_fn(|c| {
        POINTS[low][c] + (POINTS[low + 1][c] - POINTS[low][c]) * (at - low as f32)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{enlarged, png, thumbnail};
    use super::*;

    fn corner() -> Heat {
        let values = vec![0.0, 0.0, 0.0, 2.0];
        let (probabilities, window) = (vec![1.0], Window::WHOLE);
        Heat { height: 2, width: 2, values, class: 0, probabilities, window }
    }

    #[test]
    fn an_overlay_draws_lines_and_leaves_the_rest() {
        let grey = Rgb8::new(64, 64, vec![128; 64 * 64 * 3]).unwrap();
        let out = overlay(&grey, &corner());
        let same = out.pixels.chunks_exact(3).filter(|p| *p == [128; 3]).count();
        assert!((64 * 64 / 2..64 * 64 - 100).contains(&same), "{same}");
        let has = |level: f32| {
            let near = |p: &[u8]| {
                p.iter().zip(colour(level)).all(|(a, b)| (f32::from(*a) - b).abs() < 24.0)
            };
            out.pixels.chunks_exact(3).any(near)
        };
        assert!(LEVELS.into_iter().all(has));
        let none = Heat { values: vec![0.0; 4], ..corner() };
        assert_eq!(overlay(&grey, &none), grey);
    }

    #[test]
    fn what_a_crop_leaves_out_is_pale_and_has_no_lines() {
        let window = Window { left: 0.25, top: 0.0, width: 0.5, height: 1.0 };
        let heat = Heat { window, ..corner() };
        assert_eq!((heat.at(0.2, 0.9), heat.at(0.8, 0.9), heat.at(0.74, 0.99)), (0.0, 0.0, 1.0));
        let grey = Rgb8::new(64, 32, vec![30; 64 * 32 * 3]).unwrap();
        let (out, map) = (overlay(&grey, &heat), map_picture(&heat, 64, 32));
        for (i, (pixel, map)) in
            out.pixels.chunks_exact(3).zip(map.pixels.chunks_exact(3)).enumerate()
        {
            let seen = (16..48).contains(&(i % 64));
            assert_eq!(map == UNSEEN, !seen, "{i}");
            assert!(seen || pixel == [160; 3] || (12..52).contains(&(i % 64)), "{i} {pixel:?}");
        }
        let ends = super::super::contours(&heat, 0.5).concat();
        assert!(!ends.is_empty() && ends.iter().all(|(x, _)| (0.25..=0.75).contains(x)));
    }

    #[test]
    fn a_map_is_light_where_it_is_high() {
        let out = map_picture(&corner(), 8, 8);
        let light = |c: [f32; 3]| 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
        let at = |y: usize, x: usize| {
            let start = (y * 8 + x) * 3;
            light([0, 1, 2].map(|c| f32::from(out.pixels[start + c])))
        };
        assert!(at(7, 7) > 200.0 && at(0, 0) < 30.0 && at(6, 6) > at(4, 4));
        assert!(
            (0..20).all(|i| light(colour(i as f32 / 20.0)) < light(colour((i + 1) as f32 / 20.0)))
        );
    }

    #[test]
    fn pictures_are_resized_and_come_back_from_their_file() {
        let out = map_picture(&corner(), 8, 8);
        let file = png(&out).unwrap();
        assert_eq!(crate::data::image::decode("x.png", &file).unwrap(), out);
        assert_eq!(thumbnail(&out, 32).unwrap().width, 32);
        assert_eq!(thumbnail(&out, 8).unwrap(), out);
        let large = enlarged(&out, 20).unwrap();
        assert_eq!((large.width, large.height), (24, 24));
        assert_eq!(large.pixels[(23 * 24 + 21) * 3..][..3], out.pixels[63 * 3..]);
        assert_eq!(enlarged(&out, 8).unwrap(), out);
    }
}
