//! How to fine-tune in the time there is: from which stage, at which size, with which images, for how many epochs.
//!
//! The whole net on random crops is the best where it gets its epochs. Crops enlarge what they show, so the net sees them at four
//! fifths of the size, where a step takes three fifths of the time (Touvron et al. 2019): an epoch then costs little more than one
//! of the last two stages over cached features of the whole size. Where even that is too long, the last stage alone trains over cached features,
//! in a third of the time.

use super::pace::{Cost, Pace, cost, net};
use super::{Facts, Wish};
use crate::error::Result;
use crate::net::resnet;

/// Training images that fine-tuning sees over all its epochs, if the time allows.
const SEEN: usize = 60_000;
/// Images after which the whole net is better than its last stage alone, and the fewest and most epochs which that may be.
const ENOUGH: (usize, usize, usize) = (8_000, 3, 5);
/// The fewest epochs of the last stage alone.
const FEWEST: usize = 2;
/// Images that are enough however few epochs they are, and those that are worth a part of a single epoch.
const MANY: usize = 120_000;
const FEW: usize = 20_000;
/// The part of a last epoch that is worth it: the time cuts it short, and the learning rate's schedule follows the time.
const PART: f64 = 0.25;
/// How many images a head is fitted on from which everything is fine-tuned, and how many of each class, at least.
const HEAD: (usize, usize) = (5_000, 50);
/// A way to fine-tune.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Way {
    /// The first stage that trains, from 1, which means everything.
    pub stage: usize,
    /// Whether every epoch sees other crops of the images, at this size; else features are cached.
    pub crops: Option<usize>,
    /// How many epochs.
    pub epochs: usize,
    /// How many there would be with more time.
    pub wanted: usize,
    /// How many images the head before it is fitted on, where these are not all.
    pub head_images: Option<usize>,
    /// Seconds of the head; before the first epoch, in which features are cached; for each.
    pub seconds: [f64; 3],
}

/// What a choice is made for.
pub(super) struct Time<'a> {
    pub facts: &'a Facts,
    pub pace: &'a Pace,
    pub wish: &'a Wish,
    pub net: &'a resnet::Recipe,
}

