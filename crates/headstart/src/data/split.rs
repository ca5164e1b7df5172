//! Splits of a data set: scikit-learn's `train_test_split` and its relatives, row for row, and stratified limits.
//!
//! ```
//! use headstart::split::train_test_split;
//!
//! // sklearn.model_selection.train_test_split(range(10), test_size=0.3, random_state=42)
//! let split = train_test_split(10, 0.3, 42)?;
//! assert_eq!(split.test, [8, 1, 5]);
//! assert_eq!(split.train.len(), 7);
//! # Ok::<(), headstart::Error>(())
//! ```

mod folds;
mod held_out;

use crate::error::{Error, Result};
pub use folds::{group_kfold, kfold, stratified_group_kfold, stratified_kfold};
pub(crate) use held_out::By;
pub use held_out::{
    group_train_test_split, stratified_group_train_test_split, stratified_train_test_split,
};

/// How many labels of each class there are.
pub(crate) fn class_counts(labels: impl IntoIterator<Item = usize>, classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    labels.into_iter().for_each(|label| counts[label] += 1);
    counts
}

const N: usize = 624;
const M: usize = 397;

/// The Mersenne Twister MT19937, seeded and used as numpy's `RandomState` does it.
///
/// Matsumoto and Nishimura (1998), `init_genrand` seeding; bounded integers by numpy's
/// legacy masked rejection (`random_interval` in `distributions.c`).
pub struct RandomState {
    state: [u32; N],
    next: usize,
}

