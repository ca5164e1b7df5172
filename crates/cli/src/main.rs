//! The `headstart` command.
#![forbid(unsafe_code)]

mod output;

mod args;
mod commands;
mod download;
mod failure;
mod interrupt;
mod progress;
mod ranks;
mod shortage;
mod show;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches};
use headstart::Error;
use headstart::hub::objects::is_url;
use headstart::text::{is_active, of_path};

fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())
}

fn main() -> ExitCode {
    let matches = args::command().try_get_matches();
    let cli = matches.and_then(|matches| {
        Ok((args::Cli::from_arg_matches(&matches)?, output_elsewhere(&matches)))
    });
    let cli = match cli {
        Ok((_, Some(error))) => return failure::Failure::Usage(error).report(),
        Ok((cli, None)) => cli,
        // Help and the version: text on stdout, which must not be lost.
        Err(text) if !text.use_stderr() => return help(&text),
        Err(error) => return refused(&error),
    };
    #[cfg(feature = "objects")]
    headstart::hub::objects::register(Box::new(headstart_objects::Buckets::new()));
    let done = commands::run(cli.command, cli.memory_limit);
    ranks::end(done.map_err(|failure| failure.naming_flags(arguments())))
}

/// What is wrong with an output that is named by a URL, for which a folder of that name would be made.
fn output_elsewhere(matches: &ArgMatches) -> Option<Error> {
    const OUTPUTS: [&str; 5] = ["out", "output", "html", "report", "show_batch"];
    let of = |id: &clap::Id| {
        let values = matches.get_raw(id.as_str()).filter(|_| OUTPUTS.contains(&id.as_str()))?;
        let mut words = values.map(|value| value.to_string_lossy());
        words.find(|word| is_url(word)).map(|word| {
            let what = format!("--{}", id.as_str().replace('_', "-"));
            let hint = "write it here, and copy it: aws s3 cp --recursive, gcloud storage cp -r, az storage blob upload-batch";
            Error::invalid(what, "a file or folder of this machine", word, hint)
        })
    };
    let below = matches.subcommand().and_then(|(_, matches)| output_elsewhere(matches));
    below.or_else(|| matches.ids().find_map(of))
}

/// Says what is wrong with the command line.
fn refused(error: &clap::Error) -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let odd = words.iter().position(|word| word.to_str().is_none());
    if let (ErrorKind::InvalidUtf8, Some(odd)) = (error.kind(), odd) {
        let flag = odd.checked_sub(1).and_then(|before| words[before].to_str());
        let what = flag.filter(|flag| flag.starts_with("--")).unwrap_or("argument");
        let found = of_path(Path::new(&words[odd]));
        let hint = "give the file or folder another name, or a link to it: ln -s ./NAME link";
        let error = Error::invalid(what, "text in UTF-8", found, hint);
        return failure::Failure::Usage(error).report();
    }
    // What the message repeats of them may control a terminal.
    if words.iter().any(|word| word.to_string_lossy().contains(is_active)) {
        let shown = |c: char| match is_active(c) && c != '\n' {
            true => c.escape_unicode().to_string(),
            false => c.to_string(),
        };
        let text: String = error.render().to_string().chars().map(shown).collect();
        output::failure(text.trim_end());
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    error.exit()
}

/// Prints what was asked for instead of running a command.
fn help(text: &clap::Error) -> ExitCode {
    let styled = text.render();
    let text = match std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => styled.ansi().to_string(),
        false => styled.to_string(),
    };
    match output::own(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::Failure::from(error).report(),
    }
}
