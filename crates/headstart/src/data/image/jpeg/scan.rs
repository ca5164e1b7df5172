//! Walking through the entropy-coded units of a scan.

use super::Fault;
use super::frame::{Frame, Scan};
use super::huffman::Table;
use super::source::Source;
use super::tables::{Tables, ZIGZAG};

/// Most blocks in a unit of several components (T.81, B.2.3).
const MAX_BLOCKS: usize = 10;

/// What makes coefficients of bits.
pub(super) trait Decode {
    /// Starts again without what was learned of earlier blocks.
    fn restart(&mut self);

    /// Reads a block: that of component `part` of the scan, in column `x`, row `y`.
    fn block(
        &mut self,
        source: &mut Source<'_>,
        part: usize,
        x: usize,
        y: usize,
    ) -> Result<(), Fault>;
}

/// Where a scan stands.
pub(super) struct Walk {
    /// Units across and down.
    pub units: (usize, usize),
    /// Rows of these units in one of the frame.
    pub down: usize,
    /// Blocks of each component in a unit, across and down.
    parts: Vec<(usize, usize)>,
    /// Units between restart markers, and how many are left until the next.
    interval: usize,
    left: usize,
    /// Number of the next restart marker.
    number: u8,
    /// Whether there is no more data up to the next restart marker.
    dry: bool,
}

impl Walk {
    /// The way through a scan.
    pub fn new(scan: &Scan, frame: &Frame, interval: usize) -> Result<Walk, Fault> {
        let components = scan.components.iter().map(|c| &frame.components[c.0]);
        let parts: Vec<(usize, usize)> = components.map(|c| c.sampling).collect();
        let (units, parts, down) = match scan.components[..] {
            [(alone, ..)] => (frame.components[alone].blocks, vec![(1, 1)], parts[0].1),
            _ => (frame.units, parts, 1),
        };
        if parts.len() > 1 && parts.iter().map(|(h, v)| h * v).sum::<usize>() > MAX_BLOCKS {
            return Err(Fault::Bad("too many blocks in a unit"));
        }
        Ok(Walk { units, down, parts, interval, left: interval, number: 0, dry: false })
    }

    /// How often blocks are visited.
    pub fn visits(&self) -> usize {
        let unit: usize = self.parts.iter().map(|(h, v)| h * v).sum();
        self.units.0 * self.units.1 * unit
    }

    /// Reads row `y` of units. Blocks whose data are missing stay as they are. True if there were data for a part of it.
    pub fn row(
        &mut self,
        source: &mut Source<'_>,
        decode: &mut impl Decode,
        y: usize,
    ) -> Result<bool, Fault> {
        let mut good = false;
        for x in 0..self.units.0 {
            good |= !self.dry;
            if self.interval > 0 {
                if self.left == 0 {
                    source.drop_bits();
                    source.restart(self.number)?;
                    decode.restart();
                    self.number = (self.number + 1) & 7;
                    self.left = self.interval;
                    // With a marker right here the interval is empty.
                    self.dry &= source.unread.is_some();
                }
                self.left -= 1;
            }
            if self.dry {
                continue;
            }
            for (part, &(across, down)) in self.parts.iter().enumerate() {
                for v in 0..down {
                    for h in 0..across {
                        decode.block(source, part, x * across + h, y * down + v)?;
                    }
                }
            }
            self.dry = source.overdrawn();
        }
        Ok(good)
    }
}

/// What reading sequential scans goes by: tables for DC and AC of each component, and its last DC.
pub(super) struct Sequential(Vec<(Table, Table, i32)>);

impl Sequential {
    pub fn new(scan: &Scan, tables: &Tables) -> Result<Sequential, Fault> {
        let part = |&(_, dc, ac): &(usize, usize, usize)| Ok((tables.dc(dc)?, tables.ac(ac)?, 0));
        Ok(Sequential(scan.components.iter().map(part).collect::<Result<_, Fault>>()?))
    }

    /// With where coefficients go: `put` takes the component in the scan, column and row of a block, the place in the
    /// block and the coefficient there. Zeros are left out.
    pub fn putting<F: FnMut([usize; 3], usize, i16)>(&mut self, put: F) -> Putting<'_, F> {
        Putting { parts: &mut self.0, put }
    }
}

/// Reads sequential scans.
pub(super) struct Putting<'a, F> {
    parts: &'a mut [(Table, Table, i32)],
    put: F,
}

impl<F: FnMut([usize; 3], usize, i16)> Decode for Putting<'_, F> {
    fn restart(&mut self) {
        self.parts.iter_mut().for_each(|part| part.2 = 0);
    }

    #[inline(always)]
    fn block(
        &mut self,
        source: &mut Source<'_>,
        part: usize,
        x: usize,
        y: usize,
    ) -> Result<(), Fault> {
        let (dc, ac, last) = &mut self.parts[part];
        let block = [part, x, y];
        source.fill()?;
        let size = dc.decode(source);
        let difference = source.take_signed(u32::from(size));
        *last = last.checked_add(difference).ok_or(Fault::Bad("coefficients without bounds"))?;
        (self.put)(block, 0, *last as i16);
        let mut k = 1;
        while k < 64 {
            source.fill()?;
            let symbol = ac.decode(source);
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size > 0 {
                k += run;
                (self.put)(block, usize::from(ZIGZAG[k]), source.take_signed(size) as i16);
                k += 1;
            } else if run == 15 {
                k += 16;
            } else {
                break;
            }
        }
        Ok(())
    }
}
