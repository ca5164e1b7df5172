//! `headstart plot`.

use headstart::report::redraw;

use crate::args::Plot;
use crate::failure::Failure;
use crate::output;
use crate::output::note;

/// Draws a run's pictures from its files.
pub fn run(args: &Plot) -> Result<(), Failure> {
    if let Some(cut) = redraw(&args.run)? {
        note!("warning: {cut}");
    }
    for name in ["accuracy", "loss", "confusion_matrix", "reliability"] {
        let path = args.run.join(format!("{name}.png"));
        if path.exists() {
            output::line(path.display())?;
        }
    }
    Ok(())
}
