//! Memory of a device: flat addresses over buffers that are no larger than the device allows.

use std::fmt;

use crate::context::Context;
use crate::error::{GpuError, Result};

/// Tensors begin at multiples of this many bytes, as WebGPU lets kernels see parts of buffers.
pub const ALIGNMENT: u64 = 256;

/// What the elements of a tensor are stored as. Kernels compute in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Store {
    /// 32-bit float.
    #[default]
    F32,
    /// IEEE 754 half precision, where [`Adapter::half`](crate::Adapter::half).
    F16,
}

impl Store {
    /// Bytes of an element.
    pub fn bytes(self) -> u64 {
        match self {
            Store::F32 => 4,
            Store::F16 => 2,
        }
    }
}

/// A part of a buffer.
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    pub(crate) buffer: wgpu::Buffer,
    /// Bytes from the buffer's start.
    pub offset: u64,
    /// Its length in bytes, a multiple of [`ALIGNMENT`].
    pub bytes: u64,
    /// What floats in it are stored as, from which the variant of a kernel follows.
    pub store: Store,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.offset, self.offset + self.bytes)
    }
}

impl Span {
    /// The same with floats stored otherwise.
    #[must_use]
    pub fn storing(self, store: Store) -> Span {
        Span { store, ..self }
    }

    /// The part that begins `offset` bytes after its start.
    ///
    /// # Errors
    /// If `offset` is no multiple of [`ALIGNMENT`], or it ends beyond the span.
    pub fn part(&self, offset: u64, bytes: u64) -> Result<Span> {
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        if !offset.is_multiple_of(ALIGNMENT) || offset + bytes > self.bytes {
            let expected =
                format!("inside of {} bytes, from a multiple of {ALIGNMENT}", self.bytes);
            return Err(GpuError::new("part", expected, format!("{bytes} from {offset}"), ""));
        }
        Ok(Span { offset: self.offset + offset, bytes, ..self.clone() })
    }
}

/// Gives tensors addresses so that none lies over the end of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    page: u64,
    end: u64,
}

impl Places {
    /// None yet, over buffers of at most `page` bytes.
    pub fn new(page: u64) -> Places {
        Places { page, end: 0 }
    }

    /// The address of the next tensor.
    ///
    /// # Errors
    /// If it is larger than a buffer may be.
    pub fn place(&mut self, bytes: u64) -> Result<u64> {
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        if bytes > self.page {
            return Err(too_large(bytes, self.page));
        }
        let left = self.page - self.end % self.page;
        let start = if left < bytes { self.end + left } else { self.end };
        self.end = start + bytes;
        Ok(start)
    }

    /// Bytes of all so far.
    pub fn end(&self) -> u64 {
        self.end
    }
}

fn too_large(bytes: u64, page: u64) -> GpuError {
    let (expected, found) = (format!("at most {page} bytes, a buffer's limit"), bytes.to_string());
    GpuError::new("bytes of a tensor", expected, found, "lower --batch-size or --image-size")
}

/// Addresses from 0 on over one or more buffers.
#[derive(Debug)]
pub struct Space {
    buffers: Vec<wgpu::Buffer>,
    page: u64,
}

impl Space {
    /// Takes `bytes` of memory, which is zero.
    ///
    /// # Errors
    /// If the device has not so much.
    pub fn new(context: &Context, bytes: u64) -> Result<Space> {
        let page = context.page();
        let mut buffers = Vec::new();
        let mut left = bytes.next_multiple_of(ALIGNMENT);
        while left > 0 {
            buffers.push(context.allocate(left.min(page))?);
            left -= left.min(page);
        }
        Ok(Space { buffers, page })
    }

    /// The part at an address that [`Places`] gave.
    ///
    /// # Errors
    /// If it is not inside of one buffer.
    pub fn span(&self, address: u64, bytes: u64) -> Result<Span> {
        let bytes = bytes.max(1).next_multiple_of(ALIGNMENT);
        let (index, offset) = ((address / self.page) as usize, address % self.page);
        match self.buffers.get(index).filter(|buffer| offset + bytes <= buffer.size()) {
            Some(buffer) => {
                Ok(Span { buffer: buffer.clone(), offset, bytes, store: Store::default() })
            }
            None => Err(too_large(bytes, self.page)),
        }
    }

    /// Each buffer as a whole.
    pub fn spans(&self) -> Vec<Span> {
        let whole = |b: &wgpu::Buffer| {
            let (buffer, store) = (b.clone(), Store::default());
            Span { buffer, offset: 0, bytes: b.size(), store }
        };
        self.buffers.iter().map(whole).collect()
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(wgpu::Buffer::size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tensor_lies_over_the_end_of_a_buffer() {
        let mut places = Places::new(1024);
        let at: Vec<u64> = [4, 512, 300, 1024, 1].map(|n| places.place(n).unwrap()).to_vec();
        assert_eq!(at, [0, 256, 1024, 2048, 3072]);
        assert_eq!(places.end(), 3328);
        assert!(places.place(1025).is_err());
    }
}
