//! Which adapters this machine has, and what is missing where there are none.

use std::path::{Path, PathBuf};

use crate::drivers;
use crate::error::{GpuError, Result};

/// What an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A card of its own.
    Discrete,
    /// Part of the processor's chip.
    Integrated,
    /// Another machine's card.
    Virtual,
    /// A program that computes on the processor: lavapipe, SwiftShader, WARP.
    Software,
    /// The driver does not say.
    Other,
}

impl Kind {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Discrete => "discrete GPU",
            Kind::Integrated => "integrated GPU",
            Kind::Virtual => "virtual GPU",
            Kind::Software => "software",
            Kind::Other => "GPU of unknown kind",
        }
    }
}

/// An adapter and its driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// Name and version of its driver.
    pub driver: String,
    /// The interface: `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes of the largest buffer.
    pub largest_buffer: u64,
    /// Most bytes of a buffer that a kernel sees.
    pub largest_binding: u64,
    /// Bytes that the threads of a workgroup share.
    pub workgroup_memory: u32,
    /// Whether kernels may compute in 16 bits.
    pub half: bool,
    /// Whether the threads of a subgroup may exchange values.
    pub subgroups: bool,
}

impl Adapter {
    pub(crate) fn of(adapter: &wgpu::Adapter) -> Adapter {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let driver = format!("{} {}", info.driver, info.driver_info);
        Adapter {
            name: shown(&info.name),
            driver: shown(driver.trim()),
            backend: info.backend.to_str().to_string(),
            kind: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => Kind::Discrete,
                wgpu::DeviceType::IntegratedGpu => Kind::Integrated,
                wgpu::DeviceType::VirtualGpu => Kind::Virtual,
                wgpu::DeviceType::Cpu => Kind::Software,
                wgpu::DeviceType::Other => Kind::Other,
            },
            largest_buffer: limits.max_buffer_size,
            largest_binding: limits.max_storage_buffer_binding_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            half: features.contains(wgpu::Features::SHADER_F16),
            subgroups: features.contains(wgpu::Features::SUBGROUP),
        }
    }

    /// Names the adapter, its interface and its driver: what the bits of a result depend on.
    pub fn fingerprint(&self) -> String {
        format!("{} {} ({})", self.backend, self.name, self.driver)
    }
}

/// A driver's text without what a terminal would act on.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Which adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first that is no software.
    Any,
    /// The first that is no software and whose kernels may compute in 16 bits.
    Half,
    /// The one with this number in [`Machine::adapters`].
    Number(usize),
}

/// Something that this machine lacks, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is missing.
    pub what: String,
    /// What mends it.
    pub mend: String,
}

/// What there is on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// All adapters; `gpu:N` is the `N`th, from 0.
    pub adapters: Vec<Adapter>,
    /// What stands in the way of more.
    pub missing: Vec<Missing>,
}

impl Machine {
    /// Asks all drivers.
    pub fn look() -> Machine {
        let adapters: Vec<Adapter> = adapters().iter().map(Adapter::of).collect();
        let missing = match adapters.iter().any(|a| a.kind != Kind::Software) {
            true => Vec::new(),
            false => System::real().missing(),
        };
        let mut machine = Machine { adapters, missing };
        let hard = machine.adapters.iter().any(|a| a.kind != Kind::Software);
        if !hard && machine.missing.is_empty() {
            let what = "no GPU that this system computes on".to_string();
            machine.missing.push(Missing { what, mend: "compute with `--device cpu`".into() });
        }
        machine
    }

    /// Whether the operating system knows a GPU, without asking any driver: where it does not, no driver need be loaded.
    pub fn may_have_one() -> bool {
        if !cfg!(target_os = "linux") {
            return true;
        }
        let nodes = ["/dev/dri", "/dev/nvidia0", "/dev/dxg", "/dev/kgsl-3d0", "/dev/mali0"];
        nodes.iter().any(|node| Path::new(node).exists())
    }

