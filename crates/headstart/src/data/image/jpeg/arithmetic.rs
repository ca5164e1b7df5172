//! Arithmetic coding (ITU-T T.81, annex D, and F.1.4, F.2.4 and G.1.3): as libjpeg-turbo decodes it (`jdarith.c`), damaged
//! data included.

use super::Fault;
use super::frame::Scan;
use super::progressive::Coefficients;
use super::scan::Decode;
use super::source::Source;
use super::tables::{Conditioning, Tables, ZIGZAG};

/// Table D.3: for each state the probability of the less probable symbol, the next states after that and after the more
/// probable one, and whether they change places then. The last is one half for ever.
#[rustfmt::skip]
const STATES: [(u16, u8, u8, u8); 114] = [
    (0x5a1d, 1, 1, 1), (0x2586, 14, 2, 0), (0x1114, 16, 3, 0), (0x080b, 18, 4, 0),
    (0x03d8, 20, 5, 0), (0x01da, 23, 6, 0), (0x00e5, 25, 7, 0), (0x006f, 28, 8, 0),
    (0x0036, 30, 9, 0), (0x001a, 33, 10, 0), (0x000d, 35, 11, 0), (0x0006, 9, 12, 0),
    (0x0003, 10, 13, 0), (0x0001, 12, 13, 0), (0x5a7f, 15, 15, 1), (0x3f25, 36, 16, 0),
    (0x2cf2, 38, 17, 0), (0x207c, 39, 18, 0), (0x17b9, 40, 19, 0), (0x1182, 42, 20, 0),
    (0x0cef, 43, 21, 0), (0x09a1, 45, 22, 0), (0x072f, 46, 23, 0), (0x055c, 48, 24, 0),
    (0x0406, 49, 25, 0), (0x0303, 51, 26, 0), (0x0240, 52, 27, 0), (0x01b1, 54, 28, 0),
    (0x0144, 56, 29, 0), (0x00f5, 57, 30, 0), (0x00b7, 59, 31, 0), (0x008a, 60, 32, 0),
    (0x0068, 62, 33, 0), (0x004e, 63, 34, 0), (0x003b, 32, 35, 0), (0x002c, 33, 9, 0),
    (0x5ae1, 37, 37, 1), (0x484c, 64, 38, 0), (0x3a0d, 65, 39, 0), (0x2ef1, 67, 40, 0),
    (0x261f, 68, 41, 0), (0x1f33, 69, 42, 0), (0x19a8, 70, 43, 0), (0x1518, 72, 44, 0),
    (0x1177, 73, 45, 0), (0x0e74, 74, 46, 0), (0x0bfb, 75, 47, 0), (0x09f8, 77, 48, 0),
    (0x0861, 78, 49, 0), (0x0706, 79, 50, 0), (0x05cd, 48, 51, 0), (0x04de, 50, 52, 0),
    (0x040f, 50, 53, 0), (0x0363, 51, 54, 0), (0x02d4, 52, 55, 0), (0x025c, 53, 56, 0),
    (0x01f8, 54, 57, 0), (0x01a4, 55, 58, 0), (0x0160, 56, 59, 0), (0x0125, 57, 60, 0),
    (0x00f6, 58, 61, 0), (0x00cb, 59, 62, 0), (0x00ab, 61, 63, 0), (0x008f, 61, 32, 0),
    (0x5b12, 65, 65, 1), (0x4d04, 80, 66, 0), (0x412c, 81, 67, 0), (0x37d8, 82, 68, 0),
    (0x2fe8, 83, 69, 0), (0x293c, 84, 70, 0), (0x2379, 86, 71, 0), (0x1edf, 87, 72, 0),
    (0x1aa9, 87, 73, 0), (0x174e, 72, 74, 0), (0x1424, 72, 75, 0), (0x119c, 74, 76, 0),
    (0x0f6b, 74, 77, 0), (0x0d51, 75, 78, 0), (0x0bb6, 77, 79, 0), (0x0a40, 77, 48, 0),
    (0x5832, 80, 81, 1), (0x4d1c, 88, 82, 0), (0x438e, 89, 83, 0), (0x3bdd, 90, 84, 0),
    (0x34ee, 91, 85, 0), (0x2eae, 92, 86, 0), (0x299a, 93, 87, 0), (0x2516, 86, 71, 0),
    (0x5570, 88, 89, 1), (0x4ca9, 95, 90, 0), (0x44d9, 96, 91, 0), (0x3e22, 97, 92, 0),
    (0x3824, 99, 93, 0), (0x32b4, 99, 94, 0), (0x2e17, 93, 86, 0), (0x56a8, 95, 96, 1),
    (0x4f46, 101, 97, 0), (0x47e5, 102, 98, 0), (0x41cf, 103, 99, 0), (0x3c3d, 104, 100, 0),
    (0x375e, 99, 93, 0), (0x5231, 105, 102, 0), (0x4c0f, 106, 103, 0), (0x4639, 107, 104, 0),
    (0x415e, 103, 99, 0), (0x5627, 105, 106, 1), (0x50e7, 108, 107, 0), (0x4b85, 109, 103, 0),
    (0x5597, 110, 109, 0), (0x504f, 111, 107, 0), (0x5a10, 110, 111, 1), (0x5522, 112, 109, 0),
    (0x59eb, 112, 111, 1), (0x5a1d, 113, 113, 0),
];
/// The state of decisions whose symbols are equally probable.
const EVEN: u8 = 113;
/// A magnitude that no coefficient has.
const TOO_LARGE: i32 = 0x8000;

