//! Ctrl-C: the first asks the command to stop at a good place, the second ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

use headstart::inference::Control;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C (and termination) only sets a flag.
pub fn watch() {
    // Without a handler Ctrl-C ends the program, which loses at most the epoch at hand.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
}

/// Whether to go on.
pub fn control() -> Control {
    if REQUESTED.load(Ordering::SeqCst) { Control::Stop } else { Control::Continue }
}
