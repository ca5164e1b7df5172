//! Damage to bytes, the same in every run.

/// Numbers without pattern, the same in every run (xorshift64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// Bytes changed, cut, doubled or set to what sizes and offsets look like at their worst.
pub fn mutated(good: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    // Structure lies at both ends more often than in the middle, where weights are.
    let place = |random: &mut Random, n: usize| match random.below(4) {
        0 => random.below(n.min(512)),
        1 => n - 1 - random.below(n.min(4096)),
        _ => random.below(n),
    };
    for _ in 0..=random.below(4) {
        let n = bytes.len();
        let at = place(random, n);
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            2 => {
                let value = [u64::MAX, 1 << 40, 0, 1 << 31, 0x7fff_ffff_ffff_ffff][random.below(5)];
                let width = [2, 4, 8][random.below(3)].min(n - at);
                bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
            }
            3 => {
                let from = place(random, n);
                let length = random.below(64).min(n - from).min(n - at);
                bytes.copy_within(from..from + length, at);
            }
            _ if random.below(8) == 0 => bytes.truncate(at.max(1)),
            _ => {}
        }
    }
    bytes
}
