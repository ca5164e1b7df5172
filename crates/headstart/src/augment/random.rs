//! Random numbers that follow from three others.

use crate::split::split_mix_64;

/// Numbers that follow from a seed, an epoch and a position alone.
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64, epoch: u64, position: u64) -> Random {
        Random { state: split_mix_64(split_mix_64(split_mix_64(seed) ^ epoch) ^ position) }
    }

    fn bits(&mut self) -> u64 {
        let bits = split_mix_64(self.state);
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        bits
    }

    /// A number in `0..n`, each equally often but for one part in 2^64 / n (Lemire 2019).
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `0.0..1.0`, a multiple of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from `low` to `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Whether something happens that happens with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// The numbers `0..N` in an order of which all are equally likely (Fisher and Yates).
    pub fn order<const N: usize>(&mut self) -> [usize; N] {
        let mut order = std::array::from_fn(|i| i);
        for i in (1..N).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly() {
        let mut random = Random::new(1, 2, 3);
        let (mut tenths, mut orders) = ([0usize; 10], [0usize; 27]);
        for _ in 0..6000 {
            tenths[(random.between(-2.0, 3.0) + 2.0) as usize * 2] += 1;
            let [a, b, c] = random.order::<3>();
            orders[a * 9 + b * 3 + c] += 1;
        }
        // 1200 in each fifth and 1000 of each order; four deviations are 124 and 116.
        assert!(tenths.iter().step_by(2).all(|n| (1076..=1324).contains(n)), "{tenths:?}");
        let orders: Vec<usize> = orders.into_iter().filter(|&n| n > 0).collect();
        assert!(orders.len() == 6 && orders.iter().all(|n| (884..=1116).contains(n)), "{orders:?}");
        assert!((0..100).all(|_| !random.chance(0.0) && random.chance(1.0)));
    }
}
