//! Maps cut into tiles, which all directions share.

use crate::buffer::LINE;
use crate::element::Element;
use crate::shape::ConvShape;
use crate::table::Compute;

/// Products of a tile.
pub(super) const PRODUCTS: usize = 36;
/// Floats of transformed tiles and products of a block that all threads share.
pub(super) const BLOCK: usize = 3 << 20;
/// Tiles that one task transforms.
pub(super) const TASK: usize = 8;

/// The maps a convolution reads and writes, cut into tiles.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    height: usize,
    width: usize,
    down: usize,
    across: usize,
    pub count: usize,
}

impl Tiles {
    pub fn new(s: &ConvShape) -> Tiles {
        let (down, across) = (s.height().div_ceil(4), s.width().div_ceil(4));
        let count = s.batch() * down * across;
        Tiles { height: s.height(), width: s.width(), down, across, count }
    }

    /// Numbers of the `side x side` pixels of a tile that starts `before` pixels up and left of its
    /// outputs; `None` outside of the map.
    pub fn pixels(
        self,
        tile: usize,
        before: usize,
        side: usize,
    ) -> impl Iterator<Item = Option<usize>> {
        let (row, x) = (tile / self.across, tile % self.across * 4);
        let (image, y) = (row / self.down, row % self.down * 4);
        (0..side * side).map(move |i| {
            let (y, x) = (y + i / side, x + i % side);
            let inside = y >= before && x >= before;
            let (y, x) = (y.wrapping_sub(before), x.wrapping_sub(before));
            (inside && y < self.height && x < self.width)
                .then(|| (image * self.height + y) * self.width + x)
        })
    }

    /// Pointers to the channels of those pixels, or to `zeros`.
    ///
    /// # Panics
    /// If `source` or `zeros` is too short.
    pub fn rows(
        self,
        tile: usize,
        before: usize,
        side: usize,
        source: &[f32],
        zeros: &[f32],
    ) -> [*const f32; PRODUCTS] {
        let channels = zeros.len();
        let mut rows = [zeros.as_ptr(); PRODUCTS];
        for (row, pixel) in rows.iter_mut().zip(self.pixels(tile, before, side)) {
            if let Some(pixel) = pixel {
                *row = source[pixel * channels..][..channels].as_ptr();
            }
        }
        rows
    }

    /// Tiles in a block of about `len` floats, `channels` for each tile in each product: a multiple of `mr`.
    pub fn block(self, channels: usize, len: usize, mr: usize) -> usize {
        let tiles = (len / (PRODUCTS * channels)).min(self.count);
        (tiles - tiles % mr).max(mr)
    }
}

/// Floats from one product to the next, so that products start at lines of all cache sets.
pub(super) fn apart(floats: usize) -> usize {
    floats.next_multiple_of(2 * LINE) + LINE
}

/// Elements that [`suits`](super::suits) found to be floats.
pub(super) fn floats<E: Element>(values: &[E]) -> &[f32] {
    E::floats(values).unwrap_or_default()
}

/// Runs `f` for each tile of a block.
pub(super) fn each_tile(compute: &Compute, count: usize, f: impl Fn(usize) + Sync) {
    compute.threads.run(count.div_ceil(TASK), |task| {
        (task * TASK..count.min((task + 1) * TASK)).for_each(&f);
    });
}
