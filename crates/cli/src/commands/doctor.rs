//! `headstart doctor`.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use headstart::Error;
use headstart::config::{DeviceChoice, Precision};
use headstart::doctor::{Adapters, Doctor, InstructionSet, Missing, adapters};

use super::device;
use crate::args::Doctor as Args;
use crate::failure::Failure;
use crate::output;
use crate::progress::bytes;

/// What a process says that has asked the drivers of GPUs and still runs.
const ASKED: &str = "asked";
/// How long drivers may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks the machine.
pub fn run(args: &Args) -> Result<(), Failure> {
    if args.drivers {
        adapters();
        return Ok(output::line(ASKED)?);
    }
    let device = device(args.threads, Precision::Auto, DeviceChoice::Cpu)?;
    let mut asks = Command::new(std::env::current_exe().unwrap_or_default());
    let adapters = match ended_by_a_driver(asks.args(["doctor", "--drivers"])) {
        None => adapters(),
        Some(what) => {
            let mend = "install another driver, or name the right one with VK_DRIVER_FILES; `--device cpu` needs none";
            let missing = vec![Missing { what, mend: mend.into() }];
            Adapters { missing, ..Adapters::default() }
        }
    };
    let doctor = Doctor::look_with(device.compute(), adapters);
    if args.json {
        output::json(&doctor)?;
    } else {
        print(&doctor)?;
    }
    Ok(())
}

/// A driver that crashes ends the process that asks it. So another process asks first: how that ended, where it did not get
/// through.
fn ended_by_a_driver(command: &mut Command) -> Option<String> {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Some("a GPU's driver does not answer".into());
            }
        }
    };
    let mut said = String::new();
    let _ = child.stdout.take()?.take(1 << 16).read_to_string(&mut said);
    let asked = said.lines().any(|line| line.trim() == ASKED);
    (!asked).then(|| format!("a GPU's driver ended the process that asked it ({status})"))
}

/// A fact, and what would change it.
fn row(name: &str, fact: &str, change: &str) -> Result<(), Error> {
    output::line(format!("{name:<12}{fact}"))?;
    if change.is_empty() { Ok(()) } else { output::line(format!("{:<14}{change}", "")) }
}

fn print(d: &Doctor) -> Result<(), Error> {
    row("headstart", &format!("{} for {}", d.version, d.cpu.architecture), "")?;
    let name = if d.cpu.name.is_empty() { "unknown: the system does not say" } else { &d.cpu.name };
    row("CPU", name, "")?;
    let cores = d.cpu.physical_cores.map_or_else(String::new, |n| format!("{n} cores, "));
    row(
        "threads",
        &format!(
            "{} of {} ({cores}one thread per core is the default)",
            d.threads, d.cpu.logical_cores
        ),
        "--threads N changes it; results do not depend on it",
    )?;
    for set in &d.instruction_sets {
        instruction_set(set)?;
    }
    let bf16 = if d.cpu.native_bf16 { "yes" } else { "no" };
    let change = "native on CPUs with AVX-512-BF16 (AMD since Zen 4, Intel since Cooper Lake)";
    row("native bf16", bf16, if d.cpu.native_bf16 { "" } else { change })?;
    row(
        "memory",
        &format!(
            "{} free of {}{}",
            bytes(d.memory.available),
            bytes(d.memory.total),
            if d.memory.limited { ", the limit of this container" } else { "" }
        ),
        &format!(
            "cached features take at most {}; --cache-memory changes it",
            bytes(d.memory.cache_memory)
        ),
    )?;
    let reading = format!("reading files takes at most {}", bytes(d.memory.reading));
    output::line(format!("{:<14}{reading}; --memory-limit changes it", ""))?;
    match &d.cache {
        None => row("cache", "no folder", "set HEADSTART_CACHE to a folder that can be written")?,
        Some(folder) => {
            let holds =
                if folder.exists { bytes(folder.bytes) } else { "does not exist yet".into() };
            let fact = format!("{}: {holds}", folder.path.display());
            row("cache", &fact, "HEADSTART_CACHE moves it; what is in it can be deleted")?;
            for (name, size) in &folder.entries {
                row("", &format!("  {name}: {}", bytes(*size)), "")?;
            }
        }
    }
    match &d.disk {
        None => row("disk", "the system does not say", "")?,
        Some(disk) => row(
            "disk",
            &format!(
                "{} free of {} at {}",
                bytes(disk.available),
                bytes(disk.total),
                disk.path.display()
            ),
            "runs are written here unless --out names another folder",
        )?,
    }
    devices(d)?;
    if d.environment.is_empty() {
        return row("environment", "no HEADSTART_* variable is set", "");
    }
    for (name, value) in &d.environment {
        row("environment", &format!("{name}={value}"), &format!("unset {name} for the default"))?;
    }
    Ok(())
}

fn devices(d: &Doctor) -> Result<(), Error> {
    if d.devices.is_empty() {
        row("devices", "no GPU: headstart computes on the CPU", "")?;
    }
    for (i, a) in d.devices.iter().enumerate() {
        let head = if i == 0 { "devices" } else { "" };
        let fact = format!("{} {} ({}), {} by {}", a.device, a.name, a.kind, a.backend, a.driver);
        let yes = |is: bool| if is { "yes" } else { "no" };
        let limits = format!(
            "feature maps of at most {}, {} shared by a workgroup, --precision f16 {}, subgroups {}",
            bytes(a.largest_buffer),
            bytes(u64::from(a.workgroup_memory)),
            yes(a.half),
            yes(a.subgroups),
        );
        row(head, &fact, &limits)?;
    }
    for missing in &d.missing {
        row("", &format!("  missing: {}", missing.what), &missing.mend)?;
    }
    Ok(())
}

fn instruction_set(set: &InstructionSet) -> Result<(), Error> {
    let (Some(peak), Some(relative)) = (set.peak_gflops, set.relative) else {
        return row(set.name, "not supported by this CPU", "");
    };
    let bf16 = set.bf16_gflops.map_or_else(String::new, |peak| format!(", {peak:.1} in bf16"));
    if set.chosen {
        return row(set.name, &format!("chosen: {peak:.1} GFLOP/s in registers, f32{bf16}"), "");
    }
    let change = format!("HEADSTART_ISA={} chooses it", set.name);
    row(
        set.name,
        &format!("{peak:.1} GFLOP/s{bf16}, {relative:.2} times as fast as the chosen set"),
        &change,
    )
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn how_the_process_that_asks_drivers_ended_is_said() {
        let after = |script: &str| ended_by_a_driver(Command::new("sh").args(["-c", script]));
        assert_eq!(after("echo a driver speaks; echo asked"), None);
        assert!(after("kill -SEGV $$").unwrap().contains("signal: 11"));
        for script in ["exit 0", "exit 3", "echo nothing"] {
            assert!(after(script).unwrap().contains("exit status"), "{script}");
        }
    }
}
