//! A guard around code of other crates that reads foreign bytes: a panic in it is an error, not the end of the
//! process, and prints nothing. What such code may take in memory and time is bounded before it is called.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// How many guards this thread is inside of.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

/// Takes this thread out of a guard however the guard is left.
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        INSIDE.with(|inside| inside.set(inside.get().saturating_sub(1)));
    }
}

/// Runs `read`; if it panics, what the panic says is the error. What it had borrowed must not be used then.
///
/// The first call puts a hook before the process's panic hook, which leaves out the panics of threads that are inside a
/// guard. It does not catch a stack that overflows or memory that runs out.
pub(crate) fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |about| {
            if INSIDE.try_with(Cell::get).unwrap_or(0) == 0 {
                usual(about);
            }
        }));
    });
    INSIDE.with(|inside| inside.set(inside.get() + 1));
    let _leave = Leave;
    panic::catch_unwind(AssertUnwindSafe(read)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "a panic without a message".to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_guard_is_left() {
        let inside = || INSIDE.with(Cell::get);
        assert_eq!(guarded(|| inside() + 1), Ok(2));
        let bad = "a defect";
        assert_eq!(
            guarded(|| -> u8 { panic!("{bad} of another crate") }),
            Err("a defect of another crate".into())
        );
        assert_eq!(guarded(|| -> u8 { panic!("plain") }), Err("plain".into()));
        let nested = guarded(|| (guarded(|| -> u8 { panic!("inner") }), inside()));
        assert_eq!(nested, Ok((Err("inner".into()), 1)));
        assert_eq!(inside(), 0);
    }
}
