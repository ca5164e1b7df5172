//! Where pixels go: mirroring, moving, rotating, shearing, and what part of an image a crop takes.

use super::random::Random;

/// A rectangle of an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl Part {
    /// The rectangle that torchvision's `RandomResizedCrop` takes: a fraction of the area from `least` to 1, and a
    /// width from 3/4 to 4/3 of the height, if ten attempts find one that fits; else the largest central rectangle of
    /// such a shape.
    pub fn resized_crop(random: &mut Random, height: usize, width: usize, least: f64) -> Part {
        let (narrow, wide) = (3.0 / 4.0, 4.0 / 3.0);
        if let Some(part) = Part::of_area(random, height, width, [least, 1.0], [narrow, wide]) {
            return part;
        }
        let (h, w) = (height as f64, width as f64);
        let (part_height, part_width) = match w / h {
            ratio if ratio < narrow => ((w / narrow).round() as usize, width),
            ratio if ratio > wide => (height, (h * wide).round() as usize),
            _ => (height, width),
        };
        Part {
            top: (height - part_height) / 2,
            left: (width - part_width) / 2,
            height: part_height,
            width: part_width,
        }
    }

    /// A random rectangle: its fraction of the area is uniform over `scale`, the logarithm of width by height is
    /// uniform over `ratio`, its position is uniform; none if ten attempts find none inside the image.
    pub fn of_area(
        random: &mut Random,
        height: usize,
        width: usize,
        scale: [f64; 2],
        ratio: [f64; 2],
    ) -> Option<Part> {
        for _ in 0..10 {
            let area = (height * width) as f64 * random.between(scale[0], scale[1]);
            let shape = random.between(ratio[0].ln(), ratio[1].ln()).exp();
            let part_width = (area * shape).sqrt().round() as usize;
            let part_height = (area / shape).sqrt().round() as usize;
            if (1..=width).contains(&part_width) && (1..=height).contains(&part_height) {
                let top = random.below((height - part_height) as u64 + 1) as usize;
                let left = random.below((width - part_width) as u64 + 1) as usize;
                return Some(Part { top, left, height: part_height, width: part_width });
            }
        }
        None
    }

    /// The bytes of this part of `image`, whose rows have `width` pixels.
    pub fn of(&self, width: usize, image: &[u8]) -> Vec<u8> {
        let rows = image.chunks_exact(width * 3).skip(self.top).take(self.height);
        rows.flat_map(|row| &row[self.left * 3..(self.left + self.width) * 3]).copied().collect()
    }

    /// Gives every pixel of this part of `image` one colour.
    pub fn fill(&self, width: usize, image: &mut [u8], colour: [u8; 3]) {
        for row in image.chunks_exact_mut(width * 3).skip(self.top).take(self.height) {
            let row = &mut row[self.left * 3..(self.left + self.width) * 3];
            row.as_chunks_mut::<3>().0.fill(colour);
        }
    }
}

