//! Adapters to test on, and numbers.

#[path = "../../../headstart/tests/suite/support/skip.rs"]
mod skip;

use std::sync::{Arc, OnceLock};

use headstart_gpu::{Call, Choice, Context, Machine, Program, Space, Span, Store};
use headstart_kernels::element::F16;

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

/// How maps can be stored on a device.
pub fn stores(c: &Context) -> Vec<Store> {
    if c.adapter().half { vec![Store::F32, Store::F16] } else { vec![Store::F32] }
}

/// What is left of values that are stored so.
pub fn stored(values: Vec<f32>, store: Store) -> Vec<f32> {
    match store {
        Store::F32 => values,
        Store::F16 => values.into_iter().map(|v| F16::from_f32(v).to_f32()).collect(),
    }
}

/// Memory of a device that holds these values.
pub fn upload(c: &Context, values: &[f32]) -> Span {
    upload_as(c, values, Store::F32)
}

/// Memory of a device that stores these values so.
pub fn upload_as(c: &Context, values: &[f32], store: Store) -> Span {
    let span = room_as(c, values.len(), store);
    match store {
        Store::F32 => c.write_floats(&span, values).unwrap(),
        Store::F16 => {
            let halves = values.iter().flat_map(|&v| F16::from_f32(v).0.to_le_bytes());
            c.write(&span, &halves.collect::<Vec<u8>>()).unwrap();
        }
    }
    span
}

/// Memory for so many floats, all NaN: what a kernel does not write must not look like a result.
pub fn room(c: &Context, len: usize) -> Span {
    room_as(c, len, Store::F32)
}

/// The same for values that are stored so.
pub fn room_as(c: &Context, len: usize, store: Store) -> Span {
    let bytes = store.bytes() * len.max(1) as u64;
    let span = Space::new(c, bytes).unwrap().span(0, bytes).unwrap();
    // Its halves are half-precision NaN.
    c.write_floats(&span, &vec![f32::from_bits(0x7fc0_7fc0); span.bytes as usize / 4]).unwrap();
    span.storing(store)
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
    match span.store {
        Store::F32 => c.read_floats(span, len).unwrap(),
        Store::F16 => {
            let words = c.read_floats(span, len.div_ceil(2)).unwrap().into_iter().map(f32::to_bits);
            let halves = words.flat_map(|word| [word as u16, (word >> 16) as u16]);
            halves.take(len).map(|half| F16(half).to_f32()).collect()
        }
    }
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
    close_as(Store::F32, ours, reference, terms, what);
}

/// The same for values that are stored so: half precision rounds each to its nearest neighbour, which is 2^-11 of it away at
/// most, or half of the least number, 2^-24.
#[track_caller]
pub fn close_as(store: Store, ours: &[f32], reference: &[f64], terms: usize, what: &str) {
    let way = |v: &f64| match store {
        Store::F32 => 0.0,
        Store::F16 => (v.abs() * 2f64.powi(-11)).max(2f64.powi(-25)),
    };
    let square = |sum: f64, v: f64| sum + v * v;
    let norm = reference.iter().copied().fold(0.0, square).sqrt();
    let rounding = reference.iter().map(way).fold(0.0, square).sqrt();
    let rounding = if norm == 0.0 { rounding } else { rounding / norm };
    let bound = 2.0 * f64::from(f32::EPSILON) * (terms as f64).sqrt() + rounding;
    let found = distance(ours, reference);
    assert!(found <= bound, "{what}, {store:?}: {found:e} is not within {bound:e}");
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}
