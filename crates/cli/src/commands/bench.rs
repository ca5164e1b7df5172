//! `headstart bench`.

use headstart::bench::Measurement;
use serde::Serialize;

use super::device;
use super::explain::prepare;
use crate::args::Bench;
use crate::failure::Failure;
use crate::output;

#[derive(Serialize)]
struct Row<'a> {
    model: &'a str,
    phase: &'static str,
    cached: bool,
    precision: &'static str,
    batch: usize,
    threads: usize,
    isa: &'static str,
    device: String,
    #[serde(flatten)]
    measurement: &'a Measurement,
}

/// Measures one phase.
pub fn run(args: &Bench) -> Result<(), Failure> {
    let device = device(args.work.threads, args.work.precision.into(), args.work.device)?;
    let m = prepare(&args.work, &device)?.measure(args.repeat)?;
    let row = Row {
        model: &args.work.model,
        phase: args.work.phase.name(),
        cached: args.work.cached,
        precision: device.dtype().name(),
        batch: args.work.batch_size,
        threads: device.compute().threads.count(),
        isa: device.compute().isa().name(),
        device: if device.is_cpu() { "cpu".into() } else { device.fingerprint() },
        measurement: &m,
    };
    if args.json {
        output::json(&row)?;
        return Ok(());
    }
    let cached = if row.cached { ", cached" } else { "" };
    let place = match device.is_cpu() {
        true => format!("{} threads, {}", row.threads, row.isa),
        false => row.device.clone(),
    };
    output::line(format!(
        "{} {}{cached} {}, batch {}, {place}",
        row.model, row.phase, row.precision, row.batch
    ))?;
    let peak = match device.is_cpu() {
        true => format!(
            "{:.1} of {:.1} GFLOP/s ({:.0}% of peak)",
            m.achieved_gflops,
            m.peak_gflops,
            m.fraction_of_peak * 100.0
        ),
        false => format!("{:.1} GFLOP/s", m.achieved_gflops),
    };
    output::line(format!(
        "{:.1} img/s   {peak}   {:.2} GFLOP per image   {:.0} MB",
        m.images_per_second, m.gflops_per_image, m.peak_rss_mb
    ))?;
    Ok(())
}
