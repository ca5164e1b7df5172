//! Waiting for a number in memory that processes share to change, without asking again and again.

use std::sync::atomic::AtomicU32;

/// Waits until `word` is no longer `value`, or some milliseconds are over.
#[cfg(target_os = "linux")]
pub fn while_it_is(word: &AtomicU32, value: u32) {
    use rustix::thread::futex::{Flags, Timespec, wait};

    let most = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    // Whatever ends it, the caller looks again.
    let _ = wait(word, Flags::empty(), value, Some(&most));
}

/// Wakes those who wait for `word` to change.
#[cfg(target_os = "linux")]
pub fn changed(word: &AtomicU32) {
    use rustix::thread::futex::{Flags, wake};

    let _ = wake(word, Flags::empty(), i32::MAX as u32);
}

#[cfg(not(target_os = "linux"))]
pub fn while_it_is(_word: &AtomicU32, _value: u32) {
    std::thread::sleep(std::time::Duration::from_micros(50));
}

#[cfg(not(target_os = "linux"))]
pub fn changed(_word: &AtomicU32) {}
