//! The scale of a loss, without which small gradients vanish in half precision: Keras's `LossScaleOptimizer`
//! (`keras/src/optimizers/loss_scale_optimizer.py`). The loss is multiplied by it, and gradients are divided by it before
//! anything is done with them.

use crate::error::{Error, Result};

/// A scale and how long it has been right. It is a power of two, so that scaling rounds nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LossScale {
    scale: f32,
    good: u32,
}

/// Keras's `dynamic_growth_steps`.
const GROWTH: u32 = 2000;
/// The least and the greatest scale. Gradients that are not finite at the least do not become so.
const LEAST: f32 = 1.0 / (1 << 15) as f32;
const MOST: f32 = (1u128 << 100) as f32;

impl Default for LossScale {
    fn default() -> LossScale {
        LossScale { scale: (1 << 15) as f32, good: 0 }
    }
}

// Processors do not scale.
#[cfg_attr(not(feature = "gpu"), allow(dead_code))]
impl LossScale {
    /// What the loss is multiplied by.
    pub fn scale(self) -> f32 {
        self.scale
    }

    /// After an update: 2,000 in a row double the scale.
    pub(super) fn good(&mut self) {
        self.good += 1;
        if self.good == GROWTH {
            self.good = 0;
            self.scale = (self.scale * 2.0).min(MOST);
        }
    }

    /// In the place of an update whose gradients are not finite: halves the scale.
    ///
    /// # Errors
    /// If that was the least.
    pub(super) fn skip(&mut self) -> Result<()> {
        if self.scale <= LEAST {
            let expected = format!("finite numbers, with the loss scaled by {LEAST}");
            let hint = "training diverged: lower --learning-rate, or give --precision f32";
            return Err(Error::invalid("gradients", expected, "others", hint));
        }
        (self.scale, self.good) = (self.scale / 2.0, 0);
        Ok(())
    }

    /// As numbers to be stored.
    pub(super) fn to_values(self) -> Vec<f32> {
        vec![self.scale, self.good as f32]
    }

    /// What [`Self::to_values`] returned.
    pub(super) fn of_values(values: &[f32]) -> Option<LossScale> {
        let [scale, good] = *values else { return None };
        let power = scale.to_bits() & 0x7f_ffff == 0 && (LEAST..=MOST).contains(&scale);
        let count = good.fract() == 0.0 && (0.0..GROWTH as f32).contains(&good);
        (power && count).then_some(LossScale { scale, good: good as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thousand_good_steps_double_it_and_a_bad_one_halves_it() {
        let mut scale = LossScale::default();
        assert_eq!(scale.scale(), 32768.0);
        (0..1999).for_each(|_| scale.good());
        assert_eq!(scale.scale(), 32768.0);
        scale.good();
        assert_eq!(scale.scale(), 65536.0);
        (0..1999).for_each(|_| scale.good());
        scale.skip().unwrap();
        (0..1999).for_each(|_| scale.good());
        assert_eq!(scale.scale(), 32768.0);
        scale.good();
        assert_eq!(scale.scale(), 65536.0);
    }

    #[test]
    fn it_has_ends() {
        let mut scale = LossScale::default();
        (0..30).for_each(|_| scale.skip().unwrap());
        assert_eq!(scale.scale(), LEAST);
        let error = scale.skip().unwrap_err();
        assert!(error.hint().unwrap().contains("--learning-rate"), "{error}");
        let mut scale = LossScale { scale: MOST, good: 1999 };
        scale.good();
        assert_eq!(scale.scale(), MOST);
    }

    #[test]
    fn what_is_stored_comes_back_and_nothing_else_does() {
        let scale = LossScale { scale: 0.5, good: 1999 };
        assert_eq!(LossScale::of_values(&scale.to_values()), Some(scale));
        for bad in [
            &[][..],
            &[1.0],
            &[3.0, 0.0],
            &[0.0, 0.0],
            &[-2.0, 0.0],
            &[f32::NAN, 0.0],
            &[f32::INFINITY, 0.0],
            &[2.0, 0.5],
            &[2.0, 2000.0],
            &[2.0, f32::NAN],
            &[2.0, 0.0, 0.0],
        ] {
            assert_eq!(LossScale::of_values(bad), None, "{bad:?}");
        }
    }
}
