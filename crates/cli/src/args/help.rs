//! `train --help` in groups, short, and `--help-all` with everything.

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Cli;

/// Flags of `train` by group. Those with a text are in the short help, with that text; the others
/// only in `--help-all`.
const GROUPS: [(&str, &[(&str, &str)]); 9] = [
    (
        "Data",
        &[
            (
                "data",
                "Images: a folder per class, an archive, shards, a manifest, cifar10 or sample",
            ),
            ("image_size", "Height and width that images are resized to"),
            ("interpolation", "How images are resized"),
            ("upsample", ""),
            ("preprocess", ""),
            (
                "validation_split",
                "Fraction of the training images held out for validation [default: 0.1]",
            ),
            ("test_split", "Fraction of the images split off for testing [default: 0]"),
            ("limit", "Train on at most this many images"),
        ],
    ),
    (
        "Net",
        &[
            ("model", "Net [default: resnet50]"),
            ("weights", "Weights to start from [default: imagenet]"),
            ("head_init", ""),
            ("dropout", ""),
            ("freeze_bn", ""),
        ],
    ),
    (
        "Presets",
        &[
            ("recipe", "Choose settings by data, net, this machine and --budget"),
            ("budget", "How long a run by --recipe may take, such as 20m or 1h30m"),
            ("config", "Read settings from a file, such as a run's config.toml"),
        ],
    ),
    (
        "Phases",
        &[
            ("epochs", "Epochs of the head over the frozen net [default: 5]"),
            ("head_solver", "lbfgs: fit the head with L-BFGS instead"),
            ("head_l2", ""),
            ("fine_tune_at", "First layer to fine-tune, by name or index"),
            ("fine_tune_epochs", "Epochs of fine-tuning [default: 5]"),
            ("unfreeze", "List all phases instead: head or a layer, and epochs"),
        ],
    ),
    (
        "Optimisation",
        &[
            ("batch_size", "Batch size [default: 20]"),
            ("accumulate", ""),
            ("replicas", ""),
            ("optimizer", "Optimizer [default: rmsprop]"),
            ("learning_rate", "Learning rate of the head [default: 1e-4]"),
            ("fine_tune_learning_rate", "Learning rate of fine-tuning [default: 1e-4]"),
            ("layer_decay", ""),
            ("schedule", "How the learning rate changes over each phase [default: constant]"),
            ("warmup_epochs", ""),
            ("schedule_alpha", ""),
            ("schedule_factor", ""),
            ("step_epochs", ""),
            ("plateau_patience", ""),
            ("min_learning_rate", ""),
            ("momentum", ""),
            ("nesterov", ""),
            ("rho", ""),
            ("beta_1", ""),
            ("beta_2", ""),
            ("weight_decay", ""),
            ("decay_of", ""),
            ("clip_norm", ""),
            ("clip_value", ""),
            ("ema", ""),
        ],
    ),
    (
        "Augmentation and balancing",
        &[
            ("augment", "Augment training images"),
            ("show_batch", "Write the first batch as training sees it to a PNG, and stop"),
            ("mixup", ""),
            ("cutmix", ""),
            ("label_smoothing", ""),
            ("class_weight", ""),
            ("balance", "Train on every class equally often"),
            ("no_shuffle", ""),
            ("seed", "Seed of every random choice [default: 42]"),
        ],
    ),
    (
        "Stopping",
        &[
            ("monitor", ""),
            ("patience", "End a phase after this many epochs without improvement"),
            ("min_delta", ""),
            ("no_calibrate", ""),
        ],
    ),
    (
        "Machine",
        &[
            ("precision", "Arithmetic [default: auto]"),
            ("threads", ""),
            ("cache_memory", ""),
            ("cache_dir", ""),
            ("cache_disk", ""),
            ("no_cache", ""),
        ],
    ),
    (
        "Results",
        &[
            ("out", "Run folder [default: runs/train, then runs/train2, ...]"),
            ("exist_ok", ""),
            ("resume", "Resume an interrupted run, given its run folder"),
            ("save_every", ""),
            ("tensorboard", ""),
            ("json", "Print the result as JSON"),
        ],
    ),
];

/// The command line, with `train`'s help in groups.
pub fn command() -> Command {
    Cli::command().mut_subcommand("train", |train| {
        let mut train = train.disable_help_flag(true).after_help(
            "headstart train --help-all explains every setting; headstart recipe chooses for you.",
        );
        for (group, flags) in GROUPS {
            for (id, short) in flags {
                train = train.mut_arg(*id, |arg| grouped(arg, group, short));
            }
        }
        let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort);
        let all = Arg::new("help_all").long("help-all").action(ArgAction::HelpLong);
        train
            .arg(help.help("Print this").help_heading("Help"))
            .arg(all.help("Explain every setting").help_heading("Help"))
    })
}

fn grouped(arg: Arg, group: &'static str, short: &'static str) -> Arg {
    let long = arg.get_long_help().or(arg.get_help()).cloned().unwrap_or(StyledStr::new());
    let arg = arg.help_heading(group).long_help(long);
    match short {
        "" => arg.hide_short_help(true),
        short => arg.help(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_train_has_a_group_and_every_group_short_ones() {
        let command = command();
        command.clone().debug_assert();
        let train = command.find_subcommand("train").unwrap();
        for arg in train.get_arguments() {
            assert!(arg.get_help_heading().is_some(), "{} has no group", arg.get_id());
        }
        for (group, flags) in GROUPS {
            assert!(flags.iter().any(|(_, short)| !short.is_empty()), "{group}");
        }
    }
}
