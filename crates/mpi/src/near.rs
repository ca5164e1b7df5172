//! Processes of one machine add up vectors in memory that all of them see, without messages.
//!
//! Each has a slot for its vectors. It fills the slot, says so, waits until all have said so, and adds up what lies in
//! all slots, in the order of replicas. There are two slots for each process, used in turn: who fills one again has
//! seen all others begin with the other, so that nobody reads it any more.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use headstart::collective::share;
use memmap2::MmapRaw;

use crate::call::{Broken, Wait};
use crate::sleep;

/// The memory begins with random bytes by which processes know that it is the same.
pub const MARK: usize = 16;
/// A process has these bytes of its own for what it says: more than a line of any processor's cache.
const LINE: usize = 256;
/// Slots begin with a page.
const PAGE: usize = 4096;
/// Most elements of a slot, and of all slots: 4 MiB and 64 MiB.
const SLOT: usize = 1 << 20;
const SLOTS: usize = 16 << 20;
/// So few processes add up everything by themselves; more of them add up a part each, and copy the other parts.
const FEW: usize = 3;
/// Elements that stay in the first cache while vector after vector is added.
const BLOCK: usize = 4096;
/// Numbers that each process says at the begin of a sum.
pub const NUMBERS: usize = 3;

/// Memory that all processes have.
#[derive(Debug)]
pub struct Near {
    memory: MmapRaw,
    rank: usize,
    size: usize,
    /// Elements of a slot.
    slot: usize,
    /// How often all have met.
    turn: u32,
}

/// What a process says to the others.
#[repr(C)]
struct Line {
    /// The last turn whose slot it has filled.
    filled: AtomicU32,
    /// The last turn of which it has added up its part.
    added: AtomicU32,
    /// By turn, even and odd.
    numbers: [[AtomicU64; NUMBERS]; 2],
}

const _: () = assert!(size_of::<Line>() <= LINE && LINE.is_multiple_of(align_of::<Line>()));

/// Elements of a slot where there are so many processes. Beside theirs there is one for the sum.
fn slot(size: usize) -> usize {
    (SLOTS / (2 * (size + 1))).clamp(1, SLOT)
}

/// Where the slots begin.
fn slots(size: usize) -> usize {
    ((size + 1) * LINE).next_multiple_of(PAGE)
}

/// Bytes of the memory of so many processes.
pub fn bytes(size: usize) -> usize {
    slots(size) + 4 * 2 * (size + 1) * slot(size)
}

impl Near {
    /// Memory for `size` processes; none if it has another length.
    pub fn of(memory: MmapRaw, rank: usize, size: usize) -> Option<Near> {
        let whole = memory.len() == bytes(size) && rank < size;
        whole.then(|| Near { memory, rank, size, slot: slot(size), turn: 0 })
    }

    /// Most vectors of one process that can be added up here.
    pub fn most(&self) -> usize {
        self.slot
    }

    fn line(&self, rank: usize) -> &Line {
        assert!(rank < self.size);
        // SAFETY: the memory, which lives as long as `self`, has room for `size` lines after the mark, each aligned, as the
        // length was checked. It was zeros, which is a `Line`, and is only written through atomics.
        unsafe { &*self.memory.as_ptr().add((rank + 1) * LINE).cast::<Line>() }
    }

    /// Where a slot begins: that of a process, or with `rank` of `size` that of the sum. Slots have `self.slot` elements.
    fn slot(&self, turn: u32, rank: usize) -> *mut f32 {
        assert!(rank <= self.size);
        let number = (turn % 2) as usize * (self.size + 1) + rank;
        // SAFETY: `bytes` counts so many slots from there on, and the memory has that length.
        unsafe { self.memory.as_mut_ptr().add(slots(self.size) + 4 * number * self.slot).cast() }
    }

