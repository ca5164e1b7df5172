//! `train --help` in groups, short, and `--help-all` with everything.

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command, CommandFactory};

use super::Cli;
use super::examples::{inner, with_examples};

/// Flags of `train` by group. Those with a text are in the short help, with that text; the others
/// only in `--help-all`.
const GROUPS: [(&str, &[(&str, &str)]); 5] = [
    (
        "Data and presets",
        &[
            ("data", "a folder per class, archive, table, cifar10"),
            ("recipe", "auto, quick, best: settings by data and time"),
            ("budget", "how long a recipe may take, as 20m or 1h30m"),
            ("config", "settings of a file, as a run's config.toml"),
            ("image_size", "height and width of images before the net"),
            ("test_split", "split off for testing [default: 0]"),
            ("validation_split", "held out for validation [default: 0.1]"),
            ("limit", "train on at most this many images"),
            ("stratify", "split by class; --group: by plant, person, ..."),
            ("no_stratify", ""),
            ("group", ""),
            ("interpolation", ""),
            ("fit", ""),
            ("crop_share", ""),
            ("decode", ""),
            ("upsample", ""),
            ("preprocess", ""),
        ],
    ),
    (
        "Net and phases",
        &[
            ("model", "net [default: resnet50]"),
            ("weights", "to start from [default: imagenet]"),
            ("epochs", "of the head over the frozen net [default: 5]"),
            ("head_solver", "lbfgs fits the head without epochs"),
            ("fine_tune_at", "first layer to fine-tune, such as conv5"),
            ("fine_tune_epochs", "of fine-tuning [default: 5]"),
            ("head_init", ""),
            ("head_l2", ""),
            ("dropout", ""),
            ("freeze_bn", ""),
            ("unfreeze", ""),
        ],
    ),
    (
        "Optimisation",
        &[
            ("batch_size", "images a step [default: 20]"),
            ("optimizer", "rmsprop (default), sgd, adam or adamw"),
            ("learning_rate", "of the head [default: 1e-4]"),
            ("fine_tune_learning_rate", "of fine-tuning [default: 1e-4]"),
            ("schedule", "cosine, one-cycle, step, plateau"),
            ("patience", "end a phase that does not improve"),
            ("max_time", ""),
            ("accumulate", ""),
            ("replicas", ""),
            ("scale_learning_rate", ""),
            ("layer_decay", ""),
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
            ("monitor", ""),
            ("best_within", ""),
            ("min_delta", ""),
        ],
    ),
    (
        "Images and labels",
        &[
            ("augment", "augment images: resized-crop,flip,jitter,..."),
            ("balance", ""),
            ("show_batch", "draw the first batch as training sees it, and stop"),
            ("seed", "of every random choice [default: 42]"),
            ("mixup", ""),
            ("cutmix", ""),
            ("train_size", ""),
            ("label_smoothing", ""),
            ("class_weight", ""),
            ("no_shuffle", ""),
            ("no_calibrate", ""),
            ("refit", ""),
            ("head_mirror", ""),
            ("head_crops", ""),
            ("head_images", ""),
        ],
    ),
    (
        "Results and machine",
        &[
            ("precision", "auto (default), f32, bf16, or f16 on a GPU"),
            ("device", "auto (default), cpu, gpu or gpu:N"),
            ("out", "run folder [default: runs/train, runs/train2, ...]"),
            ("resume", "resume an interrupted run, given its folder"),
            ("json", "print the result as JSON"),
            ("exist_ok", ""),
            ("allow_changes", ""),
            ("save_every", ""),
            ("tensorboard", ""),
            ("threads", ""),
            ("cache_memory", ""),
            ("cache_dir", ""),
            ("cache_disk", ""),
            ("no_cache", ""),
        ],
    ),
];

/// Short names of values: what they can be is in the text.
const VALUES: [(&str, &str); 12] = [
    ("data", "PATH"),
    ("weights", "NAME|FILE"),
    ("recipe", "NAME"),
    ("fine_tune_at", "LAYER"),
    ("head_solver", "NAME"),
    ("optimizer", "NAME"),
    ("schedule", "NAME"),
    ("augment", "LIST"),
    ("precision", "NAME"),
    ("show_batch", "PNG"),
    ("test_split", "PART"),
    ("validation_split", "PART"),
];

