//! What headstart can use of this machine: processor, kernels, memory, disk, caches.
//!
//! ```
//! use headstart::{Compute, doctor::Doctor};
//!
//! let doctor = Doctor::look(&Compute::new(0)?);
//! println!("{} threads; {:?}", doctor.threads, doctor.instruction_sets);
//! assert!(doctor.threads > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use headstart_kernels::element::DType;
use headstart_kernels::isa::Isa;
use headstart_kernels::table::Compute;
use serde::Serialize;
use sysinfo::{CpuRefreshKind, Disks, RefreshKind, System};

use crate::hub;
use crate::memory;
use crate::train::trainer::default_cache_memory;

/// How long each instruction set is measured, in seconds.
const MEASURE: f64 = 0.2;

/// What was found. Memory and disk are in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Doctor {
    /// headstart's version.
    pub version: &'static str,
    /// The processor.
    pub cpu: Cpu,
    /// Threads that compute.
    pub threads: usize,
    /// Every instruction set headstart has kernels for, the narrowest first.
    pub instruction_sets: Vec<InstructionSet>,
    /// Main memory.
    pub memory: Memory,
    /// The user's cache folder; `None` without a home folder.
    pub cache: Option<Folder>,
    /// The file system of the working folder; `None` where the system does not say.
    pub disk: Option<Disk>,
    /// Adapters of GPUs and their drivers; `gpu:N` is the `N`th, from 0.
    pub devices: Vec<Adapter>,
    /// What stands in the way of a GPU.
    pub missing: Vec<Missing>,
    /// The variables `HEADSTART_*`, and those that name Vulkan drivers, that are set, by name.
    pub environment: Vec<(String, String)>,
}

/// A processor.
#[derive(Clone, Debug, Serialize)]
pub struct Cpu {
    /// As the system names it; empty where it does not.
    pub name: String,
    /// The architecture headstart was built for.
    pub architecture: &'static str,
    /// Cores, where the system says.
    pub physical_cores: Option<usize>,
    /// Hardware threads that this process may use.
    pub logical_cores: usize,
    /// Whether this CPU multiplies bf16 natively, with kernels here: AVX-512-BF16.
    pub native_bf16: bool,
}

/// An instruction set.
#[derive(Clone, Debug, Serialize)]
pub struct InstructionSet {
    /// As `HEADSTART_ISA` spells it.
    pub name: &'static str,
    /// Whether this CPU runs it.
    pub available: bool,
    /// Whether headstart computes with it.
    pub chosen: bool,
    /// f32 multiply-adds of all threads in GFLOP/s, by a loop over registers; `None` if unavailable.
    pub peak_gflops: Option<f64>,
    /// The same for bf16, where the instruction set multiplies it natively.
    pub bf16_gflops: Option<f64>,
    /// `peak_gflops` as a multiple of the chosen one's.
    pub relative: Option<f64>,
}

/// Main memory in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// All of it, or this process's control group's limit.
    pub total: u64,
    /// What is available without swapping.
    pub available: u64,
    /// Whether the control group's limit is less than the machine's memory.
    pub limited: bool,
    /// What cached features may take by default; `--cache-memory` changes it.
    pub cache_memory: u64,
    /// What reading files may take; `--memory-limit` changes it.
    pub reading: u64,
}

/// A folder and what is in it.
#[derive(Clone, Debug, Serialize)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it exists.
    pub exists: bool,
    /// Bytes in all.
    pub bytes: u64,
    /// Its entries with the bytes in them, by name.
    pub entries: Vec<(String, u64)>,
}

/// A file system.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    /// The folder.
    pub path: PathBuf,
    /// Bytes that can be written.
    pub available: u64,
    /// Bytes in all.
    pub total: u64,
}

/// An adapter of a GPU.
#[derive(Clone, Debug, Serialize)]
pub struct Adapter {
    /// As `--device` spells it.
    pub device: String,
    /// Its name.
    pub name: String,
    /// Name and version of its driver.
    pub driver: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// What it is; `software` is a program that computes on the processor.
    pub kind: &'static str,
    /// Bytes of the largest buffer, which every feature map of a batch must fit.
    pub largest_buffer: u64,
    /// Bytes that the threads of a workgroup share.
    pub workgroup_memory: u32,
    /// Whether it computes in 16 bits.
    pub half: bool,
    /// Whether threads of a subgroup exchange values.
    pub subgroups: bool,
}

/// Something that this machine lacks for a GPU, and what mends it.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// What mends it.
    pub mend: String,
}

/// Adapters of GPUs, and what is missing.
#[derive(Clone, Debug, Default)]
pub struct Adapters {
    /// In the order of their numbers.
    pub adapters: Vec<Adapter>,
    /// What stands in the way of more.
    pub missing: Vec<Missing>,
}

/// Asks all drivers of GPUs.
#[cfg(feature = "gpu")]
pub fn adapters() -> Adapters {
    let machine = headstart_gpu::Machine::look();
    let adapters = machine.adapters.into_iter().enumerate().map(|(i, a)| Adapter {
        device: format!("gpu:{i}"),
        kind: a.kind.name(),
        largest_buffer: a.largest_buffer.min(a.largest_binding),
        name: a.name,
        driver: a.driver,
        backend: a.backend,
        workgroup_memory: a.workgroup_memory,
        half: a.half,
        subgroups: a.subgroups,
    });
    let missing = machine.missing.into_iter().map(|m| Missing { what: m.what, mend: m.mend });
    Adapters { adapters: adapters.collect(), missing: missing.collect() }
}