/// Decisions of the statistical model: their states, and in the highest bit their more probable symbols.
type Bins<const N: usize> = [u8; N];

/// The decoder of one scan.
pub(super) struct Coder {
    code: i64,
    interval: i64,
    /// Bits of `code` still to come, less what is missing at the start.
    shift: i32,
    /// After a code that cannot be, no more blocks are decoded up to the next restart.
    failed: bool,
    even: u8,
    dc: Vec<Bins<64>>,
    ac: Vec<Bins<256>>,
    conditioning: Conditioning,
    parts: Vec<Part>,
}

/// A component of the scan.
struct Part {
    /// Place in the frame.
    place: usize,
    /// Numbers of its models.
    dc: usize,
    ac: usize,
    last: i32,
    context: usize,
}

impl Coder {
    pub fn new(scan: &Scan, tables: &Tables) -> Coder {
        // A header has four bits for each number.
        let part = |&(place, dc, ac): &(usize, usize, usize)| Part {
            place,
            dc: dc & 15,
            ac: ac & 15,
            last: 0,
            context: 0,
        };
        let mut coder = Coder {
            code: 0,
            interval: 0,
            shift: 0,
            failed: false,
            even: EVEN,
            dc: vec![[0; 64]; 16],
            ac: vec![[0; 256]; 16],
            conditioning: tables.conditioning.clone(),
            parts: scan.components.iter().map(part).collect(),
        };
        coder.restart();
        coder
    }

    fn restart(&mut self) {
        (self.code, self.interval, self.shift, self.failed) = (0, 0, -16, false);
        self.dc.iter_mut().for_each(|bins| bins.fill(0));
        self.ac.iter_mut().for_each(|bins| bins.fill(0));
        self.parts.iter_mut().for_each(|part| (part.last, part.context) = (0, 0));
    }

    /// Decides one decision (D.2). Behind a marker there are only zeros.
    fn decide(&mut self, source: &mut Source<'_>, bin: Bin) -> Result<bool, Fault> {
        while self.interval < 0x8000 {
            self.shift -= 1;
            if self.shift < 0 {
                self.code = self.code << 8 | i64::from(source.coded_byte()?);
                self.shift += 8;
                if self.shift < 0 {
                    self.shift += 1;
                    if self.shift == 0 {
                        self.interval = 0x8000;
                    }
                }
            }
            self.interval <<= 1;
        }
        let state = match bin {
            Bin::Dc(model, place) => &mut self.dc[model][place],
            Bin::Ac(model, place) => &mut self.ac[model][place],
            Bin::Even => &mut self.even,
        };
        let usual = *state & 0x80;
        let (size, less, more, switch) = STATES[usize::from(*state & 0x7f)];
        let size = i64::from(size);
        self.interval -= size;
        let split = self.interval << self.shift;
        let (upper, small) = (self.code >= split, self.interval < size);
        if upper {
            self.code -= split;
            self.interval = size;
        } else if self.interval >= 0x8000 {
            return Ok(usual != 0);
        }
        // Where the interval of the more probable symbol is the smaller one, the two change places.
        if upper == small {
            *state = usual ^ more;
            Ok(usual != 0)
        } else {
            *state = usual ^ (switch << 7 | less);
            Ok(usual == 0)
        }
    }

