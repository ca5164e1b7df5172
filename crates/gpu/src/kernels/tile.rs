//! Tiles of matrix products: how many sums a thread has in registers, and how many threads share what they fetch.

use crate::template::Setting;

/// Terms of the sums that are fetched at once.
pub const DEPTH: u32 = 16;

/// A workgroup of `across` x `down` threads, each with `rows` rows and `quads` times four columns of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    rows: u32,
    quads: u32,
    across: u32,
    down: u32,
}

/// From few sums a thread to many.
pub const TILES: [Tile; 5] = [
    Tile { rows: 4, quads: 1, across: 8, down: 8 },
    Tile { rows: 4, quads: 1, across: 16, down: 16 },
    Tile { rows: 8, quads: 1, across: 16, down: 16 },
    Tile { rows: 4, quads: 2, across: 16, down: 16 },
    Tile { rows: 8, quads: 2, across: 8, down: 16 },
];
/// The first of these are taken by size where no clock chose.
const USUAL: usize = 3;

impl Tile {
    /// Rows of the product.
    pub fn height(self) -> u32 {
        self.rows * self.down
    }

    /// Columns of the product.
    pub fn width(self) -> u32 {
        4 * self.quads * self.across
    }

    /// Rows and columns of a thread.
    pub fn sums(self) -> [u32; 2] {
        [self.rows, 4 * self.quads]
    }

    /// Tiles of a product, down and across.
    pub fn grid(self, rows: u32, columns: u32) -> [u32; 2] {
        [rows.div_ceil(self.height()), columns.div_ceil(self.width())]
    }

    /// Settings of kernels that fetch rows in quarters of the sums' terms; `TM` rows a thread.
    pub fn by_terms(self) -> Vec<Setting> {
        let mut settings = self.settings(self.rows);
        settings.push(("LX", self.height() * (DEPTH / 4) / (self.across * self.down)));
        settings
    }

    /// Settings of kernels that fetch rows by fours; `TM` fours a thread.
    pub fn by_rows(self) -> Vec<Setting> {
        let mut settings = self.settings(self.rows / 4);
        settings.push(("LX", DEPTH * (self.height() / 4) / (self.across * self.down)));
        settings
    }

    fn settings(self, rows: u32) -> Vec<Setting> {
        let fetched = DEPTH * (self.width() / 4) / (self.across * self.down);
        let (tx, ty) = (("TX", self.across), ("TY", self.down));
        vec![("TM", rows), ("TN", self.quads), tx, ty, ("LW", fetched)]
    }

    /// Its number in [`TILES`] by the settings of a kernel.
    pub fn of(settings: &[Setting]) -> Option<usize> {
        let has = |tile: &Tile| {
            let is = |own: Vec<Setting>| own.iter().all(|one| settings.contains(one));
            is(tile.by_terms()) || is(tile.by_rows())
        };
        TILES.iter().position(has)
    }

    /// The largest tile of which a product of that size still has enough to fill a device.
    pub fn choose(rows: u32, columns: u32, parts: u32) -> Tile {
        let enough = |tile: &&Tile, many: u32| {
            let [down, across] = tile.grid(rows, columns);
            columns * 2 > tile.width() && down * across * parts >= many
        };
        let usual = &TILES[..USUAL];
        let large = usual.iter().skip(2).find(|tile| enough(tile, 256));
        let medium = usual.iter().skip(1).find(|tile| enough(tile, 32));
        *large.or(medium).unwrap_or(&TILES[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_fetches_the_same() {
        for tile in TILES {
            let (threads, get) = (tile.across * tile.down, |s: Vec<Setting>, name| {
                s.iter().find(|s| s.0 == name).map(|s| s.1).unwrap()
            });
            assert_eq!(get(tile.by_terms(), "LX") * threads, tile.height() * DEPTH / 4);
            assert_eq!(get(tile.by_rows(), "LX") * threads, tile.height() * DEPTH / 4);
            assert_eq!(get(tile.by_terms(), "LW") * threads, tile.width() * DEPTH / 4);
            // WebGPU promises 16 KiB of shared memory.
            let floats = tile.height() * (DEPTH + 4) + tile.width() * DEPTH;
            assert!(4 * floats <= 16 << 10, "{tile:?}");
        }
    }

    #[test]
    fn narrow_products_have_small_tiles() {
        assert_eq!(Tile::choose(1 << 20, 16, 1), TILES[0]);
        assert_eq!(Tile::choose(1 << 20, 64, 1), TILES[2]);
        assert_eq!(Tile::choose(64, 2048, 1), TILES[1]);
        assert_eq!(Tile::choose(20, 10, 1), TILES[0]);
    }
}
