//! The `headstart` command.
#![forbid(unsafe_code)]

mod output;

mod args;
mod commands;
mod download;
mod failure;
mod interrupt;
mod progress;
mod shortage;
mod show;

use std::process::ExitCode;

use clap::FromArgMatches;

fn arguments() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())
}

fn main() -> ExitCode {
    let cli = args::Cli::from_arg_matches(&args::command().get_matches());
    let cli = cli.unwrap_or_else(|e| e.exit());
    match commands::run(cli.command, cli.memory_limit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.naming_flags(arguments()).report(),
    }
}
