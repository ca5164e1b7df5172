//! Adapters to test on, and numbers.

#[path = "../../../headstart/tests/suite/support/skip.rs"]
mod skip;

use std::sync::{Arc, OnceLock};

use headstart_gpu::{Call, Choice, Context, Machine, Program, Space, Span};

/// Every adapter, opened once: kernels compile once.
pub fn contexts() -> &'static [Arc<Context>] {
    static ALL: OnceLock<Vec<Arc<Context>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let machine = Machine::look();
        if machine.adapters.is_empty() {
            skip::skipped(
                "kernels of crates/gpu: no adapter (apt install mesa-vulkan-drivers libvulkan1)",
            );
        }
        let open = |i| Arc::new(Context::open(Choice::Number(i)).unwrap());
        (0..machine.adapters.len()).map(open).collect()
    })
}

/// Uniform in -1..1.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Memory of a device that holds these values.
pub fn upload(c: &Context, values: &[f32]) -> Span {
    let span = room(c, values.len());
    c.write_floats(&span, values).unwrap();
    span
}

/// Memory for so many floats, all NaN: what a kernel does not write must not look like a result.
pub fn room(c: &Context, len: usize) -> Span {
    let bytes = 4 * len.max(1) as u64;
    let span = Space::new(c, bytes).unwrap().span(0, bytes).unwrap();
    c.write_floats(&span, &vec![f32::NAN; span.bytes as usize / 4]).unwrap();
    span
}

pub fn words(c: &Context, words: &[u32]) -> Span {
    let span = room(c, words.len());
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    c.write(&span, &bytes).unwrap();
    span
}

pub fn run(c: &Context, calls: &[Call]) {
    Program::new(c, calls).unwrap().run(c).unwrap();
}

pub fn read(c: &Context, span: &Span, len: usize) -> Vec<f32> {
    c.read_floats(span, len).unwrap()
}

/// Relative L2 distance; NaN if either holds one, and so above any bound.
pub fn distance(ours: &[f32], reference: &[f64]) -> f64 {
    assert_eq!(ours.len(), reference.len());
    let (mut error, mut norm) = (0.0, 0.0);
    for (&a, &b) in ours.iter().zip(reference) {
        error += (f64::from(a) - b).powi(2);
        norm += b * b;
    }
    if norm == 0.0 { error.sqrt() } else { (error / norm).sqrt() }
}

/// Fails unless the distance is what rounding of sums of `terms` makes of it; a NaN fails.
#[track_caller]
pub fn close(ours: &[f32], reference: &[f64], terms: usize, what: &str) {
    let bound = 2.0 * f64::from(f32::EPSILON) * (terms as f64).sqrt();
    let found = distance(ours, reference);
    assert!(found <= bound, "{what}: {found:e} is not within {bound:e}");
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}
