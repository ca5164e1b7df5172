//! Asking for memory before it is read.

/// Bytes of a block of memory that is asked for at a time: two cache lines.
const BLOCK: usize = 128;

/// Asks for a block of memory, which need not exist, where the target has such a hint.
#[inline(always)]
pub(crate) fn prefetch(start: *const u8) {
    for at in (0..BLOCK).step_by(64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is x86-64's baseline, and the hint reads nothing.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at).cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = start.wrapping_add(at);
    }
}

/// Appends where the blocks of some rows of elements start, for [`prefetch`]: the first of each row, then the second, in
/// the order in which a tile reads them.
#[inline(always)]
pub(crate) fn blocks_of<E>(
    rows: impl Iterator<Item = *const E> + Clone,
    elements: usize,
    list: &mut Vec<*const u8>,
) {
    for at in (0..elements * size_of::<E>()).step_by(BLOCK) {
        list.extend(rows.clone().map(|row| row.cast::<u8>().wrapping_add(at)));
    }
}
