//! `headstart bench`.

use std::path::Path;

use headstart::bench::Measurement;
use headstart::config::DeviceChoice;
use headstart::doctor::Doctor;
use headstart::{Device, Error};
use serde::Serialize;

use super::device;
use super::explain::prepare;
use crate::args::{Bench, PhaseArg, Work};
use crate::failure::Failure;
use crate::output;
use crate::output::note;

#[derive(Serialize)]
struct Row<'a, M> {
    model: &'a str,
    phase: &'static str,
    cached: bool,
    precision: &'static str,
    batch: usize,
    threads: usize,
    isa: &'static str,
    device: String,
    #[serde(flatten)]
    measurement: M,
}

/// What `--report` writes.
#[derive(Serialize)]
struct Report<'a> {
    machine: Doctor,
    measured: Vec<Part<'a>>,
}

/// A measurement, or why there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Measured(Box<Row<'a, Measurement>>),
    Failed { phase: &'static str, batch: usize, device: String, error: String },
}

/// Images of a batch that fills a GPU.
const LARGE: usize = 256;

/// Measures one phase, or all for a report.
pub fn run(args: &Bench) -> Result<(), Failure> {
    match &args.report {
        Some(path) => report(args, path),
        None => one(args),
    }
}

fn named(device: &Device) -> String {
    if device.is_cpu() { "cpu".into() } else { device.fingerprint() }
}

/// The measurement of `work` on a device.
fn row<'a>(
    work: &'a Work,
    device: &Device,
    repeat: usize,
) -> Result<Row<'a, Measurement>, Failure> {
    Ok(Row {
        measurement: prepare(work, device)?.measure(repeat)?,
        model: &work.model,
        phase: work.phase.name(),
        cached: work.cached,
        precision: device.dtype().name(),
        batch: work.batch_size,
        threads: device.compute().threads.count(),
        isa: device.compute().isa().name(),
        device: named(device),
    })
}

fn report(args: &Bench, path: &Path) -> Result<(), Failure> {
    super::check_output(Some(path), std::iter::empty::<&Path>())?;
    let open = |choice| device(args.work.threads, args.work.precision.into(), choice);
    let mut devices = vec![open(args.work.device)?];
    if !devices[0].is_cpu() {
        devices.push(open(DeviceChoice::Cpu)?);
    }
    let mut batches = vec![args.work.batch_size, LARGE];
    batches.dedup();
    let mut works = Vec::new();
    for phase in [PhaseArg::Forward, PhaseArg::Head, PhaseArg::FineTune, PhaseArg::Full] {
        for &batch_size in &batches {
            works.push(Work { phase, batch_size, ..args.work.clone() });
        }
    }
    let mut measured = Vec::new();
    for device in &devices {
        for work in &works {
            let (phase, batch, device_name) = (work.phase.name(), work.batch_size, named(device));
            note!("{phase}, batch {batch}, {device_name}");
            measured.push(match row(work, device, args.repeat) {
                Ok(row) => Part::Measured(Box::new(row)),
                Err(Failure::Interrupted(why)) => return Err(Failure::Interrupted(why)),
                Err(Failure::Failed(error) | Failure::Usage(error)) => {
                    let error = error.to_string();
                    note!("{error}");
                    Part::Failed { phase, batch, device: device_name, error }
                }
            });
        }
    }
    // Others get this file: no folders of the user, and no variables, which may hold passwords.
    let look = Doctor::look(devices[0].compute());
    let machine = Doctor { cache: None, disk: None, environment: Vec::new(), ..look };
    let text = serde_json::to_vec_pretty(&Report { machine, measured })
        .map_err(|e| Error::invalid("report", "JSON", e.to_string(), ""))?;
    headstart::atomic::write_bytes(path, &text)?;
    output::line(format!("{}: {} measurements", path.display(), works.len() * devices.len()))?;
    Ok(())
}

fn one(args: &Bench) -> Result<(), Failure> {
    let device = device(args.work.threads, args.work.precision.into(), args.work.device)?;
    let row = row(&args.work, &device, args.repeat)?;
    let m = &row.measurement;
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
