//! Convolutions and dense layers, with both gradients.

use headstart_kernels::conv::ConvShape;

use super::tile::{DEPTH, Tile};
use super::{flag, kernel, pass, source, stored};
use crate::error::{GpuError, Result};
use crate::memory::Span;
use crate::program::Call;

/// What a convolution reads and writes beside its input, kernel and output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value for each output channel.
    pub bias: Option<&'a Span>,
    /// Is added, as long as the output.
    pub residual: Option<&'a Span>,
    /// Whether `max(y, 0)` follows.
    pub relu: bool,
}

/// The output pixels whose taps are the same, for a stride of `s` one of `s x s` parts; and these taps.
#[derive(Clone, Copy, Debug)]
struct Phase {
    /// Which pixels: every `spread`th from these on, and how many.
    from: [usize; 2],
    size: [usize; 2],
    /// First tap, and taps.
    first: [usize; 2],
    taps: [usize; 2],
    /// Taps of the phases before.
    before: usize,
}

/// The phases of the gradient of a convolution's input.
fn phases(s: &ConvShape) -> Vec<Phase> {
    let (stride, mut before, mut phases) = (s.stride(), 0, Vec::new());
    let taps = |first: usize| s.kernel().saturating_sub(first).div_ceil(stride);
    for y in 0..stride {
        for x in 0..stride {
            let first = [y, x].map(|at| (at + s.padding()) % stride);
            let taps = first.map(taps);
            let size = [s.height().saturating_sub(y), s.width().saturating_sub(x)]
                .map(|left| left.div_ceil(stride));
            phases.push(Phase { from: [y, x], size, first, taps, before });
            before += taps[0] * taps[1];
        }
    }
    phases
}

/// `y = max(conv(x, w) + bias + residual, 0)`; `w` is `[height, width, in, out]` and, as the residual, stored as `y` is.
pub fn forward(s: &ConvShape, x: &Span, w: &Span, y: &Span, epilogue: Epilogue<'_>) -> Call {
    let (rows, n) = (s.batch() * s.out_height() * s.out_width(), s.out_channels());
    let c = s.in_channels();
    let tile = Tile::choose(rows as u32, n as u32, 1);
    let [down, across] = tile.grid(rows as u32, n as u32);
    let Epilogue { bias, residual, relu } = epilogue;
    let mut settings = tile.by_terms();
    settings.extend([
        ("XV", flag(c.is_multiple_of(4))),
        ("WV", flag(n.is_multiple_of(4))),
        ("UP", flag(s.upsample() > 1)),
        ("BIAS", flag(bias.is_some())),
        ("RESIDUAL", flag(residual.is_some())),
        ("ADD", 0),
        ("RELU", flag(relu)),
        ("MASK", 0),
        ("x", stored(x)),
        ("y", stored(y)),
    ]);
    let padding = (s.padding() as i32).wrapping_neg() as u32;
    let words = [s.kernel() * s.kernel() * c, c, s.out_width(), s.out_height() * s.out_width()];
    let [k, c, out_across, out_pixels] = words.map(|word| word as u32);
    let up = s.upsample();
    let parameters = vec![
        rows as u32,
        n as u32,
        k,
        c,
        out_across,
        out_pixels,
        s.kernel() as u32,
        across,
        (s.height() * up) as u32,
        (s.width() * up) as u32,
        padding,
        padding,
        s.stride() as u32,
        1,
        up as u32,
        0,
        (s.height() * s.width()) as u32,
        s.width() as u32,
        out_pixels,
        out_across,
        1,
        0,
        0,
        down * across,
    ];
    let mut bindings = vec![(1, x.clone()), (2, w.clone()), (3, y.clone())];
    bindings.extend(bias.map(|span| (4, span.clone())));
    bindings.extend(residual.map(|span| (5, span.clone())));
    Call { kernel: kernel(source!("conv"), settings), parameters, bindings, groups: down * across }
}

