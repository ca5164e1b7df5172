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

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::FromArgMatches;

fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())
}

fn main() -> ExitCode {
    let matches = args::command().try_get_matches();
    let cli = match matches.and_then(|matches| args::Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        // Help and the version: text on stdout, which must not be lost.
        Err(text) if !text.use_stderr() => return help(&text),
        Err(error) => error.exit(),
    };
    #[cfg(feature = "objects")]
    headstart::hub::objects::register(Box::new(headstart_objects::Buckets::new()));
    let done = commands::run(cli.command, cli.memory_limit);
    ranks::end(done.map_err(|failure| failure.naming_flags(arguments())))
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
