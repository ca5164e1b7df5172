//! From gradients to weights. All tensors lie one after the other, each at a multiple of [`BLOCK`] floats.

use super::{flag, kernel, numbered, pass, source};
use crate::memory::Span;
use crate::program::Call;

/// Floats that share a learning rate and a weight decay.
pub const BLOCK: usize = 64;

/// Floats whose squares one workgroup adds up.
const PIECE: usize = 1 << 14;

/// Sums of squares that [`square_sums`] leaves for `len` floats.
pub fn square_parts(len: usize) -> usize {
    len.div_ceil(PIECE)
}

/// Sums of squares of gradients, clipped to `clip` where it is given, into `parts` from number `to` on.
pub fn square_sums(len: usize, clip: Option<f32>, g: &Span, to: usize, parts: &Span) -> Call {
    let groups = square_parts(len) as u32;
    let most = clip.unwrap_or_default().to_bits();
    Call {
        kernel: kernel(source!("square_sum"), vec![("CLIP", flag(clip.is_some()))]),
        parameters: vec![len as u32, PIECE as u32, groups, to as u32, most],
        bindings: numbered(&[g, parts]),
        groups,
    }
}

/// The factor that brings the global norm, the root of the sum of the first `parts`, to at most `most`.
pub fn clip_factor(parts: usize, most: f32, from: &Span, factor: &Span) -> Call {
    Call {
        kernel: kernel(source!("clip_factor"), vec![]),
        parameters: vec![parts as u32, most.to_bits()],
        bindings: numbered(&[from, factor]),
        groups: 1,
    }
}

/// Where the parameters of [`unscale`] have the factor.
pub const UNSCALE: usize = 4;

/// Multiplies `len` gradients by `factor` and leaves in `counts`, from number `to` on, how many of each piece are not finite:
/// [`square_parts`] of them.
pub fn unscale(len: usize, factor: f32, g: &Span, to: usize, counts: &Span) -> Call {
    let groups = square_parts(len) as u32;
    Call {
        kernel: kernel(source!("unscale"), vec![]),
        parameters: vec![len as u32, PIECE as u32, groups, to as u32, factor.to_bits()],
        bindings: numbered(&[g, counts]),
        groups,
    }
}

/// The sum of `parts` counts into word `to` of `result`.
pub fn count(parts: usize, counts: &Span, to: usize, result: &Span) -> Call {
    Call {
        kernel: kernel(source!("count"), vec![]),
        parameters: vec![parts as u32, to as u32],
        bindings: numbered(&[counts, result]),
        groups: 1,
    }
}

/// A rule, without its learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `m = momentum m - rate g; w += m`
    Sgd {
        /// Fraction of the last step that is repeated.
        momentum: f32,
        /// Nesterov's variant.
        nesterov: bool,
    },
    /// `v = rho v + (1 - rho) g^2; w -= rate g / sqrt(v + epsilon)`
    RmsProp {
        /// Decay of the mean square.
        rho: f32,
        /// Added under the root.
        epsilon: f32,
    },
    /// `m += (1 - beta_1) (g - m); v += (1 - beta_2) (g^2 - v); w -= rate unbias m / (sqrt(v) + epsilon)`
    Adam {
        /// Decay of the mean gradient.
        beta_1: f32,
        /// Decay of the mean square.
        beta_2: f32,
        /// Added to the root.
        epsilon: f32,
    },
}

/// What one update reads and writes; all spans are as long as the weights.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The weights.
    pub w: &'a Span,
    /// Their gradients.
    pub g: &'a Span,
    /// For each block of all tensors its factor on the learning rate, below 0 where nothing trains, and its weight decay.
    pub blocks: &'a Span,
    /// The block of the first weight.
    pub first_block: usize,
    /// What the rule remembers.
    pub memory: [&'a Span; 2],
    /// Gradients are clipped to this.
    pub clip: Option<f32>,
    /// The factor of [`clip_factor`], and whether it counts.
    pub factor: (&'a Span, bool),
}

/// Updates `len` weights at this learning rate; `unbias` is what takes the bias of Adam's young means off.
pub fn update(rule: Rule, len: usize, rate: f32, unbias: f32, of: Update<'_>) -> Call {
    let (one, two, epsilon) = match rule {
        Rule::Sgd { momentum, .. } => (momentum, 0.0, 0.0),
        Rule::RmsProp { rho, epsilon } => (rho, 0.0, epsilon),
        Rule::Adam { beta_1, beta_2, epsilon } => (beta_1, beta_2, epsilon),
    };
    let (sgd, adam) = (matches!(rule, Rule::Sgd { .. }), matches!(rule, Rule::Adam { .. }));
    let settings = vec![
        ("SGD", flag(sgd)),
        ("NESTEROV", flag(matches!(rule, Rule::Sgd { nesterov: true, .. }))),
        ("RMSPROP", flag(matches!(rule, Rule::RmsProp { .. }))),
        ("ADAM", flag(adam)),
        ("CLIP", flag(of.clip.is_some())),
        ("NORM", flag(of.factor.1)),
    ];
    let most = of.clip.unwrap_or_default();
    let floats = [rate, one, two, epsilon, unbias, most].map(f32::to_bits);
    let mut rest = vec![of.first_block as u32];
    rest.extend(floats);
    let spans = [of.w, of.g, of.blocks, of.factor.0, of.memory[0]];
    let mut call = pass(kernel(source!("update"), settings), len, &rest, &spans);
    if adam {
        call.bindings.push((6, of.memory[1].clone()));
    }
    call
}

/// `average = keep average + (1 - keep) w`
pub fn moving_average(len: usize, keep: f32, w: &Span, average: &Span) -> Call {
    pass(kernel(source!("moving_average"), vec![]), len, &[keep.to_bits()], &[w, average])
}