    /// Waits until all have come to this turn.
    fn wait_for(
        &self,
        turn: u32,
        word: impl Fn(&Line) -> &AtomicU32,
        wait: &mut Wait<'_>,
    ) -> Result<(), Broken> {
        for rank in 0..self.size {
            let word = word(self.line(rank));
            loop {
                let there = word.load(Ordering::Acquire);
                if turn.wrapping_sub(there).cast_signed() <= 0 {
                    break;
                }
                sleep::while_it_is(word, there);
                let same = word.load(Ordering::Relaxed) == there;
                if same && wait() {
                    return Err(Broken::GivenUp);
                }
            }
        }
        Ok(())
    }

    fn say(word: &AtomicU32, turn: u32) {
        word.store(turn, Ordering::Release);
        sleep::changed(word);
    }

    /// Says that the own slot of the next turn is filled, and waits until all are; the turn.
    fn meet(&mut self, wait: &mut Wait<'_>) -> Result<u32, Broken> {
        self.turn = self.turn.wrapping_add(1);
        Self::say(&self.line(self.rank).filled, self.turn);
        self.wait_for(self.turn, |line| &line.filled, wait)?;
        Ok(self.turn)
    }

    /// Some numbers of every process, in rank order.
    pub fn gather(
        &mut self,
        own: [u64; NUMBERS],
        wait: &mut Wait<'_>,
    ) -> Result<Vec<[u64; NUMBERS]>, Broken> {
        let next = self.turn.wrapping_add(1) as usize % 2;
        let said = &self.line(self.rank).numbers[next];
        said.iter().zip(own).for_each(|(to, number)| to.store(number, Ordering::Relaxed));
        let turn = self.meet(wait)? as usize % 2;
        let of = |rank| {
            let said = &self.line(rank).numbers[turn];
            std::array::from_fn(|i| said[i].load(Ordering::Relaxed))
        };
        Ok((0..self.size).map(of).collect())
    }

    /// Adds up the vectors of all processes, of which each has as many as `vectors` says, in rank order: at least one has one,
    /// and none more than [`Near::most`].
    ///
    /// # Panics
    /// If that is not so, or vectors have another length than `sum`.
    pub fn sum(
        &mut self,
        own: &[&[f32]],
        vectors: &[usize],
        sum: &mut [f32],
        wait: &mut Wait<'_>,
    ) -> Result<(), Broken> {
        let most = vectors.iter().copied().max().unwrap_or(0);
        assert!(vectors.len() == self.size && (1..=self.slot).contains(&most));
        assert!(vectors[self.rank] == own.len() && own.iter().all(|v| v.len() == sum.len()));
        let each = self.slot / most;
        for start in (0..sum.len()).step_by(each) {
            let piece = start..sum.len().min(start + each);
            let to = self.slot(self.turn.wrapping_add(1), self.rank);
            for (number, vector) in own.iter().enumerate() {
                let from = &vector[piece.clone()];
                // SAFETY: at most `most` vectors of at most `each` elements are in a slot. The slot is this process's, and the
                // others have read what was there two turns ago: they came to the last turn after that.
                unsafe {
                    let to = to.add(number * piece.len());
                    std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
                }
            }
            let turn = self.meet(wait)?;
            if self.size <= FEW {
                self.add_up(turn, vectors, (piece.len(), 0), &mut sum[piece]);
            } else {
                self.add_together(turn, vectors, &mut sum[piece], wait)?;
            }
        }
        Ok(())
    }

    /// Every process adds up a part, and takes the others' parts from where they are put.
    fn add_together(
        &self,
        turn: u32,
        vectors: &[usize],
        sum: &mut [f32],
        wait: &mut Wait<'_>,
    ) -> Result<(), Broken> {
        let (length, place) = (sum.len(), self.slot(turn, self.size));
        let own: Range<usize> = share(length, self.rank, self.size);
        self.add_up(turn, vectors, (length, own.start), &mut sum[own.clone()]);
        // SAFETY: a piece fits a slot. Each process writes its own part of the sum's slot alone, which the others read two turns
        // ago at the latest.
        unsafe {
            let to = place.add(own.start);
            std::ptr::copy_nonoverlapping(sum[own.clone()].as_ptr(), to, own.len());
        }
        Self::say(&self.line(self.rank).added, turn);
        self.wait_for(turn, |line| &line.added, wait)?;
        for part in [0..own.start, own.end..length] {
            // SAFETY: all parts of this turn are there, and nobody writes to them before two turns have passed.
            let from = unsafe { std::slice::from_raw_parts(place.add(part.start), part.len()) };
            sum[part].copy_from_slice(from);
        }
        Ok(())
    }

