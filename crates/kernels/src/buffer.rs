//! Memory aligned for vector loads.

use memmap2::MmapMut;

/// Floats in one cache line.
pub const LINE: usize = 16;

/// Blocks of at least this many floats ask for huge pages (4 MiB): with pages of 4 KiB a pass over memory waits for
/// their addresses.
const LARGE: usize = 1 << 20;

/// Floats, with those before the first whole line, that can be addressed.
const MOST: usize = isize::MAX as usize / size_of::<f32>() - LINE;

/// A zero-initialised block of `f32` that starts on a cache line. Memory that is never touched costs
/// nothing: the system hands out zeroed pages on first use.
#[derive(Default)]
pub struct Buffer {
    memory: Memory,
    /// Floats before the first whole line.
    start: usize,
    len: usize,
}

/// Where the floats lie.
enum Memory {
    Heap(Vec<f32>),
    Pages(MmapMut),
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::Heap(Vec::new())
    }
}

impl Buffer {
    /// `len` zeros.
    ///
    /// # Panics
    /// If this many floats cannot be addressed.
    pub fn zeros(len: usize) -> Buffer {
        if len == 0 {
            return Buffer::default();
        }
        assert!(len <= MOST, "a buffer of {len} floats is too long");
        if len >= LARGE
            && let Some(pages) = pages(len)
        {
            return Buffer { memory: Memory::Pages(pages), start: 0, len };
        }
        let floats = vec![0.0; len + LINE - 1];
        // An allocation of floats is aligned to a float, so the next line is fewer than LINE away.
        let start = floats.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        Buffer { memory: Memory::Heap(floats), start, len }
    }
}

/// Pages for `len` floats, huge ones where the system has them; `None` if it gives none.
fn pages(len: usize) -> Option<MmapMut> {
    let pages = MmapMut::map_anon(len * size_of::<f32>()).ok()?;
    // Advice only: without it everything is right and slower.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Some(pages)
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
        let start = match &self.memory {
            Memory::Heap(floats) => floats[self.start..].as_ptr(),
            Memory::Pages(pages) => pages.as_ptr().cast(),
        };
        // SAFETY: either memory holds `len` floats from there on, zeroed or written as floats, and pages
        // are aligned to more than a float.
        unsafe { std::slice::from_raw_parts(start, self.len) }
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let start = match &mut self.memory {
            Memory::Heap(floats) => floats[self.start..].as_mut_ptr(),
            Memory::Pages(pages) => pages.as_mut_ptr().cast(),
        };
        // SAFETY: as above; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(start, self.len) }
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
        for len in [0, 1, 15, 16, 17, 1000, LARGE - 1, LARGE + 1] {
            let zeros = Buffer::zeros(len);
            for b in [zeros.clone(), zeros] {
                assert_eq!(b.len(), len);
                assert!(len == 0 || (b.as_ptr() as usize).is_multiple_of(64));
                assert!(b.iter().all(|&x| x == 0.0));
            }
        }
    }
}