    /// The next difference of DC of a component, added to its last one. `None` after a code that cannot be.
    fn dc(&mut self, source: &mut Source<'_>, part: usize) -> Result<Option<i32>, Fault> {
        let Part { dc: model, context, .. } = self.parts[part];
        if !self.decide(source, Bin::Dc(model, context))? {
            self.parts[part].context = 0;
            return Ok(Some(self.parts[part].last));
        }
        let negative = self.decide(source, Bin::Dc(model, context + 1))?;
        let mut place = context + 2 + usize::from(negative);
        let mut magnitude = i32::from(self.decide(source, Bin::Dc(model, place))?);
        if magnitude != 0 {
            place = 20;
            while self.decide(source, Bin::Dc(model, place))? {
                magnitude <<= 1;
                if magnitude == TOO_LARGE {
                    self.failed = true;
                    return Ok(None);
                }
                place += 1;
            }
        }
        let (low, high) = self.conditioning.dc[model];
        let context = match magnitude {
            m if m < (1 << low) >> 1 => 0,
            m if m > (1 << high) >> 1 => 12,
            _ => 4,
        };
        self.parts[part].context =
            if context > 0 { context + 4 * usize::from(negative) } else { 0 };
        let value = self.low_bits(source, magnitude, Bin::Dc(model, place + 14))? + 1;
        let last = &mut self.parts[part].last;
        *last = (*last + if negative { -value } else { value }) & 0xffff;
        Ok(Some(*last))
    }

    /// A magnitude with the bits below its first one, all decided by one bin.
    fn low_bits(&mut self, source: &mut Source<'_>, first: i32, bin: Bin) -> Result<i32, Fault> {
        let (mut value, mut bit) = (first, first >> 1);
        while bit > 0 {
            if self.decide(source, bin)? {
                value |= bit;
            }
            bit >>= 1;
        }
        Ok(value)
    }

    /// The AC coefficients of a block from `first` to `last`: `put` takes each by its place in the file.
    fn ac(
        &mut self,
        source: &mut Source<'_>,
        part: usize,
        (first, last): (usize, usize),
        mut put: impl FnMut(usize, i32),
    ) -> Result<(), Fault> {
        let model = self.parts[part].ac;
        let mut k = first;
        while k <= last {
            let mut place = 3 * (k - 1);
            if self.decide(source, Bin::Ac(model, place))? {
                break;
            }
            while !self.decide(source, Bin::Ac(model, place + 1))? {
                place += 3;
                k += 1;
                if k > last {
                    self.failed = true;
                    return Ok(());
                }
            }
            let negative = self.decide(source, Bin::Even)?;
            place += 2;
            let mut magnitude = i32::from(self.decide(source, Bin::Ac(model, place))?);
            if magnitude != 0 && self.decide(source, Bin::Ac(model, place))? {
                magnitude <<= 1;
                place = if k <= usize::from(self.conditioning.ac[model]) { 189 } else { 217 };
                while self.decide(source, Bin::Ac(model, place))? {
                    magnitude <<= 1;
                    if magnitude == TOO_LARGE {
                        self.failed = true;
                        return Ok(());
                    }
                    place += 1;
                }
            }
            let value = self.low_bits(source, magnitude, Bin::Ac(model, place + 14))? + 1;
            put(k, if negative { -value } else { value });
            k += 1;
        }
        Ok(())
    }