/// None: this build has no code for GPUs.
#[cfg(not(feature = "gpu"))]
pub fn adapters() -> Adapters {
    let what = "no code for GPUs in this build".to_string();
    let mend = "build with the feature `gpu`, which is on by default".to_string();
    Adapters { adapters: Vec::new(), missing: vec![Missing { what, mend }] }
}

impl Doctor {
    /// Checks the machine; measures each instruction set for 0.2 s on `compute`'s threads.
    pub fn look(compute: &Compute) -> Doctor {
        Doctor::look_with(compute, adapters())
    }

    /// The same where drivers of GPUs were asked already, or cannot be asked.
    pub fn look_with(compute: &Compute, adapters: Adapters) -> Doctor {
        let system =
            System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
        let Adapters { adapters, missing } = adapters;
        Doctor {
            version: env!("CARGO_PKG_VERSION"),
            cpu: cpu(&system),
            threads: compute.threads.count(),
            instruction_sets: instruction_sets(compute),
            memory: memory(),
            cache: hub::cache_folder().ok().map(Folder::look),
            disk: std::env::current_dir().ok().and_then(|path| disk(&path)),
            devices: adapters,
            missing,
            environment: environment(),
        }
    }
}

fn cpu(system: &System) -> Cpu {
    Cpu {
        name: system.cpus().first().map_or_else(String::new, |c| c.brand().trim().to_string()),
        architecture: std::env::consts::ARCH,
        physical_cores: System::physical_core_count(),
        logical_cores: std::thread::available_parallelism().map_or(1, usize::from),
        native_bf16: native_bf16(),
    }
}

fn native_bf16() -> bool {
    Isa::ALL.iter().any(|isa| isa.multiplies_bf16() && isa.available())
}

fn instruction_sets(compute: &Compute) -> Vec<InstructionSet> {
    let peak = |isa: Isa, dtype: DType| {
        let kernels = Compute::with_isa(compute.threads.count(), isa).ok()?;
        Some(kernels.measure_peak(dtype, MEASURE) / 1e9)
    };
    let mut list: Vec<InstructionSet> = Isa::ALL
        .into_iter()
        .map(|isa| InstructionSet {
            name: isa.name(),
            available: isa.available(),
            chosen: isa == compute.isa(),
            peak_gflops: peak(isa, DType::F32),
            bf16_gflops: isa.multiplies_bf16().then(|| peak(isa, DType::Bf16)).flatten(),
            relative: None,
        })
        .collect();
    let chosen = list.iter().find(|set| set.chosen).and_then(|set| set.peak_gflops);
    for set in &mut list {
        set.relative = set.peak_gflops.zip(chosen).map(|(peak, chosen)| peak / chosen);
    }
    list
}

fn memory() -> Memory {
    let seen = memory::look();
    Memory {
        total: seen.map_or(0, |memory| memory.total),
        available: seen.map_or(0, |memory| memory.available),
        limited: seen.is_some_and(|memory| memory.limited),
        cache_memory: default_cache_memory(),
        reading: memory::limit(),
    }
}

fn disk(path: &Path) -> Option<Disk> {
    let disks = Disks::new_with_refreshed_list();
    let holds = disks.list().iter().filter(|disk| path.starts_with(disk.mount_point()));
    let disk = holds.max_by_key(|disk| disk.mount_point().components().count())?;
    Some(Disk {
        path: path.to_path_buf(),
        available: disk.available_space(),
        total: disk.total_space(),
    })
}

/// Variables of others that change what is found.
const OF_OTHERS: [&str; 2] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"];

fn environment() -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
        .filter(|(name, _): &(String, String)| {
            OF_OTHERS.contains(&&**name) || name.starts_with("HEADSTART_")
        })
        .collect();
    list.sort();
    list
}

impl Folder {
    /// Counts what is in `path`; what cannot be read counts as nothing.
    pub fn look(path: PathBuf) -> Folder {
        let mut entries: Vec<(String, u64)> = fs::read_dir(&path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| (e.file_name().to_string_lossy().into_owned(), bytes(&e.path())))
            .collect();
        entries.sort();
        let bytes = entries.iter().map(|(_, bytes)| bytes).sum();
        Folder { exists: path.is_dir(), path, bytes, entries }
    }
}

/// Bytes of a file, or of all files in a folder. Links are not followed, so loops end.
fn bytes(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|e| bytes(&e.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_counted_with_what_lies_below_them() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("a/b")).unwrap();
        fs::write(place.path().join("a/b/x"), [0; 10]).unwrap();
        fs::write(place.path().join("a/y"), [0; 5]).unwrap();
        fs::write(place.path().join("z"), [0; 7]).unwrap();
        let folder = Folder::look(place.path().to_path_buf());
        assert!(folder.exists);
        assert_eq!(folder.bytes, 22);
        assert_eq!(folder.entries, [("a".to_string(), 15), ("z".to_string(), 7)]);
        let none = Folder::look(place.path().join("none"));
        assert!(!none.exists && none.entries.is_empty() && none.bytes == 0);
    }
}
