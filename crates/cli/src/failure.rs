//! How a command fails.

use std::process::ExitCode;

use crate::output;
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

/// The flag among `arguments` that sets `what`: `--test-split` sets the test split.
fn flag_of(what: &str, arguments: impl IntoIterator<Item = String>) -> Option<String> {
    let plain = |text: &str| text.to_lowercase().replace(['-', ' ', '_'], "");
    let flags = arguments.into_iter().filter(|word| word.starts_with("--"));
    let mut names = flags.map(|word| word.split('=').next().unwrap_or_default().to_string());
    names.find(|name| plain(name) == plain(what))
}

impl Failure {
    /// The same, with the flag's name where the error is about what one of the `arguments` sets.
    pub fn naming_flags(mut self, arguments: impl IntoIterator<Item = String>) -> Failure {
        if let Failure::Failed(error) | Failure::Usage(error) = &mut self
            && let Error::Invalid { what, .. } = error
            && let Some(flag) = flag_of(what, arguments)
        {
            *what = flag;
        }
        self
    }

    /// Prints on stderr what happened and returns the exit code.
    pub fn report(&self) -> ExitCode {
        let code = ExitCode::from(self.code());
        let error = match self {
            Failure::Failed(error) | Failure::Usage(error) => error,
            Failure::Interrupted(what) => {
                output::failure(format!("interrupted: {what}"));
                return code;
            }
        };
        output::failure(format!("error: {error}"));
        if let Some(hint) = error.hint() {
            output::failure(format!("hint: {hint}"));
        }
        code
    }

    /// What happened, in a line.
    pub fn text(&self) -> String {
        match self {
            Failure::Failed(error) | Failure::Usage(error) => error.to_string(),
            Failure::Interrupted(what) => what.clone(),
        }
    }

    /// The exit code that [`Failure::report`] returns.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Interrupted(_) => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_a_flag_names_it() {
        let words = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
        let line = words("headstart train --test-split=5 --beta-1 2 --out test");
        for (what, flag) in
            [("test split", Some("--test-split")), ("beta 1", Some("--beta-1")), ("seed", None)]
        {
            assert_eq!(flag_of(what, line.clone()).as_deref(), flag);
            let failure = Failure::Usage(Error::invalid(what, "less", "more", ""));
            let Failure::Usage(Error::Invalid { what: named, .. }) =
                failure.naming_flags(line.clone())
            else {
                panic!("another failure")
            };
            assert_eq!(named, flag.unwrap_or(what));
        }
    }
}