/// The gradient of the input, from a kernel that [`transpose`] made. `add`: to what `dx` holds; `mask`: zero where this, a
/// ReLU's output as long as `dx`, is not positive.
///
/// # Errors
/// If the input is upsampled: pixels have no gradient.
pub fn input_gradient(
    s: &ConvShape,
    dy: &Span,
    w: &Span,
    dx: &Span,
    add: bool,
    mask: Option<&Span>,
) -> Result<Vec<Call>> {
    if s.upsample() > 1 {
        let found = format!("one upsampled by {}", s.upsample());
        return Err(GpuError::new("gradient of an input", "one of layers", found, ""));
    }
    let (n, c) = (s.in_channels(), s.out_channels());
    let calls = phases(s).into_iter().filter_map(|phase| {
        let [qh, qw] = phase.size;
        let rows = (s.batch() * qh * qw) as u32;
        if rows == 0 || (add && mask.is_none() && phase.taps.contains(&0)) {
            return None;
        }
        let tile = Tile::choose(rows, n as u32, 1);
        let [down, across] = tile.grid(rows, n as u32);
        let mut settings = tile.by_terms();
        settings.extend([
            ("XV", flag(c.is_multiple_of(4))),
            ("WV", flag(n.is_multiple_of(4))),
            ("UP", 0),
            ("BIAS", 0),
            ("RESIDUAL", 0),
            ("ADD", flag(add)),
            ("RELU", 0),
            ("MASK", flag(mask.is_some())),
            ("x", stored(dy)),
            ("y", stored(dx)),
        ]);
        let off = [0, 1].map(|i| (phase.from[i] + s.padding() - phase.first[i]) / s.stride());
        let parameters = [
            rows as usize,
            n,
            phase.taps[0] * phase.taps[1] * c,
            c,
            qw,
            qh * qw,
            phase.taps[1].max(1),
            across as usize,
            s.out_height(),
            s.out_width(),
            off[0],
            off[1],
            1,
            (-1i32) as u32 as usize,
            1,
            phase.before * c,
            s.out_height() * s.out_width(),
            s.out_width(),
            s.height() * s.width(),
            s.width(),
            s.stride(),
            phase.from[0],
            phase.from[1],
            (down * across) as usize,
        ];
        let mut bindings = vec![(1, dy.clone()), (2, w.clone()), (3, dx.clone())];
        bindings.extend(mask.map(|span| (6, span.clone())));
        Some(Call {
            kernel: kernel(source!("conv"), settings),
            parameters: parameters.map(|word| word as u32).to_vec(),
            bindings,
            groups: down * across,
        })
    });
    Ok(calls.collect())
}

/// The kernel as [`input_gradient`] reads it: taps in the order of its phases, `[taps, out, in]`; as long as the kernel and
/// stored as it is.
pub fn transpose(s: &ConvShape, w: &Span, to: &Span) -> Vec<Call> {
    let (inputs, outputs) = (s.in_channels(), s.out_channels());
    let phases = phases(s).into_iter().filter(|phase| !phase.taps.contains(&0));
    let calls = phases.map(|phase| {
        let rest = [
            inputs,
            outputs,
            s.kernel(),
            phase.first[0],
            phase.first[1],
            s.stride(),
            phase.taps[1],
            phase.before * outputs,
        ];
        let len = phase.taps[0] * phase.taps[1] * inputs * outputs;
        let kernel = kernel(source!("transpose"), vec![("x", stored(w))]);
        pass(kernel, len, &rest.map(|w| w as u32), &[w, to])
    });
    calls.collect()
}

/// How the sums of a kernel's gradient are shared.
struct Shared {
    tile: Tile,
    /// Parts of these pixels at most, or of fewer.
    most: usize,
    parts: usize,
    piece: usize,
}

/// Bytes of partial sums at most.
const PARTIAL: usize = 32 << 20;
/// Workgroups that fill a device.
const BUSY: u32 = 512;
/// Pixels of a part at least.
const LEAST: usize = 256;

