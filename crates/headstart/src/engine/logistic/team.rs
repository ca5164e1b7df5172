//! Who computes the products over all images: one process, or several of which each does its part and has the others' from them.
//! Parts are whole rows of results, each of which is summed as one process sums it, so that the bits are the same.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use headstart_kernels::linear::{
    dense, dense_kernel_gradient, dense_kernel_gradient_part, symmetric_products_part,
};
use headstart_kernels::table::Compute;

use crate::error::{Error, Result};

/// Rows that parts are multiples of: what the kernels take at a time.
const ROWS: usize = 64;

/// Other processes that do the same fit.
pub(crate) trait Others: Sync {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// The bytes of every process, in rank order.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;
}

/// Where products are computed. Once the others cannot be reached, what it computes means nothing, and [`Team::check`] says so.
pub(crate) struct Team<'a> {
    pub compute: &'a Compute,
    others: Option<&'a dyn Others>,
    failed: Mutex<Option<Error>>,
}

impl<'a> Team<'a> {
    /// One process.
    pub fn alone(compute: &'a Compute) -> Team<'a> {
        Team { compute, others: None, failed: Mutex::default() }
    }

    /// This one among others, if there are any.
    pub fn among(compute: &'a Compute, others: &'a dyn Others) -> Team<'a> {
        let others = Some(others).filter(|others| others.size() > 1);
        Team { compute, others, failed: Mutex::default() }
    }

    /// Fails if the others could not be reached.
    ///
    /// # Errors
    /// What kept them.
    pub fn check(&self) -> Result<()> {
        self.failed().take().map_or(Ok(()), Err)
    }

    /// Whether the others could not be reached.
    pub fn has_failed(&self) -> bool {
        self.failed().is_some()
    }

    fn failed(&self) -> MutexGuard<'_, Option<Error>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes rows of `to`, which has `columns` in each: all of them, or this process's part, after which it has the others'.
    /// `ends` says where the first parts of `size` end.
    fn rows(
        &self,
        to: &mut [f64],
        columns: usize,
        ends: impl Fn(usize, usize) -> usize,
        work: impl FnOnce(usize, &mut [f64]),
    ) {
        let Some(others) = self.others else { return work(0, to) };
        if self.has_failed() {
            return;
        }
        let (count, size) = (to.len() / columns.max(1), others.size());
        let part = |rank: usize| -> Range<usize> {
            let end = |parts: usize| match parts {
                0 => 0,
                _ if parts >= size => count,
                _ => count.min(ends(parts, size).next_multiple_of(ROWS)),
            };
            end(rank)..end(rank + 1)
        };
        let of = |rank: usize| part(rank).start * columns..part(rank).end * columns;
        let own = of(others.rank());
        work(part(others.rank()).start, &mut to[own.clone()]);
        let bytes: Vec<u8> = to[own].iter().flat_map(|v| v.to_le_bytes()).collect();
        let took = others.gather(&bytes).and_then(|all| {
            for (rank, bytes) in all.iter().enumerate() {
                let to = &mut to[of(rank)];
                if rank == others.rank() {
                    continue;
                }
                if bytes.len() != 8 * to.len() {
                    let expected = format!("{} bytes of process {rank}", 8 * to.len());
                    return Err(Error::invalid("fit", expected, bytes.len().to_string(), ""));
                }
                for (to, bytes) in to.iter_mut().zip(bytes.as_chunks().0) {
                    *to = f64::from_le_bytes(*bytes);
                }
            }
            Ok(())
        });
        if let Err(error) = took {
            *self.failed() = Some(error);
        }
    }

    /// [`dense`].
    pub fn dense(&self, x: &[f32], kernel: &[f64], bias: &[f64], to: &mut [f64]) {
        let columns = bias.len();
        let (count, width) = (to.len() / columns, kernel.len() / columns);
        self.rows(
            to,
            columns,
            |parts, size| count * parts / size,
            |first, to| {
                let x = &x[first * width..][..to.len() / columns * width];
                dense(self.compute, x, kernel, bias, to);
            },
        );
    }

    /// [`dense_kernel_gradient`].
    pub fn dense_kernel_gradient(&self, x: &[f32], d: &[f64], columns: usize, to: &mut [f64]) {
        let width = to.len() / columns;
        if self.others.is_none() {
            return dense_kernel_gradient(self.compute, x, d, columns, to);
        }
        self.rows(
            to,
            columns,
            |parts, size| width * parts / size,
            |first, to| {
                dense_kernel_gradient_part(self.compute, (x, width), d, columns, first, to);
            },
        );
    }

