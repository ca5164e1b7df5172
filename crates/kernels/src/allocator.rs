//! The system's allocator, with a say in what happens where it has no more memory.

use std::alloc::{GlobalAlloc, Layout, System};

/// [`System`], but calls a function where there is no memory, before Rust would abort the program with a text of its own. The
/// function gets the bytes that were asked for. It must not allocate, and does not return: a program that wants to go on has
/// to ask for its memory in another way.
#[derive(Clone, Copy, Debug)]
pub struct Allocator(pub fn(usize) -> !);

impl Allocator {
    /// A block that was given, or the end of the program.
    fn given(&self, block: *mut u8, bytes: usize) -> *mut u8 {
        match block.is_null() {
            true => (self.0)(bytes),
            false => block,
        }
    }
}

// SAFETY: every call goes on to `System` as it is, which keeps the contract; the only change is that a null block is never
// returned.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is that of `System`.
        self.given(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        self.given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; `block` is from `System`, as every block is.
        self.given(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
