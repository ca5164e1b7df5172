//! Changes of colour, byte for byte as Pillow's `ImageEnhance`, `ImageOps` and `convert("HSV")`, which
//! torchvision's transforms of PIL images call.

/// `from + (to - from) * factor`, clipped to bytes, as Pillow's `Image.blend`.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

/// Luma of ITU-R 601-2 in 16 fixed places.
fn grey(&[r, g, b]: &[u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// Black at 0, the image at 1.
pub(super) fn brightness(factor: f64, image: &mut [u8]) {
    image.iter_mut().for_each(|v| *v = blend(0, *v, factor as f32));
}

/// The mean grey at 0, the image at 1.
pub(super) fn contrast(factor: f64, image: &mut [u8]) {
    let pixels = image.as_chunks::<3>().0;
    let sum: u64 = pixels.iter().map(|p| u64::from(grey(p))).sum();
    let mean = (sum as f64 / pixels.len() as f64 + 0.5) as u8;
    image.iter_mut().for_each(|v| *v = blend(mean, *v, factor as f32));
}

/// The image in grey at 0, the image at 1.
pub(super) fn saturation(factor: f64, image: &mut [u8]) {
    for pixel in image.as_chunks_mut::<3>().0 {
        let grey = grey(pixel);
        *pixel = pixel.map(|v| blend(grey, v, factor as f32));
    }
}

/// Rotates the hue by this fraction of the colour circle, -0.5 to 0.5, in bytes of hue.
pub(super) fn hue(factor: f64, image: &mut [u8]) {
    let turn = (factor * 255.0) as i32 as u8;
    for pixel in image.as_chunks_mut::<3>().0 {
        let [hue, saturation, value] = to_hsv(*pixel);
        *pixel = from_hsv([hue.wrapping_add(turn), saturation, value]);
    }
}

fn to_hsv(pixel: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = pixel.map(f32::from);
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most as u8];
    }
    let range = most - least;
    let [rc, gc, bc] = [r, g, b].map(|v| (most - v) / range);
    let sixths = if r == most {
        bc - gc
    } else if g == most {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let turns = ((f64::from(sixths) / 6.0 + 1.0) % 1.0) as f32;
    let byte = |share: f32| (f64::from(share) * 255.0) as u8;
    [byte(turns), byte(range / most), most as u8]
}

fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let sixth = sixths.floor();
    let (rest, saturation) =
        (f64::from((sixths - sixth) as f32), f64::from(f32::from(saturation) / 255.0));
    let part = |share: f64| (f64::from(value) * (1.0 - share)).round() as u8;
    let (p, q) = (part(saturation), part(saturation * rest));
    let t = part(saturation * (1.0 - rest));
    match sixth as u8 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

/// The image smoothed (5 of 13 the pixel, 1 of 13 each of its eight neighbours; the edge as it is) at 0, the image at 1.
pub(super) fn sharpness(factor: f64, height: usize, width: usize, image: &mut [u8]) {
    let source = image.to_vec();
    let row = width * 3;
    for y in 0..height {
        for i in 0..row {
            let inside = y > 0 && y + 1 < height && i >= 3 && i + 3 < row;
            let own = source[y * row + i];
            let smooth = if inside {
                let middle = y * row + i;
                let around = [middle - row, middle, middle + row];
                let sum: u32 = around
                    .iter()
                    .flat_map(|&m| [m - 3, m, m + 3])
                    .map(|m| u32::from(source[m]))
                    .sum();
                ((2 * (sum + 4 * u32::from(own)) + 13) / 26) as u8
            } else {
                own
            };
            image[y * row + i] = blend(smooth, own, factor as f32);
        }
    }
}

/// Leaves the highest `bits` of the 8 bits and sets the others to 0.
pub(super) fn posterize(bits: u32, image: &mut [u8]) {
    let mask = 0xffu8.checked_shl(8 - bits.min(8)).unwrap_or(0);
    image.iter_mut().for_each(|v| *v &= mask);
}

/// Inverts what is not below the threshold.
pub(super) fn solarize(threshold: f64, image: &mut [u8]) {
    image.iter_mut().filter(|v| f64::from(**v) >= threshold).for_each(|v| *v = 255 - *v);
}

/// Stretches each channel so that its least value is 0 and its largest 255.
pub(super) fn autocontrast(image: &mut [u8]) {
    by_channel(image, |counts| {
        let low = counts.iter().position(|&n| n > 0)?;
        let high = counts.iter().rposition(|&n| n > 0)?;
        let scale = (high > low).then(|| 255.0 / (high - low) as f64)?;
        Some(std::array::from_fn(|i| (i as f64 * scale - low as f64 * scale) as u8))
    });
}

/// Equalises the histogram of each channel.
pub(super) fn equalize(image: &mut [u8]) {
    by_channel(image, |counts| {
        let last = counts.iter().rfind(|&&n| n > 0)?;
        let step = (counts.iter().sum::<usize>() - last) / 255;
        let mut sum = step / 2;
        let table = |i: usize| {
            let value = (sum / step).min(255) as u8;
            sum += counts[i];
            value
        };
        (step > 0).then(|| std::array::from_fn(table))
    });
}

/// Replaces the values of each channel by a table, which is made from the channel's histogram.
fn by_channel(image: &mut [u8], table: impl Fn(&[usize; 256]) -> Option<[u8; 256]>) {
    for channel in 0..3 {
        let mut counts = [0usize; 256];
        image.iter().skip(channel).step_by(3).for_each(|&v| counts[usize::from(v)] += 1);
        if let Some(table) = table(&counts) {
            let values = image.iter_mut().skip(channel).step_by(3);
            values.for_each(|v| *v = table[usize::from(*v)]);
        }
    }
}
