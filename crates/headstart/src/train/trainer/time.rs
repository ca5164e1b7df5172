//! A limit of a run's time: where the learning rate stands in it, and when it is over.

use super::Trainer;
use super::run::Run;

impl Trainer<'_> {
    /// Seconds of the run so far, those of the processes that it was resumed from included; among several processes those of
    /// process 0 when it was heard last, so that all decide the same.
    pub(super) fn spent(&self) -> f64 {
        self.clock.unwrap_or_else(|| self.spent_before + self.started.elapsed().as_secs_f64())
    }
}

impl Run<'_, '_> {
    /// When training has to end so that its last validation fits: seconds of the run.
    fn end(&self) -> Option<f64> {
        let limit = self.trainer.settings.max_time?.as_secs_f64();
        Some(limit - self.trainer.validating)
    }

    /// Whether the time is over.
    pub fn late(&self) -> bool {
        self.end().is_some_and(|end| self.trainer.spent() >= end)
    }

    /// The learning rate of the next step. Where more of the phase's time is over than of its steps, the schedule is where the
    /// time is, so that it has come to its end when the time is over.
    pub fn rate(&mut self) -> f32 {
        let Some(end) = self.end() else { return self.rates.at(self.step) };
        let spent = self.trainer.spent();
        let begun = *self.begun.get_or_insert(spent);
        let total = self.epochs as u64 * self.steps_an_epoch() as u64;
        self.rates.at(position(self.step, total, (spent - begun) / (end - begun)))
    }
}

/// The step of `total` at which a schedule stands after `step` steps and a share of the time.
fn position(step: u64, total: u64, share: f64) -> u64 {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 };
    step.max((total as f64 * share) as u64).min(total.saturating_sub(1)).max(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_follows_the_time_where_that_is_ahead_of_the_steps() {
        assert_eq!(position(10, 100, 0.05), 10);
        assert_eq!(position(10, 100, 0.5), 50);
        assert_eq!(position(10, 100, 3.0), 99);
        assert_eq!(position(99, 100, 0.2), 99);
        // There is no time at all.
        assert_eq!(position(0, 100, f64::NAN), 99);
        assert_eq!(position(0, 100, -1.0), 0);
    }
}
