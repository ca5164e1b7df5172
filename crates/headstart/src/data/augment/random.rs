//! Random numbers that follow from a seed, an epoch and a position.

use crate::data::split::split_mix_64;

/// Numbers that follow only from a seed, an epoch and a position.
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

    /// A number from the Beta distribution with both parameters `alpha`, which is above 0.
    pub fn beta(&mut self, alpha: f64) -> f64 {
        // x / (x + y) of two numbers from the Gamma distribution, by their logarithms, as both can be too small for f64.
        let (x, y) = (self.ln_gamma(alpha), self.ln_gamma(alpha));
        1.0 / (1.0 + (y - x).exp())
    }

    /// The logarithm of a number from the Gamma distribution (Marsaglia and Tsang 2000).
    fn ln_gamma(&mut self, alpha: f64) -> f64 {
        let d = alpha + 1.0 - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                // From the distribution of alpha + 1 to that of alpha.
                return (d * v).ln() + (1.0 - self.unit()).ln() / alpha;
            }
        }
    }

    /// A number from the normal distribution (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
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
        // Beta's mean is 1/2 and its variance 1 / (4 (2 alpha + 1)).
        for alpha in [0.001, 0.2, 1.0, 8.0, 1000.0] {
            let drawn: Vec<f64> = (0..20_000).map(|_| random.beta(alpha)).collect();
            assert!(drawn.iter().all(|v| (0.0..=1.0).contains(v)));
            let mean = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|v| (v - 0.5) * (v - 0.5)).sum::<f64>() / 20_000.0;
            let want = 0.25 / (2.0 * alpha + 1.0);
            assert!((mean - 0.5).abs() < 4.0 * (want / 20_000.0).sqrt(), "{alpha} {mean}");
            assert!((variance / want - 1.0).abs() < 0.05, "{alpha} {variance} {want}");
        }
        assert!((0..100).all(|_| !random.chance(0.0) && random.chance(1.0)));
    }
}