pub(super) fn flip(width: usize, image: &mut [u8]) {
    for row in image.chunks_exact_mut(width * 3) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

pub(super) fn vertical_flip(width: usize, image: &mut [u8]) {
    let (row, height) = (width * 3, image.len() / (width * 3));
    let (upper, lower) = image.split_at_mut(height / 2 * row);
    for (a, b) in upper.chunks_exact_mut(row).zip(lower.chunks_exact_mut(row).rev()) {
        a.swap_with_slice(b);
    }
}

/// `image[y][x] = image[y + down][x + across]`, 0 outside.
pub(super) fn shift(height: usize, width: usize, down: isize, across: isize, image: &mut [u8]) {
    let row = width * 3;
    let source = |y: usize| y.checked_add_signed(down).filter(|&y| y < height);
    let mut one = |y: usize| {
        let Some(from) = source(y) else {
            image[y * row..][..row].fill(0);
            return;
        };
        image.copy_within(from * row..(from + 1) * row, y * row);
        let gap = across.unsigned_abs().min(width) * 3;
        let line = &mut image[y * row..][..row];
        if across >= 0 {
            line.copy_within(gap.., 0);
            line[row - gap..].fill(0);
        } else {
            line.copy_within(..row - gap, gap);
            line[..gap].fill(0);
        }
    };
    // Rows are read before they are overwritten.
    if down >= 0 {
        (0..height).for_each(&mut one);
    } else {
        (0..height).rev().for_each(&mut one);
    }
}

/// From a position in the augmented image to one in the image: `x = m[0] x' + m[1] y' + m[2]`, `y = m[3] x' + m[4] y' + m[5]`.
pub(super) type Affine = [f64; 6];

/// Rotates by `degrees` counter-clockwise about the centre, as torchvision's and Pillow's `rotate`.
pub(super) fn rotation(height: usize, width: usize, degrees: f64) -> Affine {
    let (sin, cos) = (-degrees.to_radians()).sin_cos();
    let (x, y) = (width as f64 / 2.0, height as f64 / 2.0);
    [cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y]
}

/// Moves pixels as `affine` says, black where there are none, as Pillow's `Image.transform` with `NEAREST`, which counts in
/// 16 fixed places.
pub(super) fn transform_nearest(height: usize, width: usize, affine: Affine, image: &mut [u8]) {
    let source = image.to_vec();
    let pixels = source.as_chunks::<3>().0;
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let [a, b, c, d, e, f] = affine;
    let (x0, y0) = (fixed(c + (a + b) * 0.5), fixed(f + (d + e) * 0.5));
    let [a, b, d, e] = [a, b, d, e].map(fixed);
    for (i, target) in image.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (column, line) = ((i % width) as i64, (i / width) as i64);
        let x = (x0 + a * column + b * line) >> 16;
        let y = (y0 + d * column + e * line) >> 16;
        let inside = (0..width as i64).contains(&x) && (0..height as i64).contains(&y);
        *target = if inside { pixels[y as usize * width + x as usize] } else { [0; 3] };
    }
}

