//! How a command fails.

use std::process::ExitCode;

use headstart::Error;

/// Why a command stopped.
#[derive(Debug)]
pub enum Failure {
    /// It failed: exit code 1.
    Failed(Error),
    /// The command line is wrong: exit code 2.
    Usage(Error),
    /// The user interrupted it: exit code 130.
    Interrupted(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Stopped(what) => Failure::Interrupted(what),
            error => Failure::Failed(error),
        }
    }
}

impl Failure {
    /// Prints on stderr what happened and returns the exit code.
    pub fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Failure::Failed(error) => (error, 1),
            Failure::Usage(error) => (error, 2),
            Failure::Interrupted(what) => {
                eprintln!("interrupted: {what}");
                return ExitCode::from(130);
            }
        };
        eprintln!("error: {error}");
        if let Some(hint) = error.hint() {
            eprintln!("hint: {hint}");
        }
        ExitCode::from(code)
    }
}
