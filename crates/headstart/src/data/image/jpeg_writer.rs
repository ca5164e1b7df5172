//! A JPEG file of an image: baseline, Huffman coded, colours at full resolution (ITU-T T.81).

use super::Rgb8;
use crate::error::{Error, Result};

/// Quantisation of luminance and chrominance at quality 50, in rows (T.81, tables K.1 and K.2).
const QUANTA: [[u8; 64]; 2] = [
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69,
        56, 14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81,
        104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ],
    [
        17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99,
        99, 47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    ],
];

/// Place in a block's rows of each coefficient in zigzag order (T.81, figure A.6).
const ZIGZAG: [usize; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// A Huffman table: how many codes there are of each length from 1, and the symbols in order.
struct Table {
    lengths: [u8; 16],
    symbols: &'static [u8],
}

/// For the difference of a block's mean from the block before (T.81, tables K.3 and K.4).
const MEANS: [Table; 2] = [
    Table {
        lengths: [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        symbols: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    },
    Table {
        lengths: [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0],
        symbols: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
    },
];

/// For the other coefficients (T.81, tables K.5 and K.6).
const OTHERS: [Table; 2] = [
    Table {
        lengths: [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d],
        symbols: &[
            0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51,
            0x61, 0x07, 0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1,
            0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18,
            0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39,
            0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57,
            0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75,
            0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92,
            0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
            0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
            0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8,
            0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2,
            0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
        ],
    },
    Table {
        lengths: [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77],
        symbols: &[
            0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07,
            0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09,
            0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25,
            0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38,
            0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56,
            0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74,
            0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
            0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
            0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
            0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6,
            0xd7, 0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2,
            0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
        ],
    },
];

impl Table {
    /// Code and length of each symbol (T.81, annex C): codes of a length follow each other.
    fn codes(&self) -> [(u16, u8); 256] {
        let (mut codes, mut code, mut at) = ([(0, 0); 256], 0u16, 0);
        for (length, &count) in (1..).zip(&self.lengths) {
            for &symbol in &self.symbols[at..at + usize::from(count)] {
                codes[usize::from(symbol)] = (code, length);
                code += 1;
            }
            at += usize::from(count);
            code <<= 1;
        }
        codes
    }
}

/// Bits, the first of a byte the highest; a byte of ones is followed by a zero byte (T.81, F.1.2.3).
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, (code, length): (u16, u8)) {
        self.held = self.held << length | u32::from(code);
        self.count += u32::from(length);
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.held >> self.count) as u8;
            self.bytes.push(byte);
            if byte == 0xff {
                self.bytes.push(0);
            }
        }
    }

    /// A coefficient's own bits: those of a negative one are below it by one (T.81, F.1.2.1).
    fn put_value(&mut self, value: i32, size: u8) {
        let bits = if value < 0 { value - 1 } else { value };
        self.put(((bits & ((1 << size) - 1)) as u16, size));
    }
}

