//! Processes that train one model together, and the replicas that a batch is cut into.
//!
//! A batch is cut into replicas. Each replica runs its part of the images through the net, and the gradients are
//! added up in replica order. The number of replicas is a setting of training. Which process computes which replica
//! does not change a bit of the result.
//!
//! ```
//! use headstart::collective::{Alone, Collective, share};
//!
//! let mut sum = [0.0; 2];
//! Alone.all_reduce(&[&[1.0, 2.0], &[10.0, 20.0]], &mut sum)?;
//! assert_eq!(sum, [11.0, 22.0]);
//! assert_eq!((share(10, 0, 4), share(10, 3, 4)), (0..2, 7..10));
//! # Ok::<(), headstart::Error>(())
//! ```

use std::ops::Range;

use crate::data::batch::Portion;
use crate::error::Result;

/// Communication between processes.
pub trait Collective: std::fmt::Debug + Send {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// Adds up one vector per replica, element by element and in replica order. `own` are those of this process, as
    /// [`own_replicas`] says; `sum` receives the sum over all processes.
    ///
    /// # Errors
    /// If another process cannot be reached.
    fn all_reduce(&mut self, own: &[&[f32]], sum: &mut [f32]) -> Result<()>;

    /// The values of every process, in rank order.
    ///
    /// # Errors
    /// As [`Collective::all_reduce`].
    fn gather(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Waits until every process has reached this call.
    ///
    /// # Errors
    /// As [`Collective::all_reduce`].
    fn barrier(&mut self) -> Result<()>;
}

/// One process alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&mut self, own: &[&[f32]], sum: &mut [f32]) -> Result<()> {
        let Some((first, others)) = own.split_first() else {
            sum.fill(0.0);
            return Ok(());
        };
        sum.copy_from_slice(first);
        for other in others {
            sum.iter_mut().zip(*other).for_each(|(s, v)| *s += v);
        }
        Ok(())
    }

    fn gather(&mut self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![own.to_vec()])
    }

    fn barrier(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The images of a batch of `count` that belong to replica number `replica` of `replicas`: contiguous, with equal
/// counts to within one image. None where there are too few.
///
/// # Panics
/// If there is no such replica.
pub fn share(count: usize, replica: usize, replicas: usize) -> Range<usize> {
    assert!(replica < replicas, "replica {replica} of {replicas}");
    Portion { from: replica, to: replica + 1, of: replicas }.range(count)
}

/// The replicas that a process computes.
pub fn own_replicas(replicas: usize, collective: &dyn Collective) -> Range<usize> {
    share(replicas, collective.rank(), collective.size().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_in_one_share() {
        for (count, replicas) in [(20, 4), (7, 4), (3, 5), (0, 2), (1, 1)] {
            let shares: Vec<_> = (0..replicas).map(|r| share(count, r, replicas)).collect();
            assert_eq!(shares[0].start, 0);
            assert_eq!(shares[replicas - 1].end, count);
            assert!(shares.windows(2).all(|w| w[0].end == w[1].start));
            let lengths = shares.iter().map(ExactSizeIterator::len);
            assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
        }
        assert_eq!(own_replicas(4, &Alone), 0..4);
    }
}
