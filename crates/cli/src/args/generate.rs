//! Flags of the commands that write the files a package ships beside the binary.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Which completion script.
#[derive(Debug, Args)]
pub struct Completions {
    /// Shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Where manual pages go.
#[derive(Debug, Args)]
pub struct Man {
    /// Folder for headstart.1, headstart-train.1 and so on; made if it does not exist
    pub folder: PathBuf,
}