    /// The error of finding no adapter.
    pub(crate) fn none() -> GpuError {
        let missing = System::real().missing();
        let hint = match missing.first() {
            Some(Missing { mend, .. }) => mend.clone(),
            None => "`headstart doctor` lists what there is".to_string(),
        };
        let found = missing.iter().map(|m| m.what.clone()).collect::<Vec<_>>().join(", ");
        let found = if found.is_empty() { "none".to_string() } else { found };
        GpuError::new(
            "GPU",
            "an adapter with a driver for Vulkan, Metal or DirectX 12",
            found,
            hint,
        )
    }
}

/// Every adapter of every interface, in a fixed order: cards first, software last.
pub(crate) fn adapters() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let mut found = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    found.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    found
}

/// Where a Linux system has what Vulkan needs.
struct System {
    /// Folders with libraries.
    libraries: Vec<PathBuf>,
    /// Folders with descriptions of drivers.
    drivers: Vec<PathBuf>,
    /// The folder of PCI devices.
    pci: PathBuf,
    /// The folder of graphics devices.
    nodes: PathBuf,
}

/// Names of the library that loads Vulkan drivers.
const LOADER: &str = "libvulkan.so.1";

impl System {
    fn real() -> System {
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        let mut libraries =
            paths(&["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/lib32"]);
        for machine in ["x86_64-linux-gnu", "aarch64-linux-gnu", "riscv64-linux-gnu"] {
            libraries.push(Path::new("/usr/lib").join(machine));
        }
        if let Some(list) = std::env::var_os("LD_LIBRARY_PATH") {
            libraries.extend(std::env::split_paths(&list));
        }
        let mut drivers = paths(&[
            "/usr/share/vulkan/icd.d",
            "/etc/vulkan/icd.d",
            "/usr/local/share/vulkan/icd.d",
            "/usr/local/etc/vulkan/icd.d",
        ]);
        if let Some(home) = std::env::var_os("HOME") {
            drivers.push(Path::new(&home).join(".local/share/vulkan/icd.d"));
        }
        System { libraries, drivers, pci: "/sys/bus/pci/devices".into(), nodes: "/dev/dri".into() }
    }

    /// What is missing for a GPU under Linux; elsewhere drivers come with the system.
    fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        let mut add = |what: &str, mend: &str| {
            missing.push(Missing { what: what.to_string(), mend: mend.to_string() });
        };
        if !cfg!(target_os = "linux") {
            add("no driver", "install the graphics driver of the GPU's maker");
            return missing;
        }
        if !self.libraries.iter().any(|folder| folder.join(LOADER).exists()) {
            let mend = "install the Vulkan loader: `apt install libvulkan1` (Debian, Ubuntu), \
                        `dnf install vulkan-loader` (Fedora)";
            add(&format!("no {LOADER}"), mend);
        }
        let described = |folder: &PathBuf| {
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
            files.map(|f| f.path()).any(|f| {
                let name = f.file_name().map(|n| n.to_string_lossy().into_owned());
                name.is_some_and(|n| n.ends_with(".json") && !n.starts_with("lvp"))
            })
        };
        let vendors = self.vendors();
        if !self.drivers.iter().any(described) {
            let mesa = "install the driver: `apt install mesa-vulkan-drivers` (Debian, Ubuntu; AMD and Intel)";
            match vendors.contains(&0x10de) {
                true => add("no Vulkan driver for the NVIDIA GPU", NVIDIA),
                false => add("no Vulkan driver", mesa),
            }
        }
        if let Some((variable, wrong)) = drivers::named() {
            let mend = format!("unset {variable}, or let it name files that describe drivers");
            for wrong in wrong {
                add(&shown(&format!("{variable} names {wrong}")), &mend);
            }
        }
        if self.refused() {
            let mend = "let this user open /dev/dri/renderD*: `sudo usermod -aG render $USER`, then log in again";
            add("no permission for the GPU", mend);
        }
        missing
    }

    /// PCI vendors of the graphics devices.
    fn vendors(&self) -> Vec<u32> {
        let devices = std::fs::read_dir(&self.pci).into_iter().flatten().flatten();
        let number = |path: PathBuf| {
            let text = std::fs::read_to_string(path).ok()?;
            u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
        };
        let graphics = devices
            .filter(|d| number(d.path().join("class")).is_some_and(|class| class >> 16 == 0x03));
        // Emulated screens of virtual machines cannot compute.
        let vendors = graphics.filter_map(|d| number(d.path().join("vendor")));
        vendors.filter(|v| [0x10de, 0x1002, 0x8086, 0x106b, 0x13b5, 0x5143].contains(v)).collect()
    }

    /// Whether there are graphics devices none of which this user may open.
    fn refused(&self) -> bool {
        let nodes = std::fs::read_dir(&self.nodes).into_iter().flatten().flatten();
        let render = nodes.filter(|n| n.file_name().to_string_lossy().starts_with("renderD"));
        let mut opened = render.map(|n| {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(n.path());
            !file.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
        });
        let first = opened.next();
        first == Some(false) && opened.all(|opened| !opened)
    }
}

