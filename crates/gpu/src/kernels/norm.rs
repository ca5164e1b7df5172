//! Batch norms (Ioffe and Szegedy 2015) over rows of `channels` values. The state of one are four rows: mean, variance, and
//! the scale and shift with which it is `x * scale + shift`.

use super::{flag, kernel, numbered, pass, source, stored};
use crate::memory::Span;
use crate::program::Call;

/// Pieces of the rows at most, and rows of a piece at least.
const PIECES: usize = 512;
const LEAST: usize = 64;

/// Rows and channels of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Pixels of all images.
    pub rows: usize,
    /// Values of each.
    pub channels: usize,
}

impl Rows {
    fn len(self) -> usize {
        self.rows * self.channels
    }

    /// Rows of a piece, and pieces.
    fn pieces(self) -> (usize, usize) {
        let piece = self.rows.div_ceil(PIECES).max(LEAST);
        (piece, self.rows.div_ceil(piece))
    }

    /// Floats of scratch memory that sums over these rows, or over fewer, need.
    pub fn scratch(self) -> usize {
        self.rows.div_ceil(LEAST).min(PIECES) * 2 * self.channels
    }
}

/// Which sums `column_sums` takes.
#[derive(Clone, Copy, PartialEq)]
enum Sums {
    Statistics,
    Gradients,
    Plain,
}

fn sums(of: Sums, rows: Rows, bindings: &[&Span]) -> Call {
    let (piece, pieces) = rows.pieces();
    let tiles = rows.channels.div_ceil(32);
    let settings = vec![
        ("STATISTICS", flag(of == Sums::Statistics)),
        ("GRADIENTS", flag(of == Sums::Gradients)),
        ("PLAIN", flag(of == Sums::Plain)),
        ("x", stored(bindings[0])),
    ];
    let words = [rows.rows, rows.channels, piece, tiles, tiles * pieces];
    Call {
        kernel: kernel(source!("column_sums"), settings),
        parameters: words.map(|word| word as u32).to_vec(),
        bindings: numbered(bindings),
        groups: (tiles * pieces) as u32,
    }
}

/// The sum over the rows of `x`, as the gradient of a bias.
pub fn column_sums(rows: Rows, x: &Span, scratch: &Span, y: &Span) -> Vec<Call> {
    let (_, pieces) = rows.pieces();
    let mut sum = pass(kernel(source!("sum_parts"), vec![]), rows.channels, &[], &[scratch, y]);
    sum.parameters = vec![rows.channels as u32, pieces as u32, sum.parameters[1]];
    vec![sums(Sums::Plain, rows, &[x, scratch]), sum]
}

/// A batch norm's parameters and settings.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Scale, shift and the moving statistics, `[channels]` each.
    pub gamma: &'a Span,
    /// As above.
    pub beta: &'a Span,
    /// As above.
    pub moving_mean: &'a Span,
    /// As above.
    pub moving_variance: &'a Span,
    /// Added to the variance.
    pub epsilon: f32,
    /// Weight of the old moving average.
    pub momentum: f32,
    /// Whether the moving variance follows the batch's unbiased variance.
    pub unbiased: bool,
}

/// Where the parameters of the second call of [`statistics`] say whether the moving statistics follow.
pub const MOVES: usize = 6;

/// The statistics of a batch, into `state`; the moving ones follow.
pub fn statistics(
    rows: Rows,
    x: &Span,
    scratch: &Span,
    state: &Span,
    layer: Layer<'_>,
) -> [Call; 2] {
    let n = rows.rows as f32;
    let unbias = if layer.unbiased && rows.rows > 1 { n / (n - 1.0) } else { 1.0 };
    let spans =
        [x, scratch, state, layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance];
    let finish = Call {
        kernel: kernel(source!("norm_statistics"), vec![("x", stored(x))]),
        parameters: vec![
            rows.channels as u32,
            rows.pieces().1 as u32,
            n.to_bits(),
            layer.epsilon.to_bits(),
            layer.momentum.to_bits(),
            unbias.to_bits(),
            1,
        ],
        bindings: numbered(&spans),
        groups: rows.channels.div_ceil(64) as u32,
    };
    [sums(Sums::Statistics, rows, &[x, scratch]), finish]
}

/// `y = x * scale + shift`, plus `residual`, then `max(y, 0)` with `relu`.
pub fn apply(
    rows: Rows,
    x: &Span,
    state: &Span,
    residual: Option<&Span>,
    relu: bool,
    y: &Span,
) -> Call {
    let by = if rows.channels.is_multiple_of(4) { 4 } else { 1 };
    let settings = vec![
        ("V", flag(by == 4)),
        ("RESIDUAL", flag(residual.is_some())),
        ("RELU", flag(relu)),
        ("x", stored(x)),
    ];
    let mut spans = vec![x, y, state];
    spans.extend(residual);
    let channels = (rows.channels / by) as u32;
    pass(kernel(source!("norm_apply"), settings), rows.len() / by, &[channels], &spans)
}

/// Gradients of gamma and beta.
pub fn gradients(
    rows: Rows,
    x: &Span,
    dy: &Span,
    scratch: &Span,
    (state, epsilon): (&Span, f32),
    [dgamma, dbeta]: [&Span; 2],
) -> [Call; 2] {
    let (channels, pieces) = (rows.channels as u32, rows.pieces().1 as u32);
    let finish = Call {
        kernel: kernel(source!("norm_gradients"), vec![]),
        parameters: vec![channels, pieces, epsilon.to_bits()],
        bindings: numbered(&[scratch, state, dgamma, dbeta]),
        groups: rows.channels.div_ceil(64) as u32,
    };
    // The mean is the first row of the state.
    [sums(Sums::Gradients, rows, &[x, scratch, dy, state]), finish]
}

/// The gradient of the input, where the statistics are the batch's; `dy` where it is not `dx` itself.
pub fn input_gradient(
    rows: Rows,
    x: &Span,
    (state, epsilon): (&Span, f32),
    [gamma, dgamma, dbeta]: [&Span; 3],
    dy: Option<&Span>,
    dx: &Span,
) -> Call {
    let share = 1.0 / rows.rows as f32;
    let rest = [rows.channels as u32, share.to_bits(), epsilon.to_bits()];
    let settings = vec![("APART", flag(dy.is_some())), ("FROZEN", 0), ("x", stored(dx))];
    let mut call = pass(kernel(source!("norm_input"), settings), rows.len(), &rest, &[dx, state]);
    call.bindings.extend(dy.map(|dy| (3, dy.clone())));
    let others = [(4, x), (5, gamma), (6, dgamma), (7, dbeta)];
    call.bindings.extend(others.map(|(binding, span)| (binding, span.clone())));
    call
}

/// The gradient of the input, where the statistics are fixed.
pub fn frozen_input_gradient(rows: Rows, state: &Span, dy: Option<&Span>, dx: &Span) -> Call {
    let rest = [rows.channels as u32, 0, 0];
    let settings = vec![("APART", flag(dy.is_some())), ("FROZEN", 1), ("x", stored(dx))];
    let mut call = pass(kernel(source!("norm_input"), settings), rows.len(), &rest, &[dx, state]);
    call.bindings.extend(dy.map(|dy| (3, dy.clone())));
    call
}
