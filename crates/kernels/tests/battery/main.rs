//! Every kernel on every instruction set against a reference in f64, for both types of elements.
//!
//! A kernel is listed once, in [`trials`]; an instruction set is one of [`Isa::ALL`]. Each pair is tried on edge shapes
//! (`edges::...`) and on small random ones (`small::...`, `PROPTEST_CASES` of them), on one thread and on several, whose bits
//! must be the same. An instruction set that this CPU does not run is an ignored test, never a passed one, and the
//! last line says which ran.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use headstart_kernels::element::{Bf16, DType, Element};
use headstart_kernels::isa::Isa;
use headstart_kernels::table::Compute;
use libtest_mimic::{Arguments, Trial};

mod convolution;
mod convolution_norm;
mod elementwise;
mod images;
mod kernel;
mod loss;
mod norm;
mod optim;
mod pooling;
mod rounded;
mod solvers;
mod winograd;

#[path = "../support/mod.rs"]
mod support;

use kernel::Kernel;

/// Cases that ran, by instruction set.
static RAN: Mutex<BTreeMap<Isa, usize>> = Mutex::new(BTreeMap::new());

/// Stamps each kernel onto every instruction set, for the types of elements it takes.
macro_rules! stamp {
    ($trials:ident, $types:tt: $($module:ident :: $kernel:ident),+ $(,)?) => {
        $(
            let name = concat!(stringify!($module), "::", stringify!($kernel));
            stamp!(@types $trials, name, $module::$kernel, $types);
        )+
    };
    (@types $trials:ident, $name:ident, $kernel:ty, [$($element:ty),+]) => {
        $(enrol::<$kernel, $element>(&mut $trials, $name);)+
    };
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    stamp! {
        trials, [f32, Bf16]:
        convolution::Forward,
        convolution::Pooled,
        convolution::BackwardInput,
        convolution::BackwardKernel,
        convolution_norm::Statistics,
        convolution_norm::Gradients,
        norm::ColumnSums,
        norm::Statistics,
        norm::Apply,
        norm::ParameterGradients,
        norm::InputGradient,
        norm::FrozenInputGradient,
        pooling::Max,
        pooling::Normalised,
        pooling::Average,
        elementwise::Passes,
        elementwise::Frame,
    }
    stamp! {
        trials, [f32]:
        loss::Softmax,
        optim::Rules,
        solvers::Dense,
        solvers::Cholesky,
        images::Resample,
        images::Colours,
        images::Upsample,
        images::InverseDct,
        winograd::Errors,
    }
    stamp! {
        trials, [Bf16]:
        rounded::Passes,
    }
    trials.push(Trial::test("every_kernel_is_enrolled", || {
        kernel::every_kernel_is_enrolled();
        Ok(())
    }));
    trials
}

/// Adds the trials of a kernel on one type of element.
fn enrol<K: Kernel, E: Element>(trials: &mut Vec<Trial>, name: &str) {
    for isa in Isa::ALL {
        let dtype = E::DTYPE.name();
        let mut add = |kind: &str, threads: &'static [usize], run: fn(&[Compute])| {
            let trial = Trial::test(format!("{kind}::{isa}::{name}::{dtype}"), move || {
                let computes = threads.iter().map(|&threads| Compute::with_isa(threads, isa));
                let computes = computes.collect::<Result<Vec<_>, _>>()?;
                run(&computes);
                *RAN.lock().unwrap_or_else(PoisonError::into_inner).entry(isa).or_default() += 1;
                Ok(())
            });
            trials.push(trial.with_ignored_flag(!isa.available()));
        };
        add("edges", &[1, 3], kernel::edges::<K, E>);
        add("small", &[1, 2, 3], kernel::small::<K, E>);
    }
}

fn main() -> ExitCode {
    // Ignored trials are of instruction sets that this CPU lacks: asked for, they fail.
    let arguments = Arguments::from_args();
    let conclusion = libtest_mimic::run(&arguments, trials());
    if !arguments.list {
        let ran = RAN.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = ran.iter().map(|(isa, trials)| format!("{isa} ({trials} passed)"));
        let lacking = Isa::ALL.iter().filter(|isa| !isa.available()).map(|isa| isa.name().into());
        let or_none = |names: Vec<String>| match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        println!(
            "instruction sets that ran: {}; that this CPU lacks, untested: {}",
            or_none(passed.collect()),
            or_none(lacking.collect())
        );
    }
    conclusion.exit_code()
}

/// How many random shapes a trial takes.
fn cases() -> u32 {
    let set = std::env::var("PROPTEST_CASES").ok();
    set.and_then(|cases| cases.parse().ok()).unwrap_or(16)
}

/// Largest relative error of rounding to an element: half the distance of 1 to its successor. Rounding a float to a
/// float adds nothing.
fn roundoff<E: Element>() -> f64 {
    match E::DTYPE {
        DType::F32 => 0.0,
        DType::Bf16 => 1.0 / 256.0,
        DType::F16 => 1.0 / 2048.0,
    }
}
