//! Tables and settings that markers define for what follows them.

use super::Fault;
use super::huffman::{Codes, Table, standard};

/// Where each coefficient of a file stands in its block. Runs that lead out of it end at its last.
pub(super) const ZIGZAG: [u8; 80] = {
    let mut order = [63; 80];
    let (mut x, mut y, mut i) = (0_u8, 0_u8, 0);
    while i < 64 {
        order[i] = 8 * y + x;
        // Diagonals go up and to the right where x + y is even, else down and to the left.
        if (x + y) % 2 == 0 {
            if x == 7 {
                y += 1;
            } else {
                x += 1;
                y = y.saturating_sub(1);
            }
        } else if y == 7 {
            x += 1;
        } else {
            y += 1;
            x = x.saturating_sub(1);
        }
        i += 1;
    }
    order
};

/// What the models of arithmetic coding go by (F.1.4.4): for DC the bounds of small differences, for AC the last of the
/// low coefficients.
#[derive(Clone)]
pub(super) struct Conditioning {
    pub dc: [(u8, u8); 16],
    pub ac: [u8; 16],
}

impl Default for Conditioning {
    fn default() -> Conditioning {
        Conditioning { dc: [(0, 1); 16], ac: [5; 16] }
    }
}

/// What has been defined so far.
#[derive(Default)]
pub(super) struct Tables {
    /// Quantisation, in row-major order.
    steps: [Option<[u16; 64]>; 4],
    dc: [Option<Codes>; 4],
    ac: [Option<Codes>; 4],
    pub conditioning: Conditioning,
    /// Units between restart markers; 0 for none.
    pub interval: usize,
    /// Whether there is a JFIF marker.
    pub jfif: bool,
    /// The colour transform of an Adobe marker.
    pub adobe: Option<u8>,
}

impl Tables {
    /// Reads a DQT segment's body.
    pub fn quantisation(&mut self, mut body: &[u8]) -> Result<(), Fault> {
        while let Some((&kind, rest)) = body.split_first() {
            let table = self.steps.get_mut(usize::from(kind & 15));
            let table = table.ok_or(Fault::Bad("a bad quantisation table"))?;
            let bytes = if kind >> 4 == 0 { 1 } else { 2 };
            let (values, rest) = rest.split_at_checked(64 * bytes).ok_or(Fault::End)?;
            let mut steps = [0; 64];
            for (value, &place) in values.chunks_exact(bytes).zip(&ZIGZAG) {
                let number = value.iter().fold(0, |n, &byte| n << 8 | u16::from(byte));
                steps[usize::from(place)] = number;
            }
            *table = Some(steps);
            body = rest;
        }
        Ok(())
    }

    /// Reads a DAC segment's body.
    pub fn conditioning(&mut self, body: &[u8]) -> Result<(), Fault> {
        let (pairs, rest) = body.as_chunks::<2>();
        for &[number, value] in pairs {
            let (low, high) = (value & 15, value >> 4);
            match usize::from(number) {
                model @ 0..16 if low <= high => self.conditioning.dc[model] = (low, high),
                model @ 16..32 => self.conditioning.ac[model - 16] = value,
                _ => return Err(Fault::Bad("bad conditioning of arithmetic codes")),
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(Fault::End) }
    }

    /// Reads a DHT segment's body.
    pub fn huffman(&mut self, mut body: &[u8]) -> Result<(), Fault> {
        let bad = Fault::Bad("a bad Huffman table");
        while let Some((&kind, rest)) = body.split_first() {
            let (&counts, rest) = rest.split_first_chunk::<16>().ok_or(Fault::End)?;
            let count: usize = counts.iter().map(|&n| usize::from(n)).sum();
            let mut symbols = [0; 256];
            let listed = symbols.get_mut(..count).ok_or(bad)?;
            let (given, rest) = rest.split_at_checked(count).ok_or(Fault::End)?;
            listed.copy_from_slice(given);
            let kinds = if kind & 0x10 == 0 { &mut self.dc } else { &mut self.ac };
            *kinds.get_mut(usize::from(kind & !0x10)).ok_or(bad)? = Some(Codes { counts, symbols });
            body = rest;
        }
        Ok(())
    }

    /// Reads a DRI segment's body of this length.
    pub fn restart_interval(&mut self, body: &[u8], length: usize) -> Result<(), Fault> {
        if length != 2 {
            return Err(Fault::Bad("a bad restart interval"));
        }
        let &[high, low] = body else { return Err(Fault::End) };
        self.interval = usize::from(u16::from_be_bytes([high, low]));
        Ok(())
    }

    /// Takes from an application segment what tells the colours.
    pub fn application(&mut self, marker: u8, body: &[u8]) {
        match (marker, body) {
            (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) if body.len() >= 14 => self.jfif = true,
            (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                self.adobe = Some(*transform);
            }
            _ => {}
        }
    }

    /// A quantisation table.
    pub fn steps(&self, number: usize) -> Result<[u16; 64], Fault> {
        let table = self.steps.get(number).copied().flatten();
        table.ok_or(Fault::Bad("a missing quantisation table"))
    }

    /// Gives sequential frames the standard tables in place of missing ones.
    pub fn complete(&mut self) {
        for (tables, dc) in [(&mut self.dc, true), (&mut self.ac, false)] {
            for (table, usual) in tables.iter_mut().zip(standard(dc)) {
                table.get_or_insert(usual);
            }
        }
    }

    /// A Huffman table for DC coefficients, with which none is of more than 15 bits.
    pub fn dc(&self, number: usize) -> Result<Table, Fault> {
        Table::new(present(&self.dc, number)?, 15)
    }

    /// A Huffman table for AC coefficients.
    pub fn ac(&self, number: usize) -> Result<Table, Fault> {
        Table::new(present(&self.ac, number)?, 255)
    }
}

fn present(tables: &[Option<Codes>; 4], number: usize) -> Result<&Codes, Fault> {
    let table = tables.get(number).and_then(Option::as_ref);
    table.ok_or(Fault::Bad("a missing Huffman table"))
}

#[cfg(test)]
mod tests {
    use super::ZIGZAG;

    #[test]
    fn coefficients_come_in_diagonals() {
        assert_eq!(ZIGZAG[..10], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]);
        assert_eq!(ZIGZAG[54..66], [39, 46, 53, 60, 61, 54, 47, 55, 62, 63, 63, 63]);
    }
}
