//! Memory that is kept for the next step.

/// Makes the C library keep what is freed: sums of gradients take and free hundreds of megabytes in every step, and the system would
/// take each page back and clear it again. Nothing where the C library is not glibc.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;

        /// Numbers of glibc's `malloc.h`.
        const TRIM_THRESHOLD: c_int = -1;
        const MMAP_THRESHOLD: c_int = -3;

        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        // SAFETY: `mallopt` of these parameters only sets numbers of the allocator, under its lock. 32 MiB are the most that it
        // takes as the first.
        unsafe {
            mallopt(MMAP_THRESHOLD, 32 << 20);
            mallopt(TRIM_THRESHOLD, c_int::MAX);
        }
    }
}
