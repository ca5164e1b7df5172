//! What is said where the system has no more memory, as below `ulimit -v`.

use std::io::Write;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};

use headstart::memory::Allocator;

#[global_allocator]
static MEMORY: Allocator = Allocator(ends);

/// Ends the program with an error that is made without memory.
fn ends(bytes: usize) -> ! {
    static SAID: AtomicBool = AtomicBool::new(false);
    if SAID.swap(true, Ordering::SeqCst) {
        // Another thread is ending the program.
        loop {
            std::thread::park();
        }
    }
    let mut digits = [0; 20];
    let parts: [&[u8]; 3] = [
        b"\nerror: not enough memory: expected ",
        number(bytes, &mut digits),
        b" bytes more, found that the system gives none\nhint: lower --batch-size, --cache-memory or --threads, or raise \
          the limit on memory (ulimit -v); what was saved so far is still there\n",
    ];
    let mut out = std::io::stderr();
    for part in parts {
        let _ = out.write_all(part);
    }
    exit(1)
}

/// A number in digits, at the end of `digits`.
fn number(mut n: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0' + (n % 10) as u8;
        n /= 10;
        start -= 1;
        if n == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_memory() {
        for n in [0, 7, 10, 98_304, usize::MAX] {
            assert_eq!(number(n, &mut [0; 20]), n.to_string().as_bytes());
        }
    }
}
