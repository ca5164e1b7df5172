//! What flags can name, and what the library calls it.

use clap::ValueEnum;
use headstart::config::{HeadSolver, OptimizerName, Precision, ScheduleName};
use headstart::image::Interpolation;
use headstart::init::HeadInit;
use headstart::monitor::Monitor;
use headstart::optimizer::DecayOf;
use headstart::preprocess::Preprocess;

/// Which images of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// The test images, or all where there are none.
    Auto,
    /// Training images.
    Train,
    /// Validation images.
    Validation,
    /// Test images.
    Test,
    /// All of them.
    All,
}

/// Which part of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PhaseArg {
    /// Inference.
    Forward,
    /// Frozen net, training head.
    Head,
    /// Training from a layer on.
    FineTune,
    /// Training everything.
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

/// Declares a flag's choices and what they stand for in the library.
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
    /// Update rules.
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
    /// What weight decay shrinks.
    Decay => DecayOf {
        /// Everything that trains, as Keras.
        All => DecayOf::All,
        /// Kernels, not biases and batch norm.
        Kernels => DecayOf::Kernels,
    }
}
choices! {
    /// How the step size changes over a phase.
    Sched => ScheduleName {
        Constant => ScheduleName::Constant,
        /// Down in half a cosine, to --schedule-alpha.
        Cosine => ScheduleName::Cosine,
        /// Up from a 25th and down to almost nothing in half a cosine each (fastai, PyTorch's OneCycleLR).
        OneCycle => ScheduleName::OneCycle,
        /// Times --schedule-factor every --step-epochs (PyTorch's StepLR).
        Step => ScheduleName::Step,
        /// Times --schedule-factor after --plateau-patience epochs in which the loss did not fall (Keras's
        /// ReduceLROnPlateau).
        Plateau => ScheduleName::Plateau,
    }
}
choices! {
    /// Figures by which epochs are compared.
    Watched => Monitor {
        /// The highest; among equals the lowest loss.
        Accuracy => Monitor::Accuracy,
        /// The lowest; among equals the highest accuracy.
        Loss => Monitor::Loss,
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
    /// Pixel normalisations.
    Pre => Option<Preprocess> {
        /// What the weights expect.
        Auto => None,
        /// BGR minus the ImageNet means, as Keras's v1 nets.
        Caffe => Some(Preprocess::Caffe),
        /// RGB minus mean over deviation, as torchvision.
        Torch => Some(Preprocess::Torch),
        /// -1 to 1, as Keras's v2 nets.
        Tf => Some(Preprocess::Tf),
        /// 0 to 1, as the article.
        Unit => Some(Preprocess::Unit),
    }
}
choices! {
    /// How the head's kernel starts.
    Head => HeadInit {
        GlorotUniform => HeadInit::GlorotUniform,
        Zeros => HeadInit::Zeros,
    }
}
choices! {
    /// How the head is trained.
    Solver => HeadSolver {
        /// Steps along the gradient, by --optimizer.
        Gradient => HeadSolver::Gradient,
        /// To the optimum of all training images at once, over kept outputs of the frozen net.
        Lbfgs => HeadSolver::Lbfgs,
    }
}
choices! {
    /// Arithmetic.
    Prec => Precision {
        /// bf16 where the CPU multiplies it by itself, else f32.
        Auto => Precision::Auto,
        /// 32-bit floats.
        F32 => Precision::F32,
        /// bfloat16 with sums in 32 bits; slow where the CPU has no instruction for it.
        Bf16 => Precision::Bf16,
    }
}
