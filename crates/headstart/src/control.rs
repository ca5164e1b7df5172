//! What a callback returns.

/// Whether to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Continue.
    Continue,
    /// Stop as soon as everything can be saved.
    Stop,
}