    /// The sum of all vectors of this turn, of `length` elements, from `start` on.
    fn add_up(
        &self,
        turn: u32,
        vectors: &[usize],
        (length, start): (usize, usize),
        sum: &mut [f32],
    ) {
        assert!(start + sum.len() <= length);
        for (block, to) in sum.chunks_mut(BLOCK).enumerate() {
            let mut first = true;
            for (rank, &count) in vectors.iter().enumerate() {
                assert!(count * length <= self.slot);
                for number in 0..count {
                    let at = number * length + start + block * BLOCK;
                    // SAFETY: the vectors of `rank` lie in its slot one after the other, which all processes have filled in this
                    // turn, and which none writes to before two turns have passed. `at` and what follows are in the slot.
                    let from = unsafe {
                        std::slice::from_raw_parts(self.slot(turn, rank).add(at), to.len())
                    };
                    if first {
                        // As in one process: 0 + -0 would be another bit.
                        to.copy_from_slice(from);
                    } else {
                        to.iter_mut().zip(from).for_each(|(to, value)| *to += value);
                    }
                    first = false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use headstart::collective::{Alone, Collective};

    use super::*;

    /// Runs `work` on a thread for each process.
    fn among<T: Send>(size: usize, work: impl Fn(&mut Near) -> T + Sync) -> Vec<T> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes(size) as u64).unwrap();
        thread::scope(|scope| {
            let run = |rank: usize| {
                let memory = memmap2::MmapOptions::new().len(bytes(size)).map_raw(&file).unwrap();
                let work = &work;
                scope.spawn(move || work(&mut Near::of(memory, rank, size).unwrap()))
            };
            let all: Vec<_> = (0..size).map(run).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        })
    }

    fn yields() -> bool {
        thread::yield_now();
        false
    }

    #[test]
    fn sums_are_those_of_one_process_bit_for_bit() {
        for size in [1, 2, 3, 4, 7] {
            // More than one piece, pieces of a part, and processes without vectors.
            for (count, length) in [(1, 5), (size, 1), (size + 2, 3 * slot(size) / 2 + 11), (9, 7)]
            {
                let value = |r: usize, i: usize| {
                    ((r * 7919 + i * 104_729) % 4093) as f32 * [1e-6, 1.0, -3e4][(r + i) % 3] - 0.0
                };
                let vectors: Vec<Vec<f32>> =
                    (0..count).map(|r| (0..length).map(|i| value(r, i)).collect()).collect();
                let all: Vec<&[f32]> = vectors.iter().map(|v| &v[..]).collect();
                let mut expected = vec![0.0; length];
                Alone.all_reduce(&all, &mut expected).unwrap();
                let counts: Vec<usize> = (0..size).map(|r| share(count, r, size).len()).collect();
                let sums = among(size, |near| {
                    let own = &all[share(count, near.rank, size)];
                    let mut sum = vec![f32::NAN; length];
                    // Again and again over the same slots.
                    for call in 0..5 {
                        let said = near.gather([own.len() as u64, call, 7], &mut yields).unwrap();
                        let wanted: Vec<_> = counts.iter().map(|&n| [n as u64, call, 7]).collect();
                        assert_eq!(said, wanted);
                        near.sum(own, &counts, &mut sum, &mut yields).unwrap();
                    }
                    sum
                });
                let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(sums.iter().all(|sum| bits(sum) == bits(&expected)), "{size} {count}");
            }
        }
    }

    #[test]
    fn who_waits_for_one_that_is_gone_gives_up() {
        let ends = among(2, |near| match near.rank {
            0 => near.gather([1, 2, 3], &mut || true).unwrap_err() == Broken::GivenUp,
            _ => true,
        });
        assert_eq!(ends, [true, true]);
    }
}
