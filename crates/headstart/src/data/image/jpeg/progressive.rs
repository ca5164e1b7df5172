//! Scans of progressive frames (ITU-T T.81, annex G).

use super::Fault;
use super::frame::{Frame, Scan};
use super::huffman::Table;
use super::scan::Decode;
use super::source::Source;
use super::tables::{Tables, ZIGZAG};

/// Coefficients of a component: its blocks in rows, each of 64 in row-major order.
pub(super) struct Coefficients {
    /// Blocks in a row.
    pub across: usize,
    pub blocks: Vec<[i16; 64]>,
}

impl Coefficients {
    /// None known yet, for each component of a frame.
    pub fn of(frame: &Frame) -> Vec<Coefficients> {
        let of = |(across, down)| Coefficients { across, blocks: vec![[0; 64]; across * down] };
        frame.components.iter().map(|c| of(c.padded)).collect()
    }
}

/// Reads a progressive scan into coefficients.
pub(super) struct Progressive<'a> {
    coefficients: &'a mut [Coefficients],
    /// Place in the frame, table if the scan needs one, and last DC of each component.
    parts: Vec<(usize, Option<Table>, i32)>,
    band: (usize, usize),
    /// Whether these bits follow earlier ones, and what the last of them is worth.
    refines: bool,
    bit: u8,
    /// How many more blocks have no new coefficients in the band.
    empty: u32,
}

impl<'a> Progressive<'a> {
    pub fn new(
        scan: &Scan,
        tables: &Tables,
        coefficients: &'a mut [Coefficients],
    ) -> Result<Progressive<'a>, Fault> {
        let (refines, first) = (scan.bits.0 > 0, scan.band.0);
        let part = |&(place, dc, ac): &(usize, usize, usize)| {
            let table = match (first, refines) {
                (0, true) => None,
                (0, false) => Some(tables.dc(dc)?),
                _ => Some(tables.ac(ac)?),
            };
            Ok((place, table, 0))
        };
        let parts = scan.components.iter().map(part).collect::<Result<_, Fault>>()?;
        let (band, bit) = (scan.band, scan.bits.1);
        Ok(Progressive { coefficients, parts, band, refines, bit, empty: 0 })
    }
}

impl Decode for Progressive<'_> {
    fn restart(&mut self) {
        self.parts.iter_mut().for_each(|part| part.2 = 0);
        self.empty = 0;
    }

    fn block(
        &mut self,
        source: &mut Source<'_>,
        part: usize,
        x: usize,
        y: usize,
    ) -> Result<(), Fault> {
        let (place, table, last) = &mut self.parts[part];
        let stored = &mut self.coefficients[*place];
        let block = &mut stored.blocks[y * stored.across + x];
        match (table, self.band.0, self.refines) {
            (None, ..) => {
                source.fill()?;
                block[0] |= (source.take(1) << self.bit) as i16;
                Ok(())
            }
            (Some(table), 0, _) => {
                source.fill()?;
                let size = table.decode(source);
                let difference = source.take_signed(u32::from(size));
                let sum = last.checked_add(difference);
                *last = sum.ok_or(Fault::Bad("coefficients without bounds"))?;
                block[0] = (*last << self.bit) as i16;
                Ok(())
            }
            (Some(table), _, false) => {
                first_bits(source, table, self.band, self.bit, &mut self.empty, block)
            }
            (Some(table), _, true) => {
                more_bits(source, table, self.band, self.bit, &mut self.empty, block)
            }
        }
    }
}

/// Reads how many blocks are empty from here on, of which 2^size at least.
fn run_of_empty(source: &mut Source<'_>, size: u32) -> u32 {
    (1 << size) + source.take(size) as u32
}

/// The first bits of AC coefficients (G.1.2.2).
fn first_bits(
    source: &mut Source<'_>,
    table: &Table,
    (first, last): (usize, usize),
    bit: u8,
    empty: &mut u32,
    block: &mut [i16; 64],
) -> Result<(), Fault> {
    if *empty > 0 {
        *empty -= 1;
        return Ok(());
    }
    let mut k = first;
    while k <= last {
        source.fill()?;
        let symbol = table.decode(source);
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size > 0 {
            k += run;
            block[usize::from(ZIGZAG[k])] = (source.take_signed(size) << bit) as i16;
            k += 1;
        } else if run == 15 {
            k += 16;
        } else {
            *empty = run_of_empty(source, run as u32) - 1;
            break;
        }
    }
    Ok(())
}

/// One more bit of AC coefficients (G.1.2.3).
fn more_bits(
    source: &mut Source<'_>,
    table: &Table,
    (first, last): (usize, usize),
    bit: u8,
    empty: &mut u32,
    block: &mut [i16; 64],
) -> Result<(), Fault> {
    let one = 1_i16 << bit;
    let mut k = first;
    if *empty == 0 {
        while k <= last {
            source.fill()?;
            let symbol = table.decode(source);
            let (run, size) = (u32::from(symbol >> 4), symbol & 15);
            let mut value = 0;
            if size > 0 {
                value = if source.take(1) == 1 { one } else { -one };
            } else if run < 15 {
                *empty = run_of_empty(source, run);
                break;
            }
            // Passes over this many zeros, and gives every other coefficient on the way its bit.
            k = refine(source, k, last, Some(run), one, block)?;
            if value != 0 {
                block[usize::from(ZIGZAG[k])] = value;
            }
            k += 1;
        }
    }
    if *empty > 0 {
        refine(source, k, last, None, one, block)?;
        *empty -= 1;
    }
    Ok(())
}

/// Gives coefficients other than zero their next bit, from the `k`th to the `last`. Stops at the zero after `zeros` of
/// them, and returns where.
fn refine(
    source: &mut Source<'_>,
    mut k: usize,
    last: usize,
    mut zeros: Option<u32>,
    one: i16,
    block: &mut [i16; 64],
) -> Result<usize, Fault> {
    while k <= last {
        let value = &mut block[usize::from(ZIGZAG[k])];
        if *value != 0 {
            source.fill()?;
            if source.take(1) == 1 && *value & one == 0 {
                *value = value.wrapping_add(if *value >= 0 { one } else { -one });
            }
        } else if let Some(zeros) = &mut zeros {
            if *zeros == 0 {
                break;
            }
            *zeros -= 1;
        }
        k += 1;
    }
    Ok(k)
}
