//! Damage to bytes, the same for the same number.

/// Numbers without pattern (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }
}

/// Longest result.
const LONGEST: usize = 1 << 20;
/// Whole numbers at their ends.
const ENDS: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    1 << 40,
    u64::MAX,
];
/// Numbers in texts.
const TEXTS: [&str; 10] = [
    "0",
    "-1",
    "1e309",
    "NaN",
    "4294967296",
    "9223372036854775808",
    "18446744073709551616",
    "1e-400",
    "99999999999999999999999999",
    "",
];

/// One of the `good` examples with a few changes: bits, bytes, numbers at their ends, pieces cut, repeated or from another
/// example.
pub fn mutated(good: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = good[random.below(good.len())].clone();
    for _ in 0..=random.below(5) {
        let n = bytes.len();
        if n == 0 {
            bytes.push(random.number() as u8);
            continue;
        }
        // Structure lies at both ends more often than in the middle.
        let at = match random.below(4) {
            0 => random.below(n.min(256)),
            1 => n - 1 - random.below(n.min(2048)),
            _ => random.below(n),
        };
        let most = [4, 64, 1024][random.below(3)];
        let length = random.below(most).min(n - at);
        match random.below(10) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.number() as u8,
            2 | 3 => {
                let value = ENDS[random.below(ENDS.len())];
                let width = [1, 2, 4, 8][random.below(4)].min(n - at);
                let (low, high) = (value.to_le_bytes(), value.to_be_bytes());
                let value = if random.below(2) == 0 { &low[..width] } else { &high[8 - width..] };
                bytes[at..at + width].copy_from_slice(value);
            }
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..at + length)),
            6 => {
                let most = [2, 16, 4096][random.below(3)];
                let times = 1 + random.below(most);
                let times = times.min((LONGEST - n.min(LONGEST)) / length.max(1));
                let piece = bytes[at..at + length].repeat(times);
                bytes.splice(at..at, piece);
            }
            7 => {
                let other = &good[random.below(good.len())];
                let from = random.below(other.len().max(1));
                let piece = &other[from..(from + length).min(other.len())];
                bytes.splice(at..at + length, piece.iter().copied());
            }
            8 => {
                // The number that stands here, in a text.
                let digits = bytes[at..].iter().position(u8::is_ascii_digit).map(|i| at + i);
                let Some(from) = digits else { continue };
                let length = bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
                let text = TEXTS[random.below(TEXTS.len())];
                bytes.splice(from..from + length, text.bytes());
            }
            _ => {
                let from = random.below(n - length + 1);
                bytes.copy_within(from..from + length, at);
            }
        }
    }
    bytes
}