const NVIDIA: &str = "install NVIDIA's driver: `apt install nvidia-driver` (Debian, non-free), `ubuntu-drivers install` (Ubuntu)";

/// The adapter of that number or kind.
pub(crate) fn choose(choice: Choice) -> Result<wgpu::Adapter> {
    let mut all = adapters();
    if all.is_empty() {
        return Err(Machine::none());
    }
    let listed = |all: &[wgpu::Adapter]| {
        let names = all.iter().map(Adapter::of).enumerate();
        names.map(|(i, a)| format!("gpu:{i} {} ({})", a.name, a.kind.name())).collect::<Vec<_>>()
    };
    match choice {
        Choice::Number(index) if index < all.len() => Ok(all.swap_remove(index)),
        Choice::Number(index) => {
            let expected = format!("one of {}", listed(&all).join(", "));
            let hint = "`headstart doctor` lists them";
            Err(GpuError::new("device", expected, format!("gpu:{index}"), hint))
        }
        Choice::Any | Choice::Half => {
            let is_hard = |a: &wgpu::Adapter| a.get_info().device_type != wgpu::DeviceType::Cpu;
            let suits = |a: &wgpu::Adapter| {
                is_hard(a)
                    && (choice == Choice::Any || a.features().contains(wgpu::Features::SHADER_F16))
            };
            match all.iter().position(suits) {
                Some(index) => Ok(all.swap_remove(index)),
                None if all.iter().any(is_hard) => {
                    let (expected, found) = ("one with `shader-f16`, for f16", listed(&all));
                    let hint = "give --precision f32";
                    Err(GpuError::new("GPU", expected, format!("none: {}", found.join(", ")), hint))
                }
                None => {
                    let error = Machine::none();
                    let found = format!("software only: {}", listed(&all).join(", "));
                    let hint = format!("{}; `--device gpu:0` takes the software", error.hint);
                    Err(GpuError { found, hint, ..error })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_missing_is_named_with_what_mends_it() {
        let root = std::env::temp_dir().join(format!("headstart-gpu-{}", std::process::id()));
        let folder = |name: &str| root.join(name);
        let system = System {
            libraries: vec![folder("lib")],
            drivers: vec![folder("icd.d")],
            pci: folder("pci"),
            nodes: folder("dri"),
        };
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let told = || -> Vec<String> {
            system.missing().into_iter().map(|m| format!("{}: {}", m.what, m.mend)).collect()
        };
        write("pci/a/class", "0x030000\n");
        write("pci/a/vendor", "0x10de\n");
        let first = told();
        assert!(first[0].contains("libvulkan1") && first[1].contains("nvidia-driver"), "{first:?}");
        write("pci/a/vendor", "0x1002\n");
        write("lib/libvulkan.so.1", "");
        write("icd.d/lvp_icd.x86_64.json", "");
        let software = told();
        assert!(software.len() == 1 && software[0].contains("mesa-vulkan-drivers"), "{software:?}");
        write("icd.d/radeon_icd.x86_64.json", "");
        assert_eq!(told(), Vec::<String>::new());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn names_reach_no_terminal_with_control_characters() {
        assert_eq!(shown("a\u{1b}[31mb\n"), "a [31mb ");
    }
}