    /// Sums of half of a symmetric matrix: `work` adds the rows from a number on by [`symmetric_products_part`], of which the later
    /// ones are the longer.
    pub fn symmetric(
        &self,
        width: usize,
        work: impl FnOnce(&Adds<'_>, usize, &mut [f64]),
    ) -> Vec<f64> {
        let mut products = vec![0.0; width * width];
        let ends = |parts: usize, size: usize| {
            (width as f64 * (parts as f64 / size as f64).sqrt()) as usize
        };
        let add = |x: &[f32], d: &[f64], first: usize, to: &mut [f64]| {
            symmetric_products_part(self.compute, x, d, width, first, to);
        };
        self.rows(&mut products, width, ends, |first, to| work(&add, first, to));
        products
    }
}

/// Adds the products of some images.
pub(crate) type Adds<'a> = dyn Fn(&[f32], &[f64], usize, &mut [f64]) + 'a;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::control::Control;
    use crate::engine::logistic::tests::clusters;
    use crate::engine::logistic::{Examples, LinearHead, SolveOptions, solve_among};

    /// One of some threads that stand for processes.
    struct Thread<'a> {
        rank: usize,
        said: &'a Mutex<Vec<Vec<u8>>>,
        barrier: &'a Barrier,
        calls: &'a AtomicUsize,
    }

    impl Others for Thread<'_> {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> usize {
            self.said.lock().unwrap().len()
        }

        fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.said.lock().unwrap()[self.rank] = own.to_vec();
            self.barrier.wait();
            let all = self.said.lock().unwrap().clone();
            self.barrier.wait();
            Ok(all)
        }
    }

    fn head(team: &Team<'_>, examples: Examples<'_>) -> Result<Option<LinearHead>> {
        let options = SolveOptions { l2: 1e-3, ..SolveOptions::default() };
        solve_among(team, examples, options, None, &mut |_| Control::Continue)
    }

    #[test]
    fn processes_that_share_the_work_find_the_same_bits() {
        let (features, labels) = clusters(3, 70, 150, 1.0);
        let examples = Examples::new(&features, 150, &labels, 3);
        let compute = Compute::new(1).unwrap();
        let alone = head(&Team::alone(&compute), examples).unwrap().unwrap();
        // With four, some have no row of the gradient.
        for size in [2, 3, 4] {
            let said = Mutex::new(vec![Vec::new(); size]);
            let (barrier, calls) = (Barrier::new(size), AtomicUsize::new(0));
            let (said, barrier, calls) = (&said, &barrier, &calls);
            thread::scope(|scope| {
                let fits: Vec<_> = (0..size)
                    .map(|rank| {
                        scope.spawn(move || {
                            let compute = Compute::new(1).unwrap();
                            let own = Thread { rank, said, barrier, calls };
                            head(&Team::among(&compute, &own), examples).unwrap().unwrap()
                        })
                    })
                    .collect();
                for fit in fits {
                    let own = fit.join().unwrap();
                    let bits = |h: &LinearHead| -> Vec<u32> {
                        h.kernel.iter().chain(&h.bias).map(|v| v.to_bits()).collect()
                    };
                    assert!(bits(&own) == bits(&alone), "{size} processes");
                    assert_eq!(own.evaluations, alone.evaluations);
                }
            });
            // Scores and gradient of each step were shared.
            assert!(calls.load(Ordering::Relaxed) >= 2 * size * alone.evaluations);
        }
    }

    /// The other process is gone after some calls.
    struct Gone(AtomicUsize);

    impl Others for Gone {
        fn rank(&self) -> usize {
            0
        }

        fn size(&self) -> usize {
            2
        }

        fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(vec![own.to_vec(), vec![0; 8 * 150 * 150 - own.len()]]),
                _ => Err(Error::invalid("process 1", "one that answers", "none", "")),
            }
        }
    }

    #[test]
    fn a_process_that_is_gone_ends_the_fit_with_an_error() {
        let (features, labels) = clusters(3, 70, 150, 1.0);
        let examples = Examples::new(&features, 150, &labels, 3);
        let compute = Compute::new(1).unwrap();
        let others = Gone(AtomicUsize::new(0));
        let error = head(&Team::among(&compute, &others), examples).unwrap_err();
        assert!(error.to_string().starts_with("process 1"), "{error}");
        assert!(others.0.load(Ordering::Relaxed) < 5);
    }
}
