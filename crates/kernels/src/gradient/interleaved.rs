//! Operands of the kernel gradient, packed by pixels or pairs of them.

use crate::buffer::Buffer;
use crate::element::Element;
use crate::isa::Isa;
use crate::simd::vectorize;

/// Rows of some pixels: single ones, or pairs of pixels with both values of a channel side by side.
pub(crate) struct Interleaved<E> {
    memory: Buffer,
    zeros: Vec<E>,
    pub unit: usize,
    /// Elements from one pixel or pair to the next.
    pub stride: usize,
    /// Where the first pixel starts.
    start: usize,
}

impl<E: Element> Interleaved<E> {
    fn new(pixels: usize, width: usize, unit: usize, stride: usize, start: usize) -> Self {
        assert!(unit == 1 || unit == 2, "kernels take single pixels or pairs");
        let elements = start + pixels.div_ceil(unit) * stride;
        let memory = Buffer::zeros((elements * E::DTYPE.bytes()).div_ceil(size_of::<f32>()));
        Interleaved { memory, zeros: vec![E::default(); width], unit, stride, start }
    }

    /// Room for `pixels` rows of the output gradient, as the tile reads them. A pixel is packed for all panels
    /// before the next: panels of a power of two bytes, side by side, would share few cache sets.
    pub fn panel(pixels: usize, nr: usize, unit: usize, panel: usize) -> Interleaved<E> {
        let line = 64 / E::DTYPE.bytes();
        Interleaved::new(pixels, nr, unit, nr * unit, panel % 32 * line)
    }

    /// Room for `pixels` rows of `width` elements of the input.
    pub fn input(pixels: usize, width: usize, unit: usize) -> Interleaved<E> {
        // An odd number of cache lines: with a power of two all pixels would share few cache sets.
        let line = 64 / E::DTYPE.bytes();
        Interleaved::new(pixels, width, unit, ((width * unit).div_ceil(line) | 1) * line, 0)
    }

    /// Elements from one pixel or pair to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// What was packed.
    pub fn view(&self) -> &[E] {
        &E::view(&self.memory)[self.start..]
    }

    /// Packs `count` rows; a last single pixel is paired with zeros.
    pub fn fill<'r>(&mut self, isa: Isa, count: usize, row: impl Fn(usize) -> &'r [E])
    where
        E: 'r,
    {
        let unit = self.unit;
        vectorize!(isa, {
            for i in 0..count.div_ceil(unit) {
                let at = i * unit;
                self.put(i, row(at), (at + 1 < count).then(|| row(at + 1)));
            }
        });
    }

    /// Packs one row, or a pair of them; zeros stand for a missing second. Elements beyond a short row keep
    /// their zeros.
    #[inline(always)]
    pub fn put(&mut self, i: usize, first: &[E], second: Option<&[E]>) {
        let at = self.start + i * self.stride;
        let to = &mut E::view_mut(&mut self.memory)[at..][..self.stride];
        if self.unit == 1 {
            to[..first.len()].copy_from_slice(first);
            return;
        }
        pair(first, second.unwrap_or(&self.zeros), to);
    }
}

/// Writes the elements of two rows side by side.
#[inline(always)]
pub(super) fn pair<E: Element>(first: &[E], second: &[E], to: &mut [E]) {
    for ((to, &a), &b) in to.chunks_exact_mut(2).zip(first).zip(second) {
        to[0] = a;
        to[1] = b;
    }
}
