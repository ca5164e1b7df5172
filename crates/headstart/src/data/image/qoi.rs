//! QOI (qoiformat.org, version 1.0), written here: a page of code.

/// Decodes a file of this size to `height * width * 3` bytes; alpha is dropped.
pub(super) fn decode(bytes: &[u8], (width, height): (usize, usize)) -> Result<Vec<u8>, String> {
    let short = || "a QOI that ends too early".to_string();
    let mut data = bytes.get(14..).ok_or_else(short)?.iter().copied();
    let mut next = || data.next().ok_or_else(short);
    let mut seen = [[0_u8; 4]; 64];
    let mut pixel = [0, 0, 0, 255];
    let needed = width * height * 3;
    // The longest run is of 62 pixels.
    let mut rgb = Vec::with_capacity(needed.min(62 * 3 * bytes.len()));
    while rgb.len() < needed {
        let byte = next()?;
        let low = byte & 63;
        match (byte, byte >> 6) {
            (0xfe, _) => pixel = [next()?, next()?, next()?, pixel[3]],
            (0xff, _) => pixel = [next()?, next()?, next()?, next()?],
            (_, 0) => pixel = seen[usize::from(low)],
            (_, 1) => {
                for (value, shift) in pixel.iter_mut().zip([4, 2, 0]) {
                    *value = value.wrapping_add(low >> shift & 3).wrapping_sub(2);
                }
            }
            (_, 2) => {
                let (green, others) = (low.wrapping_sub(32), next()?);
                let differences = [(others >> 4).wrapping_sub(8), 0, (others & 15).wrapping_sub(8)];
                for (value, difference) in pixel.iter_mut().zip(differences) {
                    *value = value.wrapping_add(green).wrapping_add(difference);
                }
            }
            _ => {
                let run = (usize::from(low) + 1).min((needed - rgb.len()) / 3);
                (0..run).for_each(|_| rgb.extend_from_slice(&pixel[..3]));
                continue;
            }
        }
        let [r, g, b, a] = pixel.map(usize::from);
        seen[(3 * r + 5 * g + 7 * b + 11 * a) % 64] = pixel;
        rgb.extend_from_slice(&pixel[..3]);
    }
    Ok(rgb)
}
