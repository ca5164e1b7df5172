//! Softmax and categorical cross-entropy.

use super::{kernel, numbered, pass, source};
use crate::memory::Span;
use crate::program::Call;

/// `y = softmax(x)`, row by row.
pub fn softmax(rows: usize, classes: usize, x: &Span, y: &Span) -> Call {
    Call {
        kernel: kernel(source!("softmax"), vec![]),
        parameters: vec![classes as u32, rows as u32],
        bindings: numbered(&[x, y]),
        groups: rows as u32,
    }
}

/// What a batch is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// A class for each row.
    pub first: &'a Span,
    /// A second one.
    pub second: &'a Span,
    /// How much each class counts.
    pub weights: &'a Span,
    /// The second label's share of the loss.
    pub share: f32,
    /// Fraction of a label that is spread over all classes.
    pub smoothing: f32,
}

/// Where the parameters of [`gradient`] have the number that the gradient is divided by: of rows, or less where the loss is
/// scaled.
pub const GRADIENT_ROWS: usize = 3;
/// Where the parameters of [`gradient`] and of the first call of [`loss`] have the share of the second label, and after it
/// the smoothing.
pub const GRADIENT_SHARE: usize = 4;
/// As above.
pub const LOSS_SHARE: usize = 2;

/// The mean loss as bits and the number of hits, into the first two words of `result`; `losses` and `hits` hold one word a row.
pub fn loss(
    rows: usize,
    classes: usize,
    p: &Span,
    targets: Targets<'_>,
    [losses, hits]: [&Span; 2],
    result: &Span,
) -> [Call; 2] {
    let Targets { first, second, weights, share, smoothing } = targets;
    let each = Call {
        kernel: kernel(source!("loss"), vec![]),
        parameters: vec![rows as u32, classes as u32, share.to_bits(), smoothing.to_bits()],
        bindings: numbered(&[p, first, second, weights, losses, hits]),
        groups: rows.div_ceil(64) as u32,
    };
    let sum = Call {
        kernel: kernel(source!("loss_sum"), vec![]),
        parameters: vec![rows as u32],
        bindings: numbered(&[losses, hits, result]),
        groups: 1,
    };
    [each, sum]
}

/// The gradient of the mean loss with respect to the logits.
pub fn gradient(rows: usize, classes: usize, p: &Span, targets: Targets<'_>, dx: &Span) -> Call {
    let Targets { first, second, weights, share, smoothing } = targets;
    let count = rows as f32;
    let rest = [classes as u32, count.to_bits(), share.to_bits(), smoothing.to_bits()];
    let spans = [p, first, second, weights, dx];
    pass(kernel(source!("loss_gradient"), vec![]), rows * classes, &rest, &spans)
}
