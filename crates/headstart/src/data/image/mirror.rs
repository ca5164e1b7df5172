//! Mirror images.

/// Mirrors images of `width` pixels, of three channels, left to right, in place.
pub(crate) fn mirror<T>(pixels: &mut [T], width: usize) {
    for row in pixels.chunks_exact_mut(width * 3) {
        row.reverse();
        row.chunks_exact_mut(3).for_each(<[T]>::reverse);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_swaps_columns_and_keeps_channels() {
        let mut row: Vec<f32> = (0..9).map(|v| v as f32).collect();
        mirror(&mut row, 3);
        assert_eq!(row, [6.0, 7.0, 8.0, 3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
        mirror(&mut row, 1);
        assert_eq!(row[0], 6.0);
    }
}
