//! A run by several processes: what those of one machine share, and what all need to have alike.

use std::collections::HashMap;
use std::fs;

use sysinfo::System;

use super::{Job, Place};
use crate::engine::device::Device;
use crate::error::Result;
use crate::range;
use crate::session::config::TrainConfig;
use crate::train::collective::Collective;
use crate::train::trainer::default_cache_memory;

/// With how many processes this one shares its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Processes on this machine, this one included.
    processes: usize,
    /// Those of them that may run on the same processors.
    sharing: usize,
}

impl Default for Machine {
    /// One process alone.
    fn default() -> Machine {
        Machine { processes: 1, sharing: 1 }
    }
}

impl Machine {
    /// What all processes say of where they are.
    pub fn of(collective: &mut dyn Collective) -> Result<Machine> {
        if collective.size() < 2 {
            return Ok(Machine::default());
        }
        let own = [host(), processors()].join("\n");
        let all = collective.gather(own.as_bytes())?;
        let text: Vec<String> =
            all.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
        Ok(Machine::among(&own, &text))
    }

    fn among(own: &str, all: &[String]) -> Machine {
        let host = |text: &str| text.lines().next().map(str::to_string);
        let mut hosts: HashMap<Option<String>, usize> = HashMap::new();
        all.iter().for_each(|text| *hosts.entry(host(text)).or_default() += 1);
        let sharing = all.iter().filter(|text| *text == own).count().max(1);
        Machine { processes: hosts.get(&host(own)).copied().unwrap_or(1).max(1), sharing }
    }

    /// Threads of this process, where the settings ask for `threads`, or by 0 for one per core.
    pub fn threads(self, threads: usize) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get());
        match (threads, self.sharing) {
            (0, 2..) => (cores() / self.sharing).max(1),
            _ => threads,
        }
    }

    /// Bytes of memory for cached features.
    pub fn memory(self, config: &TrainConfig) -> u64 {
        let open = || default_cache_memory() / self.processes as u64;
        config.cache_memory.map_or_else(open, range::bytes)
    }
}

/// The machine: its name, and when it was started, as containers of one machine may share a name.
fn host() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{} {}", System::host_name().unwrap_or_default(), boot.trim())
}

/// The processors that this process may run on, where the system says.
fn processors() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.unwrap_or_default().trim().to_string()
}

impl Job {
    /// What all processes have to have alike, besides images and weights.
    pub(super) fn facts(&self, device: &Device) -> Result<Vec<(&'static str, String)>> {
        let own = TrainConfig {
            // Where the images are, and what does not change results.
            data: String::new(),
            threads: 0,
            cache_memory: None,
            tensorboard: false,
            ..self.config.clone()
        };
        let kind = match &self.place {
            Place::Earlier { .. } => "resumed",
            _ => "new",
        };
        Ok(vec![
            (
                "program",
                format!("{} {}, {kind} run", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")),
            ),
            ("instructions", device.fingerprint()),
            ("settings", own.to_toml()?),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_a_machine_share_its_processors_and_those_bound_apart_do_not() {
        let all = ["a\n0-7", "a\n0-7", "b\n0-3", "b\n4-7"].map(String::from);
        let machine = |own: usize| Machine::among(&all[own], &all);
        assert_eq!(machine(0), Machine { processes: 2, sharing: 2 });
        assert_eq!(machine(2), Machine { processes: 2, sharing: 1 });
        assert_eq!(machine(0).threads(3), 3);
        assert_eq!(machine(2).threads(0), 0);
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(machine(0).threads(0), (cores / 2).max(1));
        let memory = TrainConfig { cache_memory: Some(3), ..TrainConfig::default() };
        assert_eq!(machine(0).memory(&memory), range::bytes(3));
    }
}
