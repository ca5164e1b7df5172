//! What the rest of this crate asks of an MPI library, whichever it is.

use std::ffi::c_int;

/// One of the two groups of messages: what one sends is never received in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comm {
    /// Training's.
    Work,
    /// That of the end, in which a process may be while others still work.
    End,
}

/// Why a call has no result. Messages may be under way then, so that no other call of this group can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// MPI says that it failed.
    Failed {
        /// The MPI function.
        function: &'static str,
        /// MPI's own words.
        message: String,
    },
    /// The caller would not wait any longer.
    GivenUp,
}

/// Asked over and over while a call is not done: whether to give up.
pub type Wait<'w> = dyn FnMut() -> bool + 'w;

/// Bytes, and which of them belong to each process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub bytes: Vec<u8>,
    counts: Vec<c_int>,
    starts: Vec<c_int>,
}

impl Parts {
    /// Zeros, this many bytes for each process, one after the other; none if MPI cannot count them.
    pub fn new(counts: &[usize]) -> Option<Parts> {
        let (parts, total) = Parts::empty(counts)?;
        Some(Parts { bytes: vec![0; total], ..parts })
    }

    /// The same, with these bytes; none unless there are as many as the counts say.
    pub fn with(counts: &[usize], bytes: Vec<u8>) -> Option<Parts> {
        let (parts, total) = Parts::empty(counts)?;
        (total == bytes.len()).then_some(Parts { bytes, ..parts })
    }

    fn empty(counts: &[usize]) -> Option<(Parts, usize)> {
        let (mut parts, mut total) = (Parts::default(), 0usize);
        for &count in counts {
            parts.counts.push(c_int::try_from(count).ok()?);
            parts.starts.push(c_int::try_from(total).ok()?);
            total = total.checked_add(count)?;
        }
        Some((parts, total))
    }

    /// Bytes of each process.
    pub fn counts(&self) -> &[c_int] {
        &self.counts
    }

    /// Where the bytes of each process begin.
    pub fn starts(&self) -> &[c_int] {
        &self.starts
    }

    /// Whether every process has bytes of its own among `bytes`: nothing past their end is read or written.
    pub fn fits(&self, size: usize) -> bool {
        let end = |(count, start): (&c_int, &c_int)| {
            usize::try_from(*start).ok()?.checked_add(usize::try_from(*count).ok()?)
        };
        self.counts.len() == size
            && self.starts.len() == size
            && self
                .counts
                .iter()
                .zip(&self.starts)
                .all(|part| end(part).is_some_and(|end| end <= self.bytes.len()))
    }
}

/// An MPI library that was initialised.
pub trait Mpi: std::fmt::Debug + Send {
    fn rank(&self) -> usize;
    fn size(&self) -> usize;
    /// What the library says it is.
    fn version(&self) -> &str;
    /// Sends each process its part of `send`, and receives each process's part for this one.
    fn all_to_all(
        &mut self,
        send: Parts,
        receive: Parts,
        wait: &mut Wait<'_>,
    ) -> Result<Parts, Broken>;
    /// Sends `own` to all; `receive` says how many bytes each sends.
    fn all_gather(
        &mut self,
        comm: Comm,
        own: Vec<u8>,
        receive: Parts,
        wait: &mut Wait<'_>,
    ) -> Result<Parts, Broken>;
    fn barrier(&mut self, comm: Comm, wait: &mut Wait<'_>) -> Result<(), Broken>;
    fn finalize(&mut self);
    /// Ends all processes.
    fn abort(&mut self, code: i32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        let parts = Parts::new(&[2, 0, 3]).unwrap();
        assert_eq!((parts.bytes.len(), parts.starts()), (5, &[0, 2, 2][..]));
        assert!(parts.fits(3) && !parts.fits(2));
        assert!(Parts::with(&[2, 0, 3], vec![0; 4]).is_none());
        let shorter = Parts { bytes: vec![0; 4], ..parts };
        assert!(!shorter.fits(3));
        assert!(Parts::new(&[1 << 31]).is_none());
        assert!(Parts::with(&[usize::MAX, 1], Vec::new()).is_none());
    }
}
