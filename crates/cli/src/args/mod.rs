//! The command line: one file for each kind of command, `choices` for what flags can name.

mod cache;
mod choices;
mod cross_validate;
mod data;
mod examples;
mod export;
mod fit;
mod generate;
mod help;
mod hub;
mod inspect;
mod serve;
mod split;
mod train;
mod use_model;
mod values;

use clap::{Parser, Subcommand};
use headstart::range;

pub use cache::{Cache, CacheAction, CacheFlags};
pub use choices::{PhaseArg, Split};
pub use cross_validate::CrossValidate;
pub use data::{Data, DataCheck, DataCommand, DataGet, Merge};
pub use export::{Export, ExportFormat, WeightsInspect};
pub use generate::{Completions, Man};
pub use help::command;
pub use hub::{Weights, WeightsCommand, WeightsGet, WeightsList};
pub use inspect::{Bench, Compare, Doctor, Explain, Summary, Work};
pub use serve::Serve;
pub use train::{LrFind, Plot, Recipe, Report, Train};
pub use use_model::{Evaluate, ExplainImage, Features, Predict, Probe, Similar};
pub use values::BatchSize;
use values::within;

/// Transfer learning for image classifiers: train a head on a frozen ResNet, fine-tune it, use it.
#[derive(Debug, Parser)]
#[command(name = "headstart", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Memory that reading files may take: images, archives, tables, weights [default: $HEADSTART_MEMORY_LIMIT, else half of
    /// the memory of this machine or container]
    #[arg(long, value_name = "MB", global = true, value_parser = within::<u64>(range::MEMORY_LIMIT))]
    pub memory_limit: Option<u64>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a classifier on labelled images: the head first, then the net from a layer on
    Train(Box<Train>),
    /// Evaluate a model file on labelled images
    Evaluate(Evaluate),
    /// Classify images
    Predict(Predict),
    /// Write feature vectors of images to a file
    Features(Features),
    /// Show where in an image the model sees a class
    ExplainImage(ExplainImage),
    /// Find the images of a data set that are most like one image
    Similar(Similar),
    /// Measure how well a linear head does on each stage of a net
    Probe(Probe),
    /// Cross-validate: accuracy on each of several folds, and its spread
    CrossValidate(Box<CrossValidate>),
    /// Run a learning rate range test: draw the loss and suggest a learning rate
    LrFind(LrFind),
    /// Choose settings of train by data, net, this machine's speed and a time budget
    Recipe(Recipe),
    /// List a net's layers
    Summary(Summary),
    /// List the steps that a net runs, with shapes, operations and bytes
    Explain(Explain),
    /// Measure how fast a net runs
    Bench(Bench),
    /// Check this machine: what headstart uses of it, and what would change that
    Doctor(Doctor),
    /// Make a run's page, report.html, and its pictures again
    Report(Report),
    /// Draw a run's curves and confusion matrix again
    Plot(Plot),
    /// List, download and inspect weights
    Weights(Weights),
    /// Check a data set, or download a published one
    Data(Data),
    /// Join the parts that jobs with --shard wrote
    Merge(Merge),
    /// List or remove cached features of frozen layers
    Cache(Cache),
    /// Write a model for Keras, PyTorch or ONNX, and print the Python that loads it
    Export(Export),
    /// Compare runs: settings that differ, metrics, curves
    Compare(Compare),
    /// Answer requests for predictions over HTTP
    Serve(Serve),
    /// Print a shell's completion script
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;
    use std::time::Duration;

    use clap::error::ErrorKind;

    /// Whether a flag's value is a whole number or a time, whatever help calls it.
    fn is_number(arg: &clap::Arg) -> bool {
        let numbers = [
            TypeId::of::<usize>(),
            TypeId::of::<u64>(),
            TypeId::of::<u32>(),
            TypeId::of::<u16>(),
            TypeId::of::<u8>(),
            TypeId::of::<i64>(),
            TypeId::of::<i32>(),
            TypeId::of::<Duration>(),
        ];
        let own = arg.get_value_parser().type_id();
        numbers.into_iter().any(|number| own == number)
    }

    /// Tries every flag below `command` that takes a number with numbers that no setting has; the number of flags.
    fn try_flags(command: &clap::Command, path: &[String]) -> usize {
        let mut tried = 0;
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long().filter(|_| is_number(arg)) else { continue };
            tried += 1;
            for bad in ["18446744073709551615", "18446744073709551616", "-1", "1e30", "1.5", ""] {
                let flag = format!("--{long}={bad}");
                let words = path.iter().cloned().chain([flag.clone()]);
                let error = super::command().try_get_matches_from(words).unwrap_err();
                let text = error.to_string();
                assert_eq!(error.kind(), ErrorKind::ValueValidation, "{path:?} {flag}: {text}");
                for part in [bad, &format!("--{long}"), "expected a "] {
                    assert!(text.contains(part), "no {part:?} for {flag} in: {text}");
                }
            }
        }
        for inner in command.get_subcommands() {
            let path = [path, &[inner.get_name().to_string()]].concat();
            tried += try_flags(inner, &path);
        }
        tried
    }

    #[test]
    fn every_number_has_a_range_that_its_message_says() {
        let tried = try_flags(&super::command(), &["headstart".to_string()]);
        assert!(tried > 60, "{tried}");
    }
}