impl RandomState {
    /// `numpy.random.RandomState(seed)`.
    pub fn new(seed: u32) -> RandomState {
        let mut state = [0; N];
        state[0] = seed;
        for i in 1..N {
            let before = state[i - 1];
            state[i] =
                1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        RandomState { state, next: N }
    }

    fn refill(&mut self) {
        for i in 0..N {
            let bits = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let twist = if bits & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (bits >> 1) ^ twist;
        }
        self.next = 0;
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A uniform integer in `0..=max`.
    pub fn interval(&mut self, max: u64) -> u64 {
        if max == 0 {
            return 0;
        }
        let mask = u64::MAX >> max.leading_zeros();
        loop {
            let value = if max <= u64::from(u32::MAX) {
                u64::from(self.next_u32())
            } else {
                let high = u64::from(self.next_u32());
                (high << 32) | u64::from(self.next_u32())
            } & mask;
            if value <= max {
                return value;
            }
        }
    }

    /// A uniform number in `[0, 1)` with 24 random bits.
    pub fn unit(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// `RandomState.shuffle`: Fisher-Yates from the end.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.interval(i as u64) as usize);
        }
    }

    /// `RandomState.permutation(n)`.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }
}

/// SplitMix64's step (Steele et al. 2014): near numbers in, far numbers out.
pub(crate) fn split_mix_64(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The rows of both sides, in scikit-learn's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The larger side.
    pub train: Vec<usize>,
    /// `ceil(test_size * n)` rows.
    pub test: Vec<usize>,
}

/// `sklearn.model_selection.train_test_split(range(n), test_size=.., random_state=seed)`.
///
/// Fails when `test_size` is not in (0, 1) or when a side would be empty.
/// ```
/// // sklearn.model_selection.train_test_split(np.arange(10), test_size=0.3, random_state=42)
/// let split = headstart::split::train_test_split(10, 0.3, 42)?;
/// assert_eq!(split.test, [8, 1, 5]);
/// assert_eq!(split.train, [0, 7, 2, 9, 4, 3, 6]);
/// # Ok::<(), headstart::Error>(())
/// ```
pub fn train_test_split(n: usize, test_size: f64, seed: u32) -> Result<Split> {
    shuffled("split", n, test_size, seed)
}

/// [`train_test_split`], whose errors name `what` is split.
fn shuffled(what: &str, n: usize, test_size: f64, seed: u32) -> Result<Split> {
    let held_out = held_out(what, "image", n, test_size)?;
    let mut test = RandomState::new(seed).permutation(n);
    let train = test.split_off(held_out);
    Ok(Split { train, test })
}

/// How many of `n` things, each a `kind`, are held out by `what`, such as a test split.
///
/// # Errors
/// If `test_size` is not in (0, 1), or a side would be empty.
fn held_out(what: &str, kind: &str, n: usize, test_size: f64) -> Result<usize> {
    if !(test_size > 0.0 && test_size < 1.0) {
        return Err(Error::invalid(
            what,
            "a fraction, a number above 0 and below 1",
            test_size.to_string(),
            "0.1 holds out every tenth image",
        ));
    }
    let held_out = (test_size * n as f64).ceil() as usize;
    if held_out >= n {
        let s = if n == 1 { "" } else { "s" };
        let hint = match n {
            0 | 1 => format!("use more {kind}s; a fraction of 0 holds out none"),
            _ => format!("use more {kind}s or a smaller fraction; 0 holds out none"),
        };
        return Err(Error::invalid(
            what,
            format!("at least one {kind} on each side"),
            format!("{n} {kind}{s}, of which {held_out} would be held out"),
            hint,
        ));
    }
    Ok(held_out)
}

/// Picks `count` of the samples with the given labels, seeded, each class in proportion.
///
/// Parts are rounded by largest remainder, and every class keeps at least one sample when
/// `count` allows it. The positions come back ascending; all of them when `count >= labels.len()`.
pub fn stratified(labels: &[usize], count: usize, seed: u32) -> Vec<usize> {
    if count >= labels.len() {
        return (0..labels.len()).collect();
    }
    let mut totals = vec![0; labels.iter().max().map_or(0, |m| m + 1)];
    for &label in labels {
        totals[label] += 1;
    }
    let mut quota = quotas(&totals, count);
    let mut chosen = Vec::with_capacity(count);
    for i in RandomState::new(seed).permutation(labels.len()) {
        if quota[labels[i]] > 0 {
            quota[labels[i]] -= 1;
            chosen.push(i);
        }
    }
    chosen.sort_unstable();
    chosen
}

/// Splits `count` (at most the sum of `totals`) in proportion to `totals`.
fn quotas(totals: &[usize], count: usize) -> Vec<usize> {
    let sum: u128 = totals.iter().map(|&t| t as u128).sum();
    if sum == 0 {
        return vec![0; totals.len()];
    }
    let present = totals.iter().filter(|&&t| t > 0).count();
    let floor_of_one = usize::from(count >= present);
    let mut quota: Vec<usize> = Vec::with_capacity(totals.len());
    let mut remainders = Vec::with_capacity(totals.len());
    for (class, &total) in totals.iter().enumerate() {
        let share = count as u128 * total as u128;
        let whole = (share / sum) as usize;
        quota.push(whole.max(floor_of_one.min(total)));
        remainders.push((share % sum, class));
    }
    remainders.sort_by_key(|&(remainder, class)| (std::cmp::Reverse(remainder), class));
    let mut given: usize = quota.iter().sum();
    for &(_, class) in remainders.iter().cycle() {
        if given >= count {
            break;
        }
        if quota[class] < totals[class] {
            quota[class] += 1;
            given += 1;
        }
    }
    // The floor of one can overshoot; the largest classes give back.
    while given > count {
        match (0..quota.len()).max_by_key(|&class| quota[class]) {
            Some(class) => quota[class] -= 1,
            None => break,
        }
        given -= 1;
    }
    quota
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_outputs_are_the_published_ones() {
        // mt19937ar.c seeded with 5489, the reference's default.
        let mut random = RandomState::new(5489);
        assert_eq!(random.next_u32(), 3_499_211_612);
        let last = (1..10_000).map(|_| random.next_u32()).last();
        // The 10,000th output that ISO C++ [rand.predef] requires of std::mt19937.
        assert_eq!(last, Some(4_123_659_995));
    }

    #[test]
    fn fractions_outside_the_open_interval_are_refused() {
        for bad in [0.0, 1.0, -0.1, 1.5, f64::NAN, f64::INFINITY] {
            assert!(train_test_split(10, bad, 42).is_err(), "{bad}");
        }
        assert!(train_test_split(0, 0.1, 42).is_err());
        assert!(train_test_split(1, 0.1, 42).is_err());
        assert!(train_test_split(2, 0.1, 42).is_ok());
    }

    #[test]
    fn stratified_keeps_proportions_and_every_class() {
        let labels: Vec<usize> = (0..1000)
            .map(|i| {
                if i < 900 {
                    0
                } else if i < 995 {
                    1
                } else {
                    2
                }
            })
            .collect();
        for count in 1..=1000 {
            let chosen = stratified(&labels, count, 7);
            assert_eq!(chosen.len(), count);
            assert!(chosen.windows(2).all(|w| w[0] < w[1]));
            let of = |class| chosen.iter().filter(|&&i| labels[i] == class).count();
            if count >= 3 {
                assert!(of(0) > 0 && of(1) > 0 && of(2) > 0, "count {count}");
            }
            assert!((of(0) as f64 - 0.9 * count as f64).abs() <= 2.0, "count {count}");
        }
        assert_eq!(stratified(&labels, 50, 7), stratified(&labels, 50, 7));
        assert_ne!(stratified(&labels, 50, 7), stratified(&labels, 50, 8));
        assert_eq!(stratified(&[], 5, 1), Vec::<usize>::new());
        assert_eq!(stratified(&[3, 3, 3], 0, 1), Vec::<usize>::new());
    }
}
