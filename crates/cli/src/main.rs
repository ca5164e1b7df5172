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

use clap::FromArgMatches;
use clap::error::ErrorKind;
use headstart::Error;
use headstart::text::{is_active, of_path};

fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())
}

fn main() -> ExitCode {
    let matches = args::command().try_get_matches();
    let cli = match matches.and_then(|matches| args::Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        // Help and the version: text on stdout, which must not be lost.
        Err(text) if !text.use_stderr() => return help(&text),
        Err(error) => return refused(&error),
    };
    #[cfg(feature = "objects")]
    headstart::hub::objects::register(Box::new(headstart_objects::Buckets::new()));
    let done = commands::run(cli.command, cli.memory_limit);
    ranks::end(done.map_err(|failure| failure.naming_flags(arguments())))
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