fn shared(s: &ConvShape) -> Shared {
    let (m, n) = (s.kernel() * s.kernel() * s.in_channels(), s.out_channels());
    let pixels = s.batch() * s.out_height() * s.out_width();
    let most = pixels.div_ceil(LEAST).min((PARTIAL / (4 * m * n)).max(1));
    let tile = Tile::choose(m as u32, n as u32, most as u32);
    let [down, across] = tile.grid(m as u32, n as u32);
    let parts = (BUSY.div_ceil(down * across) as usize).clamp(1, most.max(1));
    let piece = pixels.div_ceil(parts).next_multiple_of(DEPTH as usize).max(DEPTH as usize);
    Shared { tile, most: parts, parts: pixels.div_ceil(piece).max(1), piece }
}

/// Floats of scratch memory that [`kernel_gradient`] needs for this shape, and for its first images.
pub fn kernel_gradient_scratch(s: &ConvShape) -> usize {
    match shared(s).most {
        1 => 0,
        parts => parts * s.kernel_len(),
    }
}

/// The gradient of the kernel into `dw`, in f32.
pub fn kernel_gradient(s: &ConvShape, x: &Span, dy: &Span, scratch: &Span, dw: &Span) -> Vec<Call> {
    let (c, n) = (s.in_channels(), s.out_channels());
    let m = s.kernel() * s.kernel() * c;
    let Shared { tile, parts, piece, .. } = shared(s);
    let [down, across] = tile.grid(m as u32, n as u32);
    let groups = down * across * parts as u32;
    let mut settings = tile.by_rows();
    settings.extend([
        ("XV", flag(c.is_multiple_of(4))),
        ("WV", flag(n.is_multiple_of(4))),
        ("UP", flag(s.upsample() > 1)),
        ("x", stored(x)),
        ("y", stored(dy)),
    ]);
    let up = s.upsample();
    let out_pixels = s.out_height() * s.out_width();
    let parameters = [
        m,
        n,
        s.batch() * out_pixels,
        piece,
        c,
        s.kernel(),
        across as usize,
        down as usize,
        out_pixels,
        s.out_width(),
        s.height() * s.width(),
        s.width(),
        s.height() * up,
        s.width() * up,
        s.stride(),
        s.padding(),
        up,
        groups as usize,
    ];
    let to = if parts == 1 { dw } else { scratch };
    let product = Call {
        kernel: kernel(source!("kernel_gradient"), settings),
        parameters: parameters.map(|word| word as u32).to_vec(),
        bindings: super::numbered(&[x, dy, to]),
        groups,
    };
    if parts == 1 {
        return vec![product];
    }
    let mut sum = pass(kernel(source!("sum_parts"), vec![]), m * n, &[], &[scratch, dw]);
    sum.parameters = vec![(m * n) as u32, parts as u32, sum.parameters[1]];
    vec![product, sum]
}

/// The binding that both kinds of products write to.
pub(crate) const OUTPUT: u32 = 3;

/// The number of the tile that a call runs in; none for one that is no matrix product.
pub(crate) fn tile_of(call: &Call) -> Option<usize> {
    matches!(call.kernel.name, "conv" | "kernel_gradient")
        .then(|| Tile::of(&call.kernel.settings))
        .flatten()
}

/// The same product, its sums taken in the same order, in another tile.
pub(crate) fn in_tile(call: &Call, tile: Tile) -> Call {
    let mut call = call.clone();
    let (settings, at) = match call.kernel.name {
        "conv" => (tile.by_terms(), [None, Some(7), Some(23)]),
        _ => (tile.by_rows(), [Some(7), Some(6), Some(17)]),
    };
    let [down_before, across_before] = [at[0], at[1]].map(|at| at.map(|at| call.parameters[at]));
    let [down, across] = tile.grid(call.parameters[0], call.parameters[1]);
    // Of a gradient's sum in parts each tile computes all.
    let parts = match (down_before, across_before) {
        (Some(down), Some(across)) => call.groups / (down * across).max(1),
        _ => 1,
    };
    let groups = down * across * parts;
    for (at, value) in at.into_iter().zip([down, across, groups]) {
        if let Some(at) = at {
            call.parameters[at] = value;
        }
    }
    for setting in &mut call.kernel.settings {
        if let Some(own) = settings.iter().find(|own| own.0 == setting.0) {
            *setting = *own;
        }
    }
    Call { groups, ..call }
}