    /// One more bit of the AC coefficients of a block (G.1.3.3).
    fn refine(
        &mut self,
        source: &mut Source<'_>,
        part: usize,
        (first, last): (usize, usize),
        one: i16,
        block: &mut [i16; 64],
    ) -> Result<(), Fault> {
        let model = self.parts[part].ac;
        let known = (1..=last).rev().find(|&k| block[usize::from(ZIGZAG[k])] != 0).unwrap_or(0);
        let mut k = first;
        while k <= last {
            let mut place = 3 * (k - 1);
            if k > known && self.decide(source, Bin::Ac(model, place))? {
                break;
            }
            loop {
                let value = &mut block[usize::from(ZIGZAG[k])];
                if *value != 0 {
                    if self.decide(source, Bin::Ac(model, place + 2))? {
                        *value = value.wrapping_add(if *value < 0 { -one } else { one });
                    }
                    break;
                }
                if self.decide(source, Bin::Ac(model, place + 1))? {
                    *value = if self.decide(source, Bin::Even)? { -one } else { one };
                    break;
                }
                place += 3;
                k += 1;
                if k > last {
                    self.failed = true;
                    return Ok(());
                }
            }
            k += 1;
        }
        Ok(())
    }

    /// Reads sequential scans; `put` as in `Sequential::putting`.
    pub fn putting<F: FnMut([usize; 3], usize, i16)>(&mut self, put: F) -> Putting<'_, F> {
        Putting { coder: self, put }
    }

    /// Reads progressive scans into coefficients.
    pub fn storing<'a>(
        &'a mut self,
        scan: &Scan,
        coefficients: &'a mut [Coefficients],
    ) -> Storing<'a> {
        let (band, refines, bit) = (scan.band, scan.bits.0 > 0, scan.bits.1);
        Storing { coder: self, coefficients, band, refines, bit }
    }
}

/// Where the state of a decision is: in the model of this number, at this place.
#[derive(Clone, Copy)]
enum Bin {
    Dc(usize, usize),
    Ac(usize, usize),
    Even,
}

/// Reads sequential scans.
pub(super) struct Putting<'a, F> {
    coder: &'a mut Coder,
    put: F,
}

impl<F: FnMut([usize; 3], usize, i16)> Decode for Putting<'_, F> {
    fn restart(&mut self) {
        self.coder.restart();
    }

    fn block(
        &mut self,
        source: &mut Source<'_>,
        part: usize,
        x: usize,
        y: usize,
    ) -> Result<(), Fault> {
        let Putting { coder, put } = self;
        if coder.failed {
            return Ok(());
        }
        let block = [part, x, y];
        if let Some(dc) = coder.dc(source, part)? {
            put(block, 0, dc as i16);
            coder.ac(source, part, (1, 63), |k, value| {
                put(block, usize::from(ZIGZAG[k]), value as i16);
            })?;
        }
        Ok(())
    }
}

/// Reads progressive scans.
pub(super) struct Storing<'a> {
    coder: &'a mut Coder,
    coefficients: &'a mut [Coefficients],
    band: (usize, usize),
    refines: bool,
    bit: u8,
}

impl Decode for Storing<'_> {
    fn restart(&mut self) {
        self.coder.restart();
    }

    fn block(
        &mut self,
        source: &mut Source<'_>,
        part: usize,
        x: usize,
        y: usize,
    ) -> Result<(), Fault> {
        let Storing { coder, coefficients, band, refines, bit } = self;
        let stored = &mut coefficients[coder.parts[part].place];
        let block = &mut stored.blocks[y * stored.across + x];
        let one = 1_i16 << *bit;
        match (band.0, refines) {
            // These bits do not depend on earlier ones.
            (0, true) => {
                if coder.decide(source, Bin::Even)? {
                    block[0] |= one;
                }
                Ok(())
            }
            _ if coder.failed => Ok(()),
            (0, false) => {
                if let Some(dc) = coder.dc(source, part)? {
                    block[0] = (dc << *bit) as i16;
                }
                Ok(())
            }
            (_, false) => coder.ac(source, part, *band, |k, value| {
                block[usize::from(ZIGZAG[k])] = (value << *bit) as i16;
            }),
            (_, true) => coder.refine(source, part, *band, one, block),
        }
    }
}
