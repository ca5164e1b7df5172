//! Smoothing between blocks of progressive files that end before their coefficients are all there: the first nine AC
//! coefficients, where they are still zero, are estimated from the DC of the 5 x 5 blocks around. Estimates are those of
//! libjpeg-turbo (`decompress_smooth_data` in `jdcoefct.c`; T.81, K.8 is for 3 x 3 blocks).

use super::frame::{Component, Frame, Scan};
use super::progressive::Coefficients;

/// How many coefficients are kept account of: DC and the nine that are estimated.
const SAVED: usize = 10;
/// Where these stand in a block.
const PLACES: [usize; SAVED] = [0, 1, 8, 16, 9, 2, 3, 10, 17, 24];
/// Weights of the DC of 5 x 5 blocks.
type Weights = [i32; 25];

/// Estimates where no AC coefficient is known, of AC in their order and of DC last; in 256ths.
#[rustfmt::skip]
const FROM_DC: [Weights; SAVED] = [
    [-1, -1, 0, 1, 1, -3, 13, 0, -13, 3, -3, 38, 0, -38, 3, -3, 13, 0, -13, 3, -1, -1, 0, 1, 1],
    [-1, -3, -3, -3, -1, -1, 13, 38, 13, -1, 0, 0, 0, 0, 0, 1, -13, -38, -13, 1, 1, 3, 3, 3, 1],
    [0, 0, 1, 0, 0, 0, 2, 7, 2, 0, 0, -5, -14, -5, 0, 0, 2, 7, 2, 0, 0, 0, 1, 0, 0],
    [-1, 0, 0, 0, 1, 0, 9, 0, -9, 0, 0, 0, 0, 0, 0, 0, -9, 0, 9, 0, 1, 0, 0, 0, -1],
    [0, 0, 0, 0, 0, 0, 2, -5, 2, 0, 1, 7, -14, 7, 1, 0, 2, -5, 2, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 1, 0, -1, 0, 0, 2, 0, -2, 0, 0, 1, 0, -1, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 1, -3, 1, 0, 0, 0, 0, 0, 0, 0, -1, 3, -1, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 1, 0, -1, 0, 0, -3, 0, 3, 0, 0, 1, 0, -1, 0, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, -1, -2, -1, 0, 0, 0, 0, 0, 0],
    [-2, -6, -8, -6, -2, -6, 6, 42, 6, -6, -8, 42, 152, 42, -8, -6, 6, 42, 6, -6, -2, -6, -8, -6, -2],
];
/// Estimates of the first five AC coefficients where some are known.
#[rustfmt::skip]
const BESIDE_AC: [Weights; 5] = [
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -7, 50, 0, -50, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [0, 0, -7, 0, 0, 0, 0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, -50, 0, 0, 0, 0, 7, 0, 0],
    [0, 0, -1, 0, 0, 0, 0, 13, 0, 0, 0, 0, -24, 0, 0, 0, 0, 13, 0, 0, 0, 0, -1, 0, 0],
    [0, -1, 0, 1, 0, -1, 10, 0, -10, 1, 0, 0, 0, 0, 0, 1, -10, 0, 10, -1, 0, 1, 0, -1, 0],
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 13, -24, 13, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
];

/// For DC and the first AC coefficients, which bits are lacking; -1 for all.
type Lacking = [i8; SAVED];

/// What scans have brought so far.
pub(super) struct Known {
    /// By component: now, and before its last scan.
    lacking: Vec<(Lacking, Lacking)>,
    scans: usize,
    /// The last row of the last scan's blocks, in units of the frame, with data.
    good: usize,
}

impl Known {
    pub fn new(components: usize) -> Known {
        Known { lacking: vec![([-1; SAVED], [-1; SAVED]); components], scans: 0, good: 0 }
    }

    /// Takes account of a scan, the `number`th.
    pub fn begin(&mut self, scan: &Scan, number: usize) {
        self.scans = number;
        let (first, last) = scan.band;
        for &(place, ..) in &scan.components {
            let (now, before) = &mut self.lacking[place];
            for k in first.min(1)..SAVED {
                before[k] = if number > 1 { now[k] } else { 0 };
            }
            let band = first..(last + 1).min(SAVED);
            now.get_mut(band).unwrap_or_default().fill(scan.bits.1 as i8);
        }
    }

    /// Takes account of where the data of the scan ended.
    pub fn end(&mut self, good: usize) {
        self.good = good;
    }

