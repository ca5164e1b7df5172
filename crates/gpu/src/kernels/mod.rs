//! The kernels: WGSL files, and what each is called with. Maps are `[images, height, width, channels]`, kernels of
//! convolutions `[height, width, in, out]`. Both, and the gradients of maps, are stored as their spans say; all else, and what
//! is computed on the way, is in f32.

pub mod check;
pub mod conv;
pub mod elementwise;
pub mod frame;
pub mod loss;
pub mod norm;
pub mod optim;
pub mod pool;
pub(crate) mod tile;
pub mod variants;

use crate::memory::Span;
use crate::program::{Call, Kernel};
use crate::template::Setting;

/// Names a WGSL file of this folder.
macro_rules! source {
    ($name:literal) => {
        ($name, include_str!(concat!($name, ".wgsl")))
    };
}
use source;

/// A variant of a file.
fn kernel((name, source): (&'static str, &'static str), settings: Vec<Setting>) -> Kernel {
    Kernel { name, source, settings }
}

/// Whether something is there, as a setting.
fn flag(is: bool) -> u32 {
    u32::from(is)
}

/// How a span's elements are stored, as a setting.
fn stored(span: &Span) -> u32 {
    span.store as u32
}

/// Threads of a workgroup of a kernel that passes over memory.
const THREADS: u32 = 256;
/// Workgroups of such a kernel at most; each thread then takes several elements.
const GROUPS: u32 = 8192;

/// A kernel that passes over `len` elements, whose parameters begin with their number and how many threads there are.
fn pass(kernel: Kernel, len: usize, rest: &[u32], bindings: &[&Span]) -> Call {
    let groups = (len as u32).div_ceil(THREADS).min(GROUPS);
    let mut parameters = vec![len as u32, groups * THREADS];
    parameters.extend_from_slice(rest);
    Call { kernel, parameters, bindings: numbered(bindings), groups }
}

/// Bindings from 1 on.
fn numbered(bindings: &[&Span]) -> Vec<(u32, Span)> {
    bindings.iter().enumerate().map(|(i, span)| (i as u32 + 1, (*span).clone())).collect()
}