/// As [`transform_nearest`] with Pillow's `BILINEAR`.
pub(super) fn transform_bilinear(height: usize, width: usize, affine: Affine, image: &mut [u8]) {
    let source = image.to_vec();
    let (pixels, [a, b, c, d, e, f]) = (source.as_chunks::<3>().0, affine);
    let (wide, high) = (width as f64, height as f64);
    for (i, target) in image.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (x, y) = ((i % width) as f64 + 0.5, (i / width) as f64 + 0.5);
        let (x, y) = (a * x + b * y + c, d * x + e * y + f);
        *target = [0; 3];
        if !(0.0..wide).contains(&x) || !(0.0..high).contains(&y) {
            continue;
        }
        let (x, y) = (x - 0.5, y - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let (dx, dy) = (x - left, y - top);
        let columns = [left, left + 1.0].map(|x| x.clamp(0.0, wide - 1.0) as usize);
        let rows = [top, top + 1.0].map(|y| y.clamp(0.0, high - 1.0) as usize);
        for (k, value) in target.iter_mut().enumerate() {
            let at = |row: usize, column: usize| f64::from(pixels[row * width + column][k]);
            let [upper, lower] = rows.map(|row| {
                let first = at(row, columns[0]);
                first + (at(row, columns[1]) - first) * dx
            });
            *value = (upper + (lower - upper) * dy) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize) -> Vec<u8> {
        (0..height * width * 3).map(|i| (i % 251) as u8 + 1).collect()
    }

    #[test]
    fn shifting_follows_its_definition() {
        let (height, width) = (5, 4);
        let before = image(height, width);
        for down in -6..=6isize {
            for across in -6..=6isize {
                let mut after = before.clone();
                shift(height, width, down, across, &mut after);
                for (i, &value) in after.iter().enumerate() {
                    let (y, x, c) = (i / (width * 3), i / 3 % width, i % 3);
                    let from = y
                        .checked_add_signed(down)
                        .zip(x.checked_add_signed(across))
                        .filter(|&(y, x)| y < height && x < width);
                    let want = from.map_or(0, |(y, x)| before[(y * width + x) * 3 + c]);
                    assert_eq!(value, want, "down {down} across {across} at {y} {x}");
                }
            }
        }
    }

    #[test]
    fn mirrors_follow_their_definition() {
        for (height, width) in [(4, 5), (5, 4), (1, 3), (3, 1)] {
            let before = image(height, width);
            let (mut across, mut down) = (before.clone(), before.clone());
            flip(width, &mut across);
            vertical_flip(width, &mut down);
            for i in 0..before.len() {
                let (y, x, c) = (i / (width * 3), i / 3 % width, i % 3);
                assert_eq!(across[i], before[(y * width + width - 1 - x) * 3 + c]);
                assert_eq!(down[i], before[((height - 1 - y) * width + x) * 3 + c]);
            }
        }
    }

    #[test]
    fn a_quarter_turn_moves_every_pixel_to_its_place() {
        let side = 6;
        let before = image(side, side);
        for transform in [transform_nearest, transform_bilinear] {
            let mut after = before.clone();
            transform(side, side, rotation(side, side, 90.0), &mut after);
            let mut close = 0;
            for (i, value) in after.iter().enumerate() {
                let (y, x, c) = (i / (side * 3), i / 3 % side, i % 3);
                // Against the clock: the right column comes to the top.
                let want = before[(x * side + side - 1 - y) * 3 + c];
                close += usize::from(value.abs_diff(want) <= 1);
            }
            assert_eq!(close, before.len());
        }
    }

    #[test]
    fn resized_crops_are_spread_as_they_should_be() {
        let mut random = Random::new(1, 2, 3);
        let (mut below_half, mut below_third, mut narrow) = (0, 0, 0);
        for _ in 0..4000 {
            let part = Part::resized_crop(&mut random, 1000, 1000, 0.08);
            assert!(part.top + part.height <= 1000 && part.left + part.width <= 1000);
            let share = (part.height * part.width) as f64 / 1e6;
            let ratio = part.width as f64 / part.height as f64;
            assert!((0.079..=1.0).contains(&share) && (0.745..=1.34).contains(&ratio), "{part:?}");
            // Parts below half of the area always fit, whatever their shape.
            if share < 0.5 {
                below_half += 1;
                below_third += usize::from(share < 0.29);
                narrow += usize::from(ratio < 1.0);
            }
        }
        // Half of each; four deviations of a fair coin among 1700 to 2300 are 96.
        let middle = f64::from(below_half) / 2.0;
        assert!((1600..=2400).contains(&below_half), "{below_half}");
        assert!((below_third as f64 - middle).abs() < 96.0, "{below_third} of {below_half}");
        assert!((narrow as f64 - middle).abs() < 96.0, "{narrow} of {below_half}");
    }

    #[test]
    fn where_no_crop_fits_the_middle_is_taken() {
        for (height, width, want) in [
            (10, 1000, Part { top: 0, left: 493, height: 10, width: 13 }),
            (1000, 10, Part { top: 493, left: 0, height: 13, width: 10 }),
        ] {
            let part = Part::resized_crop(&mut Random::new(0, 0, 0), height, width, 1.0);
            assert_eq!(part, want);
        }
        for (height, width) in [(1, 1), (1, 2), (2, 1), (3, 2)] {
            for i in 0..50 {
                let part = Part::resized_crop(&mut Random::new(0, 0, i), height, width, 0.08);
                assert!(part.height >= 1 && part.top + part.height <= height, "{part:?}");
                assert!(part.width >= 1 && part.left + part.width <= width, "{part:?}");
            }
        }
    }

    #[test]
    fn parts_are_cut_out_and_filled_where_they_are() {
        let before = image(5, 4);
        let part = Part { top: 1, left: 2, height: 3, width: 2 };
        let cut = part.of(4, &before);
        let mut filled = before.clone();
        part.fill(4, &mut filled, [0, 1, 0]);
        assert_eq!(cut.len(), 18);
        for i in 0..before.len() {
            let (y, x, c) = (i / 12, i / 3 % 4, i % 3);
            if (1..4).contains(&y) && x >= 2 {
                assert_eq!(cut[((y - 1) * 2 + x - 2) * 3 + c], before[i]);
                assert_eq!(filled[i], [0, 1, 0][c]);
            } else {
                assert_eq!(filled[i], before[i]);
            }
        }
    }
}
