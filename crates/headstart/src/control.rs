//! What a callback returns.

/// Whether to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Continue.
    Continue,
    /// Stop here: no further event follows, and what can be resumed is saved.
    Stop,
}

/// Asks a callback whether to continue, until it stops, and not again after that.
#[derive(Debug, Default)]
pub(crate) struct UntilStop {
    stopped: bool,
}

impl UntilStop {
    /// What the callback returns, or returned.
    pub fn ask(&mut self, callback: impl FnOnce() -> Control) -> Control {
        if !self.stopped {
            self.stopped = callback() == Control::Stop;
        }
        self.answer()
    }

    /// What it returned last.
    pub fn answer(&self) -> Control {
        if self.stopped { Control::Stop } else { Control::Continue }
    }
}
