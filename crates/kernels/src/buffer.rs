//! Memory aligned for vector loads.

/// Floats in one cache line.
pub const LINE: usize = 16;

/// A zero-initialised block of `f32` that starts on a cache line. Memory that is never touched costs
/// nothing: the system hands out zeroed pages on first use.
#[derive(Default)]
pub struct Buffer {
    /// The block, after as many floats as lie before the first whole line.
    floats: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Buffer {
        if len == 0 {
            return Buffer::default();
        }
        let floats = vec![0.0; len + LINE - 1];
        // An allocation of floats is aligned to a float, so the next line is fewer than LINE away.
        let start = floats.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        Buffer { floats, start, len }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let mut copy = Buffer::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.floats[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats[self.start..self.start + self.len]
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} floats)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_aligned_and_of_the_asked_length() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let zeros = Buffer::zeros(len);
            for b in [zeros.clone(), zeros] {
                assert_eq!(b.len(), len);
                assert!(len == 0 || (b.as_ptr() as usize).is_multiple_of(64));
                assert!(b.iter().all(|&x| x == 0.0));
            }
        }
    }
}