    /// How to smooth, if that is of use and can be.
    pub fn smoothing(&self, frame: &Frame) -> Option<Smoothing> {
        let steps = frame.components.iter().map(|c| c.steps).collect::<Option<Vec<_>>>()?;
        let divides = steps.iter().all(|steps| PLACES.iter().all(|&place| steps[place] > 0));
        let begun = self.lacking.iter().all(|(now, _)| now[0] >= 0);
        let of_use = self.lacking.iter().any(|(now, _)| now[1..].iter().any(|&bit| bit != 0));
        if !(frame.progressive && divides && begun && of_use) {
            return None;
        }
        let mut lacking = self.lacking.clone();
        if self.scans <= 1 {
            lacking.iter_mut().for_each(|(_, before)| *before = [-1; SAVED]);
        }
        Some(Smoothing { lacking, good: self.good })
    }
}

/// What smoothing goes by.
pub(super) struct Smoothing {
    lacking: Vec<(Lacking, Lacking)>,
    good: usize,
}

impl Smoothing {
    /// For a component of a frame.
    pub fn of(&self, place: usize, frame: &Frame) -> Smoothed {
        let Component { sampling, blocks, steps, .. } = &frame.components[place];
        Smoothed {
            lacking: self.lacking[place],
            good: self.good,
            down: sampling.1,
            units: frame.units.1,
            blocks: *blocks,
            steps: PLACES.map(|at| i64::from(steps.map_or(1, |steps| steps[at]))),
        }
    }
}

/// Smooths a component.
pub(super) struct Smoothed {
    lacking: (Lacking, Lacking),
    good: usize,
    /// Rows of blocks in a unit, and units.
    down: usize,
    units: usize,
    /// Blocks across and down.
    blocks: (usize, usize),
    steps: [i64; SAVED],
}

impl Smoothed {
    /// The coefficients of a block, with estimates.
    pub fn block(&self, coefficients: &Coefficients, x: usize, y: usize) -> [i16; 64] {
        let mut block = coefficients.blocks[y * coefficients.across + x];
        if x >= self.blocks.0 || y >= self.blocks.1 {
            return block;
        }
        let around = self.around(coefficients, x, y);
        let known = y / self.down <= self.good;
        let lacking = if known { self.lacking.0 } else { self.lacking.1 };
        let blank = lacking[1..].iter().all(|&bit| bit == -1);
        let weights = if blank { &FROM_DC[..SAVED - 1] } else { &BESIDE_AC[..] };
        for (k, weights) in (1..).zip(weights) {
            let value = &mut block[PLACES[k]];
            if lacking[k] != 0 && *value == 0 {
                // No more than what the bits that are known leave open.
                let most = if lacking[k] > 0 { (1 << lacking[k]) - 1 } else { i64::MAX };
                *value = self.estimate(&around, weights, k, most);
            }
        }
        if blank {
            block[0] = self.estimate(&around, &FROM_DC[SAVED - 1], 0, i64::MAX);
        }
        block
    }

    /// The weighted sum, rounded, as a multiple of a coefficient's step.
    fn estimate(&self, around: &[i32; 25], weights: &Weights, k: usize, most: i64) -> i16 {
        let sum: i32 = around.iter().zip(weights).map(|(dc, weight)| dc * weight).sum();
        let sum = i64::from(sum) * self.steps[0];
        let size = ((self.steps[k] << 7) + sum.abs()) / (self.steps[k] << 8);
        (size.min(most) * sum.signum()) as i16
    }

    /// DC of the 5 x 5 blocks around, those at the edges for those beyond.
    fn around(&self, coefficients: &Coefficients, x: usize, y: usize) -> [i32; 25] {
        // Rows are counted as libjpeg-turbo does: by those of the unit that are in the image.
        let unit = y / self.down;
        let inside = match unit + 1 == self.units {
            true => (self.blocks.1 - 1) % self.down + 1,
            false => self.down,
        };
        let (row, rows) = (unit * inside + y % self.down, inside * self.units);
        let up = if row > 0 { y - 1 } else { y };
        let next = if row + 1 < rows { y + 1 } else { y };
        let rows = [
            if row > 1 { y - 2 } else { up },
            up,
            y,
            next,
            if row + 2 < rows { y + 2 } else { next },
        ];
        let last = self.blocks.0 - 1;
        let columns = [x.saturating_sub(2), x.saturating_sub(1), x, x + 1, x + 2];
        let mut dc = [0; 25];
        for (dc, y) in dc.as_chunks_mut::<5>().0.iter_mut().zip(rows) {
            for (dc, x) in dc.iter_mut().zip(columns) {
                *dc = i32::from(coefficients.blocks[y * coefficients.across + x.min(last)][0]);
            }
        }
        dc
    }
}
