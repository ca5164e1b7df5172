//! Two examples for each command, which end its help.

/// The words of a command, and two command lines of it.
type Example = (&'static str, [&'static str; 2]);

const EXAMPLES: &[Example] = &[
    (
        "train",
        [
            "headstart train --data photos --recipe auto --budget 20m --out runs/photos",
            "headstart train --data photos --test-split 0.2 --fine-tune-at conv5",
        ],
    ),
    (
        "evaluate",
        [
            "headstart evaluate runs/photos --data photos --gallery mistakes.html",
            "headstart evaluate runs/photos --data more-photos --output rows.csv",
        ],
    ),
    (
        "predict",
        [
            "headstart predict runs/photos photo.jpg holiday/",
            "headstart predict resnet50 photo.jpg --top-k 3 --json",
        ],
    ),
    (
        "features",
        [
            "headstart features resnet50 --data photos --out features.npy",
            "headstart features runs/photos --data photos --out features.csv",
        ],
    ),
    (
        "merge",
        [
            "headstart merge parts --out predictions.parquet",
            "headstart merge checked --out findings.html",
        ],
    ),
    (
        "explain-image",
        [
            "headstart explain-image runs/photos photo.jpg --out seen.png",
            "headstart explain-image resnet50 photo.jpg --class tabby --out tabby.png",
        ],
    ),
    (
        "similar",
        [
            "headstart similar runs/photos photo.jpg --data photos --html similar.html",
            "headstart similar resnet50 photo.jpg --data photos --top-k 5",
        ],
    ),
    (
        "probe",
        [
            "headstart probe resnet50 --data photos",
            "headstart probe resnet50 --data photos --image-size 128 --limit 1000",
        ],
    ),
    (
        "cross-validate",
        [
            "headstart cross-validate --data photos --folds 5 --output oof.csv",
            "headstart cross-validate --data photos --group folder --fine-tune-at conv5",
        ],
    ),
    (
        "lr-find",
        [
            "headstart lr-find --data photos --out head.png",
            "headstart lr-find --data photos --fine-tune-at conv5 --out fine-tune.png",
        ],
    ),
    (
        "recipe",
        [
            "headstart recipe --data photos --budget 20m",
            "headstart recipe --data photos --recipe best --budget 2h",
        ],
    ),
    ("summary", ["headstart summary resnet50 --fine-tune-at 100", "headstart summary runs/photos"]),
    (
        "explain",
        [
            "headstart explain --model resnet50 --phase forward",
            "headstart explain --model resnet50 --phase fine-tune --measure",
        ],
    ),
    ("bench", ["headstart bench", "headstart bench --model resnet50 --precision f32 --json"]),
    ("doctor", ["headstart doctor", "headstart doctor --json"]),
    ("report", ["headstart report runs/photos", "headstart report runs/photos --threads 2"]),
    ("plot", ["headstart plot runs/photos", "headstart plot runs/train2"]),
    ("weights", ["headstart weights list", "headstart weights get resnet50"]),
    ("weights list", ["headstart weights list", "headstart weights list --json"]),
    (
        "weights get",
        [
            "headstart weights get resnet50",
            "headstart weights get torchvision-resnet50 --variant imagenet-v2",
        ],
    ),
    (
        "weights inspect",
        [
            "headstart weights inspect checkpoint.pth",
            "headstart weights inspect runs/photos --json",
        ],
    ),
    ("data", ["headstart data check photos", "headstart data get cifar10"]),
    (
        "data check",
        ["headstart data check photos --html check.html", "headstart data check photos --labels"],
    ),
    (
        "data get",
        ["headstart data get cifar10", "HEADSTART_CACHE=/data headstart data get cifar10"],
    ),
    ("cache", ["headstart cache list", "headstart cache clear"]),
    ("cache list", ["headstart cache list", "headstart cache list --json"]),
    ("cache clear", ["headstart cache clear", "headstart cache clear --cache-dir /data/features"]),
    (
        "export",
        [
            "headstart export runs/photos --format pytorch --out photos.safetensors",
            "headstart export resnet50 --format onnx --out resnet50.onnx",
        ],
    ),
    (
        "compare",
        [
            "headstart compare runs/train runs/train2",
            "headstart compare runs/train runs/photos --out compared",
        ],
    ),
    ("serve", ["headstart serve runs/photos", "headstart serve --open"]),
    (
        "completions",
        ["headstart completions bash > headstart.bash", "headstart completions zsh > _headstart"],
    ),
    ("man", ["headstart man man1", "headstart man /usr/local/share/man/man1"]),
];

/// The first things to do, which end the program's own help.
const FIRST: [&str; 2] =
    ["headstart train", "headstart train --data photos --recipe auto --budget 20m"];

/// Ends the help of every command with its examples, below what ends it already.
pub fn with_examples(command: clap::Command) -> clap::Command {
    let own: (&str, [&str; 2]) = ("", FIRST);
    EXAMPLES.iter().chain([&own]).fold(command, |command, (path, lines)| {
        let words: Vec<&str> = path.split(' ').filter(|word| !word.is_empty()).collect();
        inner(command, &words, &|command| {
            let before = command.get_after_help().map(|text| format!("{text}\n\n"));
            let [a, b] = lines;
            command.after_help(format!("{}Examples:\n  {a}\n  {b}", before.unwrap_or_default()))
        })
    })
}

/// Changes the command at `path` below `command`.
pub fn inner(
    command: clap::Command,
    path: &[&str],
    change: &dyn Fn(clap::Command) -> clap::Command,
) -> clap::Command {
    match path {
        [] => change(command),
        [first, rest @ ..] => command.mut_subcommand(first, |below| inner(below, rest, change)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths of `command` and all commands below it.
    fn paths(command: &clap::Command, above: &str, list: &mut Vec<String>) {
        for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
            let path = format!("{above} {}", inner.get_name()).trim().to_string();
            paths(inner, &path, list);
            list.push(path);
        }
    }

    #[test]
    fn the_programs_own_help_ends_in_examples_that_it_takes() {
        let mut command = crate::args::command();
        for help in [command.render_help(), command.render_long_help()] {
            assert!(help.to_string().trim_end().ends_with(FIRST[1]), "{help}");
        }
        for line in FIRST {
            assert!(crate::args::command().try_get_matches_from(line.split(' ')).is_ok());
        }
    }

    #[test]
    fn every_command_has_two_examples_that_it_takes() {
        let mut all = Vec::new();
        paths(&crate::args::command(), "", &mut all);
        for path in all {
            let (_, lines) =
                EXAMPLES.iter().find(|e| e.0 == path).unwrap_or_else(|| panic!("{path}"));
            for line in lines {
                assert!(line.len() <= 78 && line.contains(&format!("headstart {path}")), "{line}");
                let own = line.split(" > ").next().unwrap_or_default();
                let words = own.split(' ').skip_while(|word| word.contains("HEADSTART_"));
                let parsed = crate::args::command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
            }
            let mut command = crate::args::command();
            let command =
                path.split(' ').fold(&mut command, |c, word| c.find_subcommand_mut(word).unwrap());
            for help in [command.render_help(), command.render_long_help()] {
                let help = help.to_string();
                assert!(help.trim_end().ends_with(lines[1]), "{path}: {help}");
            }
        }
    }
}