/// A baseline JPEG file of `image` at a `quality` from 1 to 100, as libjpeg counts it.
///
/// # Errors
/// If a side has more than 65,535 pixels.
pub fn jpeg(image: &Rgb8<'_>, quality: u8) -> Result<Vec<u8>> {
    let side = |n: usize| {
        u16::try_from(n).map_err(|_| {
            let found = format!("{}x{}", image.width, image.height);
            Error::invalid("JPEG", "at most 65535 pixels a side", found, "")
        })
    };
    let (height, width) = (side(image.height)?.to_be_bytes(), side(image.width)?.to_be_bytes());
    let quanta = quanta(quality);
    let mut out = vec![0xff, 0xd8];
    let mut part = |marker: u8, body: &[u8]| {
        out.extend([0xff, marker]);
        out.extend((body.len() as u16 + 2).to_be_bytes());
        out.extend(body);
    };
    part(0xe0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    for (number, table) in (0u8..).zip(&quanta) {
        let mut body = vec![number];
        body.extend(ZIGZAG.map(|i| table[i]));
        part(0xdb, &body);
    }
    let [h0, h1] = height;
    let [w0, w1] = width;
    part(0xc0, &[8, h0, h1, w0, w1, 3, 1, 0x11, 0, 2, 0x11, 1, 3, 0x11, 1]);
    for (class, tables) in (0u8..).zip([&MEANS, &OTHERS]) {
        for (number, table) in (0u8..).zip(tables) {
            let mut body = vec![class << 4 | number];
            body.extend(table.lengths);
            body.extend(table.symbols);
            part(0xc4, &body);
        }
    }
    part(0xda, &[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
    out.extend(scan(image, &quanta));
    out.extend([0xff, 0xd9]);
    Ok(out)
}

/// The tables at a quality.
fn quanta(quality: u8) -> [[u8; 64]; 2] {
    let quality = u32::from(quality.clamp(1, 100));
    let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    QUANTA.map(|table| table.map(|q| ((u32::from(q) * scale + 50) / 100).clamp(1, 255) as u8))
}

/// The entropy-coded blocks: of each 8 x 8 pixels Y, Cb and Cr.
fn scan(image: &Rgb8<'_>, quanta: &[[u8; 64]; 2]) -> Vec<u8> {
    let cosines = cosines();
    let (means, others) = (MEANS.map(|t| t.codes()), OTHERS.map(|t| t.codes()));
    let (mut bits, mut before) = (Bits::default(), [0i32; 3]);
    for top in (0..image.height).step_by(8) {
        for left in (0..image.width).step_by(8) {
            for (channel, block) in samples(image, top, left).iter().enumerate() {
                let kind = usize::from(channel > 0);
                let of = transformed(block, &cosines, &quanta[kind]);
                let difference = of[0] - before[channel];
                before[channel] = of[0];
                let size = size(difference);
                bits.put(means[kind][usize::from(size)]);
                bits.put_value(difference, size);
                coefficients(&mut bits, &of, &others[kind]);
            }
        }
    }
    // Ones fill the last byte.
    bits.put((0x7f, 7));
    bits.bytes
}

/// The coefficients after the first, each with the number of zeros before it.
fn coefficients(bits: &mut Bits, block: &[i32; 64], codes: &[(u16, u8); 256]) {
    let mut zeros = 0;
    for &value in &block[1..] {
        if value == 0 {
            zeros += 1;
            continue;
        }
        while zeros > 15 {
            bits.put(codes[0xf0]);
            zeros -= 16;
        }
        let size = size(value);
        bits.put(codes[zeros << 4 | usize::from(size)]);
        bits.put_value(value, size);
        zeros = 0;
    }
    if zeros > 0 {
        bits.put(codes[0]);
    }
}

/// Bits of a coefficient.
fn size(value: i32) -> u8 {
    (32 - value.unsigned_abs().leading_zeros()) as u8
}

/// Y, Cb and Cr of 8 x 8 pixels, less 128, by JFIF's formulas; the last row and column go on beyond the edge.
fn samples(image: &Rgb8<'_>, top: usize, left: usize) -> [[f32; 64]; 3] {
    let pixel = |i: usize| {
        let (y, x) = ((top + i / 8).min(image.height - 1), (left + i % 8).min(image.width - 1));
        let at = (y * image.width + x) * 3;
        [0, 1, 2].map(|c| f32::from(image.pixels[at + c]))
    };
    let channel = |[r, g, b]: [f32; 3], less: f32| {
        std::array::from_fn(|i| {
            let own = pixel(i);
            r * own[0] + g * own[1] + b * own[2] - less
        })
    };
    [
        channel([0.299, 0.587, 0.114], 128.0),
        channel([-0.168_735_9, -0.331_264_1, 0.5], 0.0),
        channel([0.5, -0.418_687_6, -0.081_312_4], 0.0),
    ]
}

/// `cosines[u][x]`: the orthonormal discrete cosine transform of 8 samples.
fn cosines() -> [[f32; 8]; 8] {
    std::array::from_fn(|u| {
        let scale = if u == 0 { 0.125f64.sqrt() } else { 0.5 };
        std::array::from_fn(|x| {
            let angle = (2 * x + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0;
            (scale * angle.cos()) as f32
        })
    })
}

/// Quantised coefficients of a block, in zigzag order.
fn transformed(block: &[f32; 64], cosines: &[[f32; 8]; 8], quanta: &[u8; 64]) -> [i32; 64] {
    let mut rows = [0.0; 64];
    for (y, row) in block.chunks_exact(8).enumerate() {
        for (u, basis) in cosines.iter().enumerate() {
            rows[y * 8 + u] = row.iter().zip(basis).map(|(a, b)| a * b).sum();
        }
    }
    ZIGZAG.map(|i| {
        let (v, u) = (i / 8, i % 8);
        let sum: f32 = (0..8).map(|y| rows[y * 8 + u] * cosines[v][y]).sum();
        // One of 1024, of the strongest patterns, has no code unless it is the first.
        let most = if i == 0 { 1024 } else { 1023 };
        ((sum / f32::from(quanta[i])).round() as i32).clamp(-most, most)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::decode;

    /// Mean square error against `image` after decoding.
    fn error(image: &Rgb8<'_>, quality: u8) -> f64 {
        let again = decode("x.jpg", &jpeg(image, quality).unwrap()).unwrap();
        assert_eq!((again.width, again.height), (image.width, image.height));
        let pairs = again.pixels.iter().zip(image.pixels.iter());
        let sum: f64 = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        sum / image.pixels.len() as f64
    }

    #[test]
    fn a_decoder_gives_the_image_back() {
        for (width, height) in [(1, 1), (8, 8), (17, 5), (40, 64), (200, 3)] {
            let smooth = |i: usize| {
                let (p, c) = (i / 3, i % 3);
                let (x, y) = ((p % width) as f64 / 9.0, (p / width) as f64 / 7.0);
                (127.5 + 100.0 * (x + c as f64).sin() * (y - c as f64).cos()) as u8
            };
            let image =
                Rgb8::new(width, height, (0..width * height * 3).map(smooth).collect::<Vec<_>>());
            let image = image.unwrap();
            let (best, usual) = (error(&image, 100), error(&image, 80));
            assert!(best <= 1.5 && usual <= 12.0, "{width}x{height}: {best} {usual}");
        }
    }

    #[test]
    fn the_worst_of_noise_can_be_coded() {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if state >> 31 == 0 { 0 } else { 255 }
        };
        let noise =
            Rgb8::new(64, 48, (0..64 * 48 * 3).map(|_| next()).collect::<Vec<u8>>()).unwrap();
        assert!(error(&noise, 100) <= 3.0);
        assert!(error(&noise, 1) <= 20_000.0);
        let (low, high) = (jpeg(&noise, 40).unwrap().len(), jpeg(&noise, 95).unwrap().len());
        assert!(low < high);
    }

    #[test]
    fn sides_beyond_the_format_are_refused() {
        let long = Rgb8::new(65_536, 1, vec![0; 65_536 * 3]).unwrap();
        assert!(jpeg(&long, 80).unwrap_err().to_string().contains("65535"));
    }
}
