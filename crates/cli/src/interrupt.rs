//! Ctrl-C, and the signals that end a program (SIGTERM of a scheduler, SIGHUP of a terminal that closes): the first asks the
//! command to stop after saving, the second ends it at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use headstart::inference::Control;

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// Whether the first signal ends the program at once.
static AT_ONCE: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on the first signal ends the program: it may wait for another one, and has nothing to save.
pub fn end_at_once() {
    AT_ONCE.store(true, Ordering::SeqCst);
}

/// From now on such a signal only sets a flag. Without a handler it ends the program, which loses at most what came after
/// the last checkpoint.
#[cfg(unix)]
pub fn watch() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::flag::{register, register_conditional_shutdown};

    // A second shutdown would see the flag of the first signal, and end the program at once.
    static WATCHING: std::sync::Once = std::sync::Once::new();
    WATCHING.call_once(|| {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if stays_ignored(signal, &ignored()) {
                continue;
            }
            // The shutdown comes first, so that it sees whether there was a signal before this one.
            let _ = register_conditional_shutdown(signal, 130, REQUESTED.clone());
            let _ = register_conditional_shutdown(signal, 130, AT_ONCE.clone());
            let _ = register(signal, REQUESTED.clone());
        }
    });
}

/// The signals that were ignored when the program started, as Linux says; none elsewhere.
#[cfg(unix)]
fn ignored() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    (1..=64).filter(|signal| mask >> (signal - 1) & 1 == 1).collect()
}

/// Whether a signal that was ignored at the start was meant to be: SIGHUP by `nohup`, SIGINT by `trap '' INT`. SIGINT together
/// with SIGQUIT is what a script's shell does to every command that it starts with `&`, so that a signal sent to such a
/// command by name still saves. SIGTERM always does.
#[cfg(unix)]
fn stays_ignored(signal: i32, ignored: &[i32]) -> bool {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT};

    match signal {
        SIGHUP => ignored.contains(&SIGHUP),
        SIGINT => ignored.contains(&SIGINT) && !ignored.contains(&SIGQUIT),
        _ => false,
    }
}

/// From now on Ctrl-C only sets a flag. Without a handler it ends the program, which loses at most what came after the last
/// checkpoint.
#[cfg(not(unix))]
pub fn watch() {
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) || AT_ONCE.load(Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
}

/// Whether there was such a signal.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// `Stop` after such a signal.
pub fn control() -> Control {
    if requested() { Control::Stop } else { Control::Continue }
}
