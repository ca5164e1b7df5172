//! What happens in a run, as it happens.
//!
//! ```
//! use headstart::Control;
//! use headstart::events::Event;
//!
//! /// Says where training is, and stops it after ten epochs.
//! fn watch(event: &Event) -> Control {
//!     match event {
//!         Event::Epoch(e) if e.epoch == 10 => Control::Stop,
//!         Event::Epoch(e) => {
//!             println!("epoch {}: {:.4}", e.epoch, e.loss);
//!             Control::Continue
//!         }
//!         _ => Control::Continue,
//!     }
//! }
//! # let _ = watch;
//! ```

use serde::Serialize;

use crate::measure::epoch::{EpochRecord, PhaseName};
use crate::net::weights::model_file::TemperatureFit;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A phase begins.
    Phase {
        /// Which.
        phase: PhaseName,
        /// The first layer that trains; none in the head's phase.
        from: Option<String>,
        /// Its epochs.
        epochs: usize,
        /// Trainable parameters.
        trainable: usize,
        /// Layers whose outputs are the cached features, computed once per image.
        frontier: Vec<String>,
        /// Whether these features are cached for all epochs.
        cached: bool,
        /// Whether on disk, because memory has no room for them.
        on_disk: bool,
        /// Bytes the features take, or would take; 0 where no layer that computes is frozen.
        cache_bytes: u64,
        /// Augmentations of training images; with any, frozen layers run in every epoch.
        augment: Vec<String>,
        /// Bytes of activations and gradients in a training step.
        arena_bytes: u64,
    },
    /// An interrupted run is resumed; its [`Event::Phase`] was repeated just before.
    Resumed {
        /// Epochs that are done, over all phases.
        epochs: usize,
        /// Steps of the next one that are done.
        steps: usize,
    },
    /// Some images went through the frozen layers.
    Features {
        /// "train", "validation" or "test".
        split: &'static str,
        /// Images done.
        done: usize,
        /// Images in all.
        total: usize,
        /// Seconds so far.
        seconds: f64,
    },
    /// The cached features for the images of a split are ready.
    Cache {
        /// "train", "validation" or "test".
        split: &'static str,
        /// Images in all.
        images: usize,
        /// Those whose features an earlier run had cached on disk.
        reused: usize,
        /// Bytes of those.
        bytes: u64,
        /// Seconds that computing them took then, which are saved now.
        seconds: f64,
        /// Where features are cached on disk, if they are.
        folder: Option<String>,
    },
    /// A note about the cache on disk; the run continues.
    CacheNote {
        /// What.
        message: String,
    },
    /// A training step is done.
    Step {
        /// Which phase.
        phase: PhaseName,
        /// Epoch within the run, from 1.
        epoch: usize,
        /// Step within the epoch, from 1.
        step: usize,
        /// Steps in the epoch.
        steps: usize,
        /// Mean loss of the batch, before the update.
        batch_loss: f64,
        /// Mean loss of the epoch so far.
        loss: f64,
        /// Accuracy of the epoch so far.
        accuracy: f64,
        /// Training images per second of this epoch so far.
        images_per_second: f64,
    },
    /// A step of the learning rate range test is done.
    RangeTest {
        /// Its learning rate.
        learning_rate: f64,
        /// Mean loss of the batch, before the update.
        loss: f64,
        /// Step, from 1.
        step: usize,
        /// Steps in all.
        steps: usize,
    },
    /// A head is being fitted with L-BFGS for one L2 penalty.
    Solving {
        /// The L2 penalty.
        l2: f64,
        /// Evaluations of the loss so far.
        evaluations: usize,
        /// Greatest element of the gradient, without its sign.
        gradient: f64,
        /// Progress from 0 to 1, by the gradient's orders of magnitude.
        fraction: f64,
    },
    /// A head was fitted with L-BFGS for one L2 penalty.
    Solved {
        /// The L2 penalty.
        l2: f64,
        /// Evaluations of the loss it took.
        evaluations: usize,
        /// Greatest element of the gradient, without its sign.
        gradient: f64,
        /// Whether that is within the tolerance.
        converged: bool,
        /// In a cross-validation, the loss on images that the heads were not fitted on; the other figures are of its last fold.
        held_out_loss: Option<f64>,
    },
    /// The best model's head, which was fitted with L-BFGS, was fitted again with the validation images.
    Refitted {
        /// Images that it is fitted on now.
        images: usize,
    },
    /// Some images were evaluated.
    Evaluating {
        /// "validation" or "test".
        split: &'static str,
        /// Images done.
        done: usize,
        /// Images in all.
        total: usize,
    },
    /// An epoch is done.
    Epoch(EpochRecord),
    /// A phase under early stopping is over, and the model has the weights of its best epoch.
    EarlyStopping {
        /// Which phase.
        phase: PhaseName,
        /// The best epoch, by its number within the run.
        best: usize,
        /// Epochs that were skipped; 0 where the phase had them all.
        skipped: usize,
    },
    /// The run's time is over: this epoch is its last, and ends here.
    TimeUp {
        /// Which phase.
        phase: PhaseName,
        /// Epoch, by its number within the run.
        epoch: usize,
        /// Steps of it that are done.
        step: usize,
        /// Steps that an epoch has.
        steps: usize,
    },
    /// Heads of a cross-validation were fitted.
    CrossValidating {
        /// Heads done.
        done: usize,
        /// Heads at most.
        total: usize,
    },
    /// The temperature of the model's probabilities was fitted on the validation images.
    Calibrated {
        /// What was fitted.
        #[serde(flatten)]
        fit: TemperatureFit,
        /// Whether the model has it.
        kept: bool,
    },
    /// The model was evaluated on images it was not trained on.
    Evaluation {
        /// Phase of the epoch whose weights it has; none for a model that was not trained.
        phase: Option<PhaseName>,
        /// Number of that epoch within the run.
        epoch: Option<usize>,
        /// "test" or "validation".
        split: &'static str,
        /// Mean loss.
        loss: f64,
        /// Accuracy.
        accuracy: f64,
        /// Top-5 accuracy.
        top5: f64,
        /// Number of images.
        samples: usize,
        /// Seconds it took.
        seconds: f64,
    },
}
