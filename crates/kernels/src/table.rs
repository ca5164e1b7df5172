//! What computes: the threads and the instruction set's record of tile, packer and sizes.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use crate::buffer::Buffer;
use crate::element::{DType, Element};
use crate::isa::{Isa, Kernels, Record};
use crate::threads::Threads;

/// What every kernel takes: threads to run on and the kernels of one instruction set.
#[derive(Debug)]
pub struct Compute {
    /// The threads.
    pub threads: Threads,
    /// What plans made for this store activations and their gradients as.
    pub dtype: DType,
    pub(crate) record: &'static Record,
    /// Memory for partial results, kept between calls.
    scratch: Mutex<Vec<Buffer>>,
}

impl Compute {
    /// Kernels for the best instruction set of this CPU, or the one `HEADSTART_ISA` names, on
    /// `threads` threads (0: one per core).
    ///
    /// # Errors
    /// A message, if the threads cannot be started or `HEADSTART_ISA` names an unknown or
    /// unavailable instruction set.
    pub fn new(threads: usize) -> Result<Compute, String> {
        Compute::with_isa(threads, Isa::from_env()?)
    }

    /// Kernels for `isa`.
    ///
    /// # Errors
    /// A message, if the CPU does not run `isa` or the threads cannot be started.
    pub fn with_isa(threads: usize, isa: Isa) -> Result<Compute, String> {
        if !isa.available() {
            return Err(format!("this CPU does not run {isa}"));
        }
        let threads = Threads::new(threads).map_err(|e| format!("cannot start threads: {e}"))?;
        Ok(Compute { threads, dtype: DType::F32, record: isa.record(), scratch: Mutex::default() })
    }

    /// The same, for plans that store activations and their gradients as `dtype`.
    pub fn storing(self, dtype: DType) -> Compute {
        Compute { dtype, ..self }
    }

    /// The kernels for a type of element.
    pub(crate) fn kernels<E: Element>(&self) -> &'static Kernels<E> {
        E::kernels(self.record)
    }

    /// Makes this thread ready to run tiles, until the result is dropped: what a task does before its first tile.
    pub(crate) fn ready<E: Element>(&self) -> Ready {
        let kernels = self.kernels::<E>();
        // SAFETY: `with_isa` checked that the CPU runs the record's instruction set.
        unsafe { (kernels.begin)() };
        Ready { end: kernels.end, thread: PhantomData }
    }

    /// Memory for partial results, at least `len` floats: the smallest left by other calls that is enough. No lock is held
    /// meanwhile, as a thread that waits for its tasks may begin those of another call.
    pub(crate) fn scratch(&self, len: usize) -> Scratch<'_> {
        let mut home = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        // Sorted by length. One that is too short gives way to a longer one.
        let at = home.partition_point(|buffer| buffer.len() < len);
        let buffer = if at < home.len() { Some(home.remove(at)) } else { home.pop() };
        drop(home);
        let buffer = buffer.filter(|buffer| buffer.len() >= len);
        Scratch { buffer: buffer.unwrap_or_else(|| Buffer::zeros(len)), home: &self.scratch }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.record.isa
    }

    /// The greatest multiply-add rate of this thread on `dtype` in FLOP/s, in some dozens of bursts of a fraction of a millisecond: other
    /// programs seldom disturb all of them.
    pub fn measure_burst(&self, dtype: DType) -> f64 {
        let peak = match dtype {
            DType::F32 | DType::F16 => self.record.f32.peak,
            DType::Bf16 => self.record.bf16.peak,
        };
        let mut best = 0.0f64;
        for _ in 0..40 {
            let start = std::time::Instant::now();
            // SAFETY: `with_isa` checked that the CPU runs the record's instruction set.
            let done = unsafe { peak(1 << 12) };
            best = best.max(done as f64 / start.elapsed().as_secs_f64().max(1e-9));
        }
        best
    }

    /// The multiply-add rate of all threads on `dtype` in FLOP/s, measured for about `seconds` by a loop that
    /// touches registers only.
    pub fn measure_peak(&self, dtype: DType, seconds: f64) -> f64 {
        let peak = match dtype {
            DType::F32 | DType::F16 => self.record.f32.peak,
            DType::Bf16 => self.record.bf16.peak,
        };
        let rounds = 1 << 16;
        let start = std::time::Instant::now();
        let total = std::sync::atomic::AtomicU64::new(0);
        let tasks = self.threads.count() * 16;
        while start.elapsed().as_secs_f64() < seconds {
            self.threads.run(tasks, |_| {
                // SAFETY: `with_isa` checked that the CPU runs the record's instruction set.
                let done = unsafe { peak(rounds) };
                total.fetch_add(done, std::sync::atomic::Ordering::Relaxed);
            });
        }
        total.into_inner() as f64 / start.elapsed().as_secs_f64()
    }
}

/// A thread that may run tiles.
pub(crate) struct Ready {
    end: unsafe fn(),
    /// Registers belong to a thread.
    thread: PhantomData<*const ()>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        // SAFETY: it was made where the CPU runs the instruction set, on this thread.
        unsafe { (self.end)() }
    }
}

/// Memory on loan, which goes back when it is dropped.
pub(crate) struct Scratch<'a> {
    buffer: Buffer,
    home: &'a Mutex<Vec<Buffer>>,
}

impl Deref for Scratch<'_> {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        &self.buffer
    }
}

impl DerefMut for Scratch<'_> {
    fn deref_mut(&mut self) -> &mut Buffer {
        &mut self.buffer
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        let at = home.partition_point(|buffer| buffer.len() < self.buffer.len());
        home.insert(at, std::mem::take(&mut self.buffer));
    }
}
