//! `headstart completions` and `headstart man`.

use headstart::Error;
use headstart::atomic::{make_folder, write_bytes};

use crate::args::{Completions, Man, command};
use crate::failure::Failure;
use crate::output;

/// Prints a completion script.
pub fn completions(args: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "headstart", &mut script);
    output::own(String::from_utf8_lossy(&script))?;
    Ok(())
}

/// Writes a page for the program and one for each command, and prints their paths.
pub fn man(args: &Man) -> Result<(), Failure> {
    make_folder(&args.folder)?;
    let mut program = command();
    program.build();
    for page in with_subcommands(&program) {
        let name = page.get_display_name().unwrap_or(page.get_name()).to_string();
        let path = args.folder.join(format!("{name}.1"));
        let mut text = Vec::new();
        let page = clap_mangen::Man::new(page).title(name.to_uppercase());
        page.render(&mut text).map_err(Error::io("write", &path))?;
        write_bytes(&path, &text)?;
        output::line(path.display())?;
    }
    Ok(())
}

/// A command and all below it, except clap's own `help`.
fn with_subcommands(command: &clap::Command) -> Vec<clap::Command> {
    let below = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    std::iter::once(command.clone()).chain(below.flat_map(with_subcommands)).collect()
}
