//! What a callback answers.

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Stop here: nothing more is told, and what was done is kept as far as it can be gone on from.
    Stop,
}

/// Asks a callback whether to go on until it says to stop, and not again after.
#[derive(Debug, Default)]
pub(crate) struct UntilStop {
    stopped: bool,
}

impl UntilStop {
    /// What it says, or said.
    pub fn ask(&mut self, callback: impl FnOnce() -> Control) -> Control {
        if !self.stopped {
            self.stopped = callback() == Control::Stop;
        }
        self.answer()
    }

    /// What it said last.
    pub fn answer(&self) -> Control {
        if self.stopped { Control::Stop } else { Control::Continue }
    }
}