/// The command line: `train`'s help in groups, examples, negative numbers as values of flags.
pub fn command() -> Command {
    let whole = Cli::command();
    let command = whole.clone().mut_subcommand("train", |train| {
        let mut train = train
            .disable_help_flag(true)
            .about("Train a classifier on labelled images; every setting: --help-all");
        for (group, flags) in GROUPS {
            for (id, short) in flags {
                train = train.mut_arg(*id, |arg| grouped(arg, group, short));
            }
        }
        for (id, name) in VALUES {
            train = train.mut_arg(id, |arg| arg.value_name(name));
        }
        // Every command has it; here it is in a group, too.
        let limit = whole.get_arguments().find(|arg| arg.get_id() == "memory_limit").cloned();
        train = train.args(limit.map(|arg| grouped(arg, GROUPS[4].0, "")));
        let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort);
        let all = Arg::new("help_all").long("help-all").action(ArgAction::HelpLong);
        train
            .arg(help.help("print this").help_heading("Results and machine"))
            .arg(all.help("explain every setting").help_heading("Results and machine"))
    });
    let command = command.mut_subcommand("cross-validate", |folds| {
        folds.mut_arg("stratify", |arg| {
            arg.help("Folds by class: each has the classes in the same proportion [default]")
        })
    });
    let command = OF_MODEL.iter().fold(command, |command, (path, fit, decode)| {
        inner(command, path, &|command| {
            let command = command.mut_arg("fit", |arg| arg.help(*fit));
            command.mut_arg("decode", |arg| arg.help(*decode))
        })
    });
    negative_numbers(with_examples(command))
}

/// What becomes of images that are not square, and how JPEGs are decoded, where a model says it by itself.
const OF_MODEL: [(&[&str], &str, &str); 5] = [
    (
        &["evaluate"],
        "What becomes of images that are not square [default: what the model says: as in its training; crop \
         for nets with ImageNet's own classes]",
        "How JPEGs are decoded [default: what the model says: as in its training; full for nets with ImageNet's own \
         classes]",
    ),
    (
        &["predict"],
        "What becomes of images that are not square [default: what the model says: as in its training; crop \
         for nets with ImageNet's own classes]",
        "How JPEGs are decoded [default: what the model says: as in its training; full for nets with ImageNet's own \
         classes]",
    ),
    (
        &["features"],
        "What becomes of images that are not square, where MODEL names a net [default: stretch]",
        "How JPEGs are decoded, where MODEL names a net [default: reduced]",
    ),
    (
        &["probe"],
        "What becomes of images that are not square, where MODEL names a net [default: stretch]",
        "How JPEGs are decoded, where MODEL names a net [default: reduced]",
    ),
    (
        &["data", "check"],
        "What becomes of images that are not square, where --model names a net or is left out [default: \
         stretch]",
        "How JPEGs are decoded, where --model names a net or is left out [default: reduced]",
    ),
];

/// Lets every flag take `-1` as its value, so that what is wrong with it is said.
fn negative_numbers(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_action().takes_values() {
        true if arg.get_long().is_some() => arg.allow_negative_numbers(true),
        _ => arg,
    });
    command.mut_subcommands(negative_numbers)
}

fn grouped(arg: Arg, group: &'static str, short: &'static str) -> Arg {
    let long = arg.get_long_help().or(arg.get_help()).cloned().unwrap_or(StyledStr::new());
    let values = arg.get_possible_values();
    let names: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
    let long = match arg.get_action().takes_values() && !names.is_empty() {
        true => format!("{long} [possible values: {}]", names.join(", ")).into(),
        false => long,
    };
    let takes = arg.get_action().takes_values();
    let arg = arg.help_heading(group).long_help(long);
    let arg = if takes { arg.hide_possible_values(true) } else { arg };
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

    #[test]
    fn commands_that_take_a_model_say_what_follows_from_it() {
        let command = command();
        let paths: [&[&str]; 11] = [
            &["evaluate"],
            &["predict"],
            &["features"],
            &["explain-image"],
            &["similar"],
            &["probe"],
            &["export"],
            &["cross-validate"],
            &["lr-find"],
            &["recipe"],
            &["data", "check"],
        ];
        let ids =
            ["weights", "fit", "crop_share", "decode", "interpolation", "preprocess", "image_size"];
        let mut seen = 0;
        for path in paths {
            let inner = path.iter().fold(&command, |c, word| c.find_subcommand(word).unwrap());
            for arg in inner.get_arguments().filter(|arg| ids.contains(&arg.get_id().as_str())) {
                let help = arg.get_help().unwrap().to_string();
                assert!(help.contains("[default:"), "{path:?} {}: {help}", arg.get_id());
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
        let fit = |path: &str| {
            let arg = command.find_subcommand(path).unwrap().get_arguments();
            let mut fit = arg.filter(|arg| arg.get_id() == "fit");
            fit.next().unwrap().get_help().unwrap().to_string()
        };
        assert!(fit("predict").contains("what the model says"), "{}", fit("predict"));
        assert!(fit("features").contains("where MODEL names a net"), "{}", fit("features"));
    }

    #[test]
    fn the_short_help_of_train_fits_two_screens_of_24_lines() {
        let mut command = command().term_width(80);
        let text =
            command.find_subcommand_mut("train").unwrap().clone().term_width(80).render_help();
        let text = text.to_string();
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
        let lines = text.lines().count();
        assert!(lines <= 48 && widest <= 80, "{lines} {widest}:\n{text}");
    }
}