impl Time<'_> {
    /// Seconds of one pass of `train` training images and those held out through the frozen net and of fitting the head.
    pub fn once(&self, head: &Cost, train: usize) -> f64 {
        let Facts { held_out, classes, .. } = *self.facts;
        // About 400 evaluations over all images, forward and backward, at 15 billion multiply-adds a second.
        let solving = 400.0 * 2.0 * train as f64 * (head.step / 6.0).max(classes as f64) / 15e9;
        (train + held_out) as f64 * head.frozen / self.pace.forward + solving
    }

    /// Seconds before fine-tuning over cached features where they fit the memory, and for each of its epochs.
    pub fn cached(&self, cost: &Cost) -> [f64; 2] {
        let Facts { train, held_out, validation, .. } = *self.facts;
        let images = (train + validation) as f64;
        let kept = cost.bytes > 0 && cost.bytes * ((train + held_out) as u64) < self.wish.memory;
        let frozen = cost.frozen / self.pace.forward;
        let each = self.steps(cost) + validation as f64 * cost.forward / self.pace.forward;
        if kept { [images * frozen, each] } else { [0.0, each + images * frozen] }
    }

    /// Seconds of an epoch's steps.
    fn steps(&self, cost: &Cost) -> f64 {
        self.facts.train as f64 * cost.step / self.pace.training
    }

    /// Seconds of an epoch on crops that `cost` is of; `whole` is the cost at the net's size.
    fn on_crops(&self, cost: &Cost, whole: &Cost) -> f64 {
        let Facts { train, validation, .. } = *self.facts;
        let frozen = train as f64 * cost.frozen / self.pace.forward;
        let held_out = (whole.frozen + whole.forward) * validation as f64 / self.pace.forward;
        self.steps(cost) + frozen + held_out
    }

    /// Where a stage begins, or everything where it is the first.
    pub fn at(&self, number: usize) -> String {
        if number == 1 { "0".into() } else { self.net.stage(number) }
    }

    /// The costs of a net for images of `size` pixels that trains from a stage on.
    fn cost(&self, size: usize, stage: usize) -> Result<Cost> {
        let net = net(self.net, size, self.facts.classes)?;
        cost(&net, Some(net.freeze_point(&self.at(stage))?), self.wish.dtype)
    }

    /// How many images a head is fitted on from which everything is fine-tuned, where these are not all.
    fn head_images(&self) -> Option<usize> {
        let enough = HEAD.0.max(HEAD.1 * self.facts.classes);
        // Where it saves little, the better head is worth more.
        Some(enough).filter(|enough| 2 * enough <= self.facts.train)
    }

    /// The best way to fine-tune for `size` pixels within `planned` seconds, of which a head takes its part, and whether it gives
    /// the whole net enough epochs; none if there is no time for any. `longer` wants twice the epochs.
    pub fn way(&self, size: usize, planned: f64, longer: bool) -> Result<Option<(Way, bool)>> {
        let (images, least, most) = ENOUGH;
        let enough = (images / self.facts.train.max(1)).clamp(least, most);
        let (seen, longest) = if longer { (2 * SEEN, 60) } else { (SEEN, 30) };
        let wanted = (seen / self.facts.train.max(1)).clamp(8, longest);
        let fits = |[head, before, each]: [f64; 3]| {
            ((planned - head - before) / each).clamp(0.0, wanted as f64)
        };
        let seen = |epochs: f64| (epochs * self.facts.train as f64) as usize;
        let whole = |epochs: f64| {
            let cut = match epochs as usize {
                0 => seen(epochs) >= FEW,
                _ => epochs.fract() >= PART,
            };
            epochs as usize + usize::from(cut)
        };
        let crops = crops(size, self.wish.crop);
        let plain = self.cost(size, 1)?;
        let head = cost(&net(self.net, size, self.facts.classes)?, None, self.wish.dtype)?;
        let head_images = self.head_images();
        let seconds = [
            self.once(&head, head_images.unwrap_or(self.facts.train)),
            0.0,
            self.on_crops(&self.cost(crops, 1)?, &plain),
        ];
        let fitting = fits(seconds);
        let (epochs, crops) = (whole(fitting), Some(crops));
        let all = Way { stage: 1, crops, epochs, wanted, head_images, seconds };
        if all.epochs >= enough || seen(fitting) >= MANY {
            return Ok(Some((all, true)));
        }
        let stage = self.net.stages.len();
        let [before, each] = self.cached(&self.cost(size, stage)?);
        let seconds = [self.once(&head, self.facts.train), before, each];
        let (epochs, crops) = (whole(fits(seconds)), None);
        let last = Way { stage, crops, epochs, wanted, head_images: None, seconds };
        let of = |least: usize| [last, all].into_iter().find(|way| way.epochs >= least);
        Ok(of(FEWEST).or_else(|| of(1)).map(|way| (way, false)))
    }
}

/// The size at which random crops of `least` of the area or more enter a net of `size` pixels: they are enlarged by
/// `1 / sqrt((1 + least) / 2)` on average. Small nets keep their size, of which a pixel is too much. Where crops are mild the last
/// feature maps keep theirs too: a net that was trained on smaller ones does worse on the images, and little time is saved.
pub(super) fn crops(size: usize, least: f32) -> usize {
    let side = (size as f64 * ((1.0 + f64::from(least)) / 2.0).sqrt()) as usize;
    let step = match size {
        0..96 => return size,
        96..128 => 8,
        _ => 16,
    };
    let map = |size: usize| size.div_ceil(HALVED);
    let rounded = side / step * step;
    match least >= MILD && map(rounded) < map(size) {
        true => (rounded + step).min(size),
        false => rounded,
    }
}

/// A net makes maps this many times smaller than images.
const HALVED: usize = 32;
/// Crops that show as much of an image or more.
const MILD: f32 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_look_as_large_as_images() {
        let sizes = [224, 192, 160, 128, 96, 64, 32, 8];
        let at = |least| sizes.map(|size| crops(size, least));
        assert_eq!(at(0.35), [176, 144, 128, 96, 72, 64, 32, 8]);
        assert_eq!(at(0.7), [208, 176, 144, 112, 88, 64, 32, 8]);
        assert_eq!(at(0.85), [208, 176, 144, 112, 88, 64, 32, 8]);
    }
}
