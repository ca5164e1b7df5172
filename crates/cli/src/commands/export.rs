//! `headstart export`.

use headstart::export::{WeightFormat, script, write_weights};
use serde::Serialize;

use super::open_model;
use crate::args::Export;
use crate::failure::Failure;
use crate::output;

#[derive(Serialize)]
struct Exported {
    file: String,
    /// Python that loads it.
    script: String,
}

/// Writes the file and prints the lines that load it.
pub fn run(args: &Export) -> Result<(), Failure> {
    let format = WeightFormat::from(args.format);
    format.check_ending(&args.out).map_err(Failure::Usage)?;
    let model = open_model(&args.model, args.weights.as_deref())?;
    write_weights(&model, format, &args.out)?;
    let script = script(&model, format, &args.out);
    if args.json {
        output::json(&Exported { file: args.out.display().to_string(), script })?;
        return Ok(());
    }
    eprintln!("wrote {}; in Python:", args.out.display());
    output::text(script)?;
    Ok(())
}
