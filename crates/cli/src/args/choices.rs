//! The values that flags can have, and the library's types for them.

use clap::ValueEnum;
use headstart::config::{HeadSolver, OptimizerName, Precision, ScheduleName};
use headstart::dataset;
use headstart::image::{Decode, FitName, Interpolation};
use headstart::init::HeadInit;
use headstart::monitor::Monitor;
use headstart::optimizer::DecayOf;
use headstart::preprocess::Preprocess;

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PhaseArg {
    /// Inference.
    Forward,
    /// A training step of the head over the frozen net.
    Head,
    /// A training step from a layer on.
    FineTune,
    /// A training step of everything.
    Full,
}

impl PhaseArg {
    /// The name as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            PhaseArg::Forward => "forward",
            PhaseArg::Head => "head",
            PhaseArg::FineTune => "fine-tune",
            PhaseArg::Full => "full",
        }
    }
}

/// Declares the values of a flag and the library's values for them.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident => $target:ty { $($(#[$item:meta])* $variant:ident => $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum $name { $($(#[$item])* $variant,)* }

        impl From<$name> for $target {
            fn from(choice: $name) -> $target {
                match choice { $($name::$variant => $value,)* }
            }
        }
    };
}

choices! {
    /// Which images of a data set.
    Split => dataset::Split {
        /// The test images, or all where there are none.
        Auto => dataset::Split::Auto,
        /// Training images.
        Train => dataset::Split::Train,
        /// Validation images.
        Validation => dataset::Split::Validation,
        /// Test images.
        Test => dataset::Split::Test,
        /// All of them.
        All => dataset::Split::All,
    }
}
choices! {
    /// Optimizers.
    Optimizer => OptimizerName {
        Rmsprop => OptimizerName::Rmsprop,
        Sgd => OptimizerName::Sgd,
        Adam => OptimizerName::Adam,
        /// Adam with weight decay, 0.004 unless --weight-decay says otherwise.
        #[value(name = "adamw")]
        AdamW => OptimizerName::AdamW,
    }
}
choices! {
    /// What weight decay applies to.
    Decay => DecayOf {
        /// Everything that trains, as in Keras.
        All => DecayOf::All,
        /// Kernels, not biases and batch norm.
        Kernels => DecayOf::Kernels,
    }
}
choices! {
    /// How the learning rate changes over a phase.
    Sched => ScheduleName {
        Constant => ScheduleName::Constant,
        /// Falls in half a cosine, to --schedule-alpha.
        Cosine => ScheduleName::Cosine,
        /// Rises from a 25th and falls to almost 0, in half a cosine each (fastai, PyTorch's OneCycleLR).
        OneCycle => ScheduleName::OneCycle,
        /// Multiplied by --schedule-factor every --step-epochs (PyTorch's StepLR).
        Step => ScheduleName::Step,
        /// Multiplied by --schedule-factor after --plateau-patience epochs without a lower loss (Keras's
        /// ReduceLROnPlateau).
        Plateau => ScheduleName::Plateau,
    }
}
choices! {
    /// Metrics by which epochs are compared.
    Watched => Monitor {
        /// Highest accuracy; among equals the lowest loss.
        Accuracy => Monitor::Accuracy,
        /// Lowest loss; among equals the highest accuracy.
        Loss => Monitor::Loss,
        /// Highest macro F1: each class counts the same, however few images it has.
        MacroF1 => Monitor::MacroF1,
    }
}
choices! {
    /// How images are resized.
    Interp => Interpolation {
        Nearest => Interpolation::Nearest,
        Bilinear => Interpolation::Bilinear,
        Bicubic => Interpolation::Bicubic,
    }
}
choices! {
    /// What becomes of images of other proportions.
    Fitted => FitName {
        /// Both sides become the net's; proportions are lost.
        Stretch => FitName::Stretch,
        /// The middle, as nets are evaluated on ImageNet.
        Crop => FitName::Crop,
        /// The whole image inside a border of the mean colour.
        Pad => FitName::Pad,
    }
}
choices! {
    /// How JPEGs are decoded.
    Decoded => Decode {
        /// Every pixel.
        Full => Decode::Full,
        /// Large ones at 1/2, 1/4 or 1/8 of their size, as Pillow's draft.
        Reduced => Decode::Reduced,
    }
}
choices! {
    /// Pixel normalisations.
    Pre => Option<Preprocess> {
        /// What the weights expect.
        Auto => None,
        /// BGR minus the ImageNet means, as for Keras's v1 nets.
        Caffe => Some(Preprocess::Caffe),
        /// RGB, minus mean, divided by standard deviation, as for torchvision's nets.
        Torch => Some(Preprocess::Torch),
        /// -1 to 1, as for Keras's v2 nets.
        Tf => Some(Preprocess::Tf),
        /// 0 to 1, division by 255.
        Unit => Some(Preprocess::Unit),
    }
}
choices! {
    /// Initialisation of the head's kernel.
    Head => HeadInit {
        GlorotUniform => HeadInit::GlorotUniform,
        Zeros => HeadInit::Zeros,
    }
}
choices! {
    /// How the head is trained.
    Solver => HeadSolver {
        /// Epochs of --optimizer.
        Gradient => HeadSolver::Gradient,
        /// L-BFGS on all training images at once, over the cached features of the frozen net.
        Lbfgs => HeadSolver::Lbfgs,
    }
}
choices! {
    /// Arithmetic.
    Prec => Precision {
        /// bf16 where the CPU multiplies it faster than f32, else f32.
        Auto => Precision::Auto,
        /// 32-bit floats.
        F32 => Precision::F32,
        /// bfloat16 with sums in 32 bits; slow where the CPU has no instruction for it.
        Bf16 => Precision::Bf16,
        /// Half precision with sums in 32 bits, on a GPU that has it; the loss is scaled.
        #[value(alias = "mixed_float16")]
        F16 => Precision::F16,
    }
}
