//! Ctrl-C: the first asks the command to stop after saving, the second ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};

use headstart::inference::Control;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C (and termination) only sets a flag.
pub fn watch() {
    // Without a handler Ctrl-C ends the program, which loses at most what came after the last checkpoint.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
}

/// `Stop` after Ctrl-C.
pub fn control() -> Control {
    if REQUESTED.load(Ordering::SeqCst) { Control::Stop } else { Control::Continue }
}
