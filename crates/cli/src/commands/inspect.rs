//! `headstart weights inspect`.

use headstart::summary::grouped;
use headstart::weights::inspect;

use crate::args::WeightsInspect;
use crate::failure::Failure;
use crate::output;

/// Prints what a weight file contains and which nets it fits.
pub fn run(args: &WeightsInspect) -> Result<(), Failure> {
    let found = inspect(&args.file)?;
    if args.json {
        output::json(&found)?;
        return Ok(());
    }
    output::line(format!("format: {}", found.format.name()))?;
    let width = found.tensors.iter().map(|t| t.name.len()).max().unwrap_or(0);
    for t in &found.tensors {
        let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
        let count = grouped(t.shape.iter().product());
        output::line(format!(
            "{:width$}  {:>16}  {:>4}  {count:>11}",
            t.name,
            shape.join("x"),
            t.dtype
        ))?;
    }
    output::line(format!("tensors: {}", found.tensors.len()))?;
    output::line(format!("parameters: {}", grouped(found.parameters)))?;
    if let Some(names) = &found.class_names {
        output::line(format!("classes: {}", names.join(", ")))?;
    }
    for fit in &found.fits {
        let head = match fit.classes {
            Some(n) => format!("with its head of {n} classes"),
            None => "without a head".to_string(),
        };
        let copy = fit.copy.as_ref().map_or(String::new(), |copy| format!(", of several: {copy}"));
        output::line(format!("fits: {}, {head}{copy}", fit.net))?;
        if let Some(refused) = &fit.refused {
            output::line(format!("refused: {refused}"))?;
        }
    }
    if found.fits.is_empty() {
        output::line("fits: none of headstart's nets")?;
    }
    Ok(())
}
