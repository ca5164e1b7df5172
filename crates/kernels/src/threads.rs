//! A pool of threads that runs numbered tasks. How work is cut into tasks never depends on the
//! number of threads; that is what makes results independent of it.

use std::marker::PhantomData;

use rayon::prelude::*;

/// The threads a computation may use.
#[derive(Debug)]
pub struct Threads {
    pool: Option<rayon::ThreadPool>,
    count: usize,
}

impl Threads {
    /// A pool of `count` threads (0 means one per core). One thread runs everything inline.
    ///
    /// # Errors
    /// If the system refuses to start the threads.
    pub fn new(count: usize) -> Result<Threads, rayon::ThreadPoolBuildError> {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let pool = match count {
            1 => None,
            n => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(n)
                    .thread_name(|i| format!("compute-{i}"))
                    .build()?,
            ),
        };
        Ok(Threads { pool, count })
    }

    /// Number of threads.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `f` on one of the threads, so that [`Self::run`] within it need not wake two and wait for them (10 to 20
    /// microseconds). A thread that waits for the tasks of one `f` may begin another: `f` must not hold a lock over
    /// [`Self::run`].
    pub fn enter<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }

    /// Runs `task(0)` to `task(tasks - 1)`, in any order, and returns when all are done.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        match &self.pool {
            Some(pool) if tasks > 1 => pool.install(|| {
                (0..tasks).into_par_iter().with_max_len(1).for_each(&task);
            }),
            _ => (0..tasks).for_each(task),
        }
    }

    /// Cuts `data` into chunks of `len` (the last may be shorter) and runs `task(i, chunk)` on each.
    ///
    /// # Panics
    /// If `len` is 0.
    pub fn chunks<T: Send>(
        &self,
        data: &mut [T],
        len: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(len > 0, "chunk length must be positive");
        let total = data.len();
        let shared = Shared::new(data);
        self.run(total.div_ceil(len), |i| {
            let start = i * len;
            // SAFETY: chunks of different tasks are disjoint and each task runs once.
            task(i, unsafe { shared.slice(start, len.min(total - start)) });
        });
    }
}

/// A mutable slice that tasks may cut into disjoint parts.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: `slice` hands out parts only under its contract of disjointness; T: Send may cross threads.
unsafe impl<T: Send> Sync for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(data: &'a mut [T]) -> Shared<'a, T> {
        Shared { start: data.as_mut_ptr(), len: data.len(), life: PhantomData }
    }

    pub(crate) fn pointer(&self) -> *mut T {
        self.start
    }

    /// Part of the slice.
    ///
    /// # Safety
    /// No two parts alive at the same time may overlap.
    ///
    /// # Panics
    /// If the part is outside of the slice.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part outside of the slice");
        // SAFETY: in bounds by the check above; unique by the caller's contract.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// Part of the slice, to be read by any number of tasks.
    ///
    /// # Safety
    /// Nothing writes that part while it is borrowed.
    ///
    /// # Panics
    /// If the part is outside of the slice.
    pub(crate) unsafe fn read(&self, start: usize, len: usize) -> &[T] {
        assert!(start <= self.len && len <= self.len - start, "part outside of the slice");
        // SAFETY: in bounds by the check above; not written by the caller's contract.
        unsafe { std::slice::from_raw_parts(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn every_task_runs_once() {
        for count in [1, 2, 3] {
            let threads = Threads::new(count).unwrap();
            for tasks in [0, 1, 2, 17] {
                let ran: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                threads.run(tasks, |i| {
                    ran[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(ran.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn callers_may_be_threads_of_another_pool() {
        let threads = Threads::new(2).unwrap();
        let callers = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let ran = AtomicUsize::new(0);
        callers.install(|| {
            (0..20).into_par_iter().with_max_len(1).for_each(|_| {
                threads.enter(|| {
                    threads.run(2, |_| {
                        std::thread::sleep(Duration::from_millis(2));
                        ran.fetch_add(1, Ordering::Relaxed);
                    });
                });
            });
        });
        assert_eq!(ran.into_inner(), 40);
    }

    #[test]
    fn chunks_cover_the_slice() {
        let threads = Threads::new(2).unwrap();
        let mut data = vec![0usize; 103];
        threads.chunks(&mut data, 10, |i, part| part.iter_mut().for_each(|x| *x += i + 1));
        assert!(data.iter().enumerate().all(|(j, &x)| x == j / 10 + 1));
    }
}
