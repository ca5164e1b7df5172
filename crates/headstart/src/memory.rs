//! How much memory reading files may take ([`limit()`]), and how much this process may have: the machine's, or that of the
//! container it runs in where that is less.
//!
//! On Linux a container is a control group. Every group from the process's own up to the outermost may have a limit: in
//! version 2 (`memory.max`, and `memory.high`, from which on it is slowed down) and in version 1 (`memory.limit_in_bytes`).
//!
//! ```
//! if let Some(memory) = headstart::memory::look() {
//!     assert!(memory.available <= memory.total);
//! }
//! ```

mod budget;

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Serialize;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::error::{Error, Result};
pub use headstart_kernels::allocator::Allocator;

pub(crate) use budget::{Claim, Over, open, passing, read, read_from, read_records, read_settings};
pub use budget::{VARIABLE, limit, limit_of_environment, set_limit};

/// Memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All of it: the machine's, or the least limit of the groups.
    pub total: u64,
    /// What can be had without swapping and below every limit.
    pub available: u64,
    /// Whether a group's limit is less than the machine's memory.
    pub limited: bool,
}

/// The memory of this process; `None` where the system does not say.
pub fn look() -> Option<Memory> {
    look_at(Path::new("/")).map(|(memory, _)| memory)
}

/// Fails if `bytes` are more than all memory of this process, with what it can swap out, before they are asked for: systems
/// promise more than they have, and end the process when it is used.
///
/// # Errors
/// Names `what`, the memory there is and what it would take.
pub(crate) fn room_for(what: &str, bytes: u64, hint: &str) -> Result<()> {
    match look_at(Path::new("/")) {
        Some((Memory { limited, .. }, most)) if bytes > most => {
            let of = if limited { "this container" } else { "this machine" };
            let expected = format!("at most {} MiB, the memory of {of}", most >> 20);
            Err(Error::invalid(what, expected, format!("{} MiB", bytes >> 20), hint))
        }
        _ => Ok(()),
    }
}

/// The memory of this process, and the most that it can have, with what it can swap out; by the system's files below `root`,
/// which is `/` but in tests, or as the system says otherwise.
fn look_at(root: &Path) -> Option<(Memory, u64)> {
    look_below(root).or_else(|| {
        let system = System::new_with_specifics(
            RefreshKind::nothing().with_memory(MemoryRefreshKind::everything()),
        );
        let (total, available) = (system.total_memory(), system.available_memory());
        let memory = Memory { total, available: available.min(total), limited: false };
        (total > 0).then_some((memory, total.saturating_add(system.total_swap())))
    })
}

/// [`look_at`] on Linux.
fn look_below(root: &Path) -> Option<(Memory, u64)> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let machine = |name| Some(field(&text, name)?.saturating_mul(1024));
    let total = machine("MemTotal:")?;
    let mut memory = Memory { total, available: machine("MemAvailable:")?, limited: false };
    let mut most = total;
    for folder in groups(root) {
        let Some(Limit { hard, slow, used }) = group_limit(&folder) else { continue };
        let limit = hard.min(slow);
        memory.limited |= limit < total;
        memory.total = memory.total.min(limit);
        memory.available = memory.available.min(limit.saturating_sub(used));
        most = most.min(hard);
    }
    memory.available = memory.available.min(memory.total);
    Some((memory, most.saturating_add(machine("SwapTotal:").unwrap_or(0))))
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The folders of this process's groups and of all above them.
fn groups(root: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut folders = Vec::new();
    for line in text.lines() {
        // A number, controllers and the group's path; version 2 has the number 0 and no controllers.
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let mounts: &[&str] = match (number, controllers) {
            ("0", "") => &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
            _ if controllers.split(',').any(|name| name == "memory") => &["sys/fs/cgroup/memory"],
            _ => continue,
        };
        // Below the mount the path may be missing: a container sees its own group there, and the path from outside here.
        let inside: PathBuf =
            Path::new(path).components().filter(|c| matches!(c, Component::Normal(_))).collect();
        for mount in mounts {
            let below = inside.ancestors().map(|group| root.join(mount).join(group));
            folders.extend(below.filter(|folder| folder.is_dir()));
        }
    }
    folders
}

/// A group's limits in bytes, the largest number for none.
struct Limit {
    /// Beyond which a process of the group is ended.
    hard: u64,
    /// Beyond which they are slowed down.
    slow: u64,
    /// What is in use and cannot be given back.
    used: u64,
}

/// A group's limits; `None` without one.
fn group_limit(folder: &Path) -> Option<Limit> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    // "max" is no number.
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let (hard, slow) = (number("memory.max"), number("memory.high"));
    let second = hard.is_some() || slow.is_some();
    let (hard, used, inactive) = match second {
        true => (hard.unwrap_or(u64::MAX), number("memory.current"), "inactive_file "),
        // No limit is a number near 2^63 there.
        false => (
            number("memory.limit_in_bytes").filter(|&limit| limit < 1 << 60)?,
            number("memory.usage_in_bytes"),
            "total_inactive_file ",
        ),
    };
    // Files that were read and are kept in memory in case they are read again.
    let kept = read("memory.stat").and_then(|text| field(&text, inactive)).unwrap_or(0);
    let used = used.unwrap_or(0).saturating_sub(kept);
    Some(Limit { hard, slow: slow.unwrap_or(u64::MAX), used })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A made-up root folder with these files.
    fn place(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let machine = "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n";
        for (name, text) in [("proc/meminfo", machine)].iter().chain(files) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn seen(files: &[(&str, &str)]) -> (u64, u64, bool) {
        let (memory, _) = look_below(place(files).path()).unwrap();
        (memory.total, memory.available, memory.limited)
    }

    #[test]
    fn a_machine_without_groups_has_all_its_memory() {
        assert_eq!(seen(&[]), (16 * GIB, 8 * GIB, false));
        let open = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "max\n")];
        assert_eq!(seen(&open), (16 * GIB, 8 * GIB, false));
        let none = tempfile::tempdir().unwrap();
        assert_eq!(look_below(none.path()), None);
    }

    #[test]
    fn version_2_counts_the_least_limit_of_the_group_and_all_above_it() {
        let group = ("proc/self/cgroup", "0::/a.slice/b.scope\n");
        // 4 GiB with 3 in use, of which 1 is kept files.
        let outer = [
            group,
            ("sys/fs/cgroup/a.slice/memory.max", "4294967296\n"),
            ("sys/fs/cgroup/a.slice/memory.current", "3221225472\n"),
            ("sys/fs/cgroup/a.slice/memory.stat", "anon 5\ninactive_file 1073741824\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.max", "max\n"),
        ];
        assert_eq!(seen(&outer), (4 * GIB, 2 * GIB, true));
        let inner = [
            outer[0],
            outer[1],
            ("sys/fs/cgroup/a.slice/b.scope/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.high", "1073741824\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.current", "536870912\n"),
        ];
        assert_eq!(seen(&inner), (GIB, GIB / 2, true));
        // More in use than allowed, as after the limit was lowered.
        let over = [
            group,
            ("sys/fs/cgroup/a.slice/b.scope/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.current", "2147483648\n"),
        ];
        assert_eq!(seen(&over), (GIB, 0, true));
        // A limit above what the machine has.
        let large = [group, ("sys/fs/cgroup/a.slice/b.scope/memory.max", "1099511627776\n")];
        assert_eq!(seen(&large), (16 * GIB, 8 * GIB, false));
    }

    #[test]
    fn the_most_there_can_be_is_up_to_the_hard_limit_and_swap() {
        let most = |files: &[(&str, &str)]| look_below(place(files).path()).unwrap().1;
        assert_eq!(most(&[]), 16 * GIB);
        let swap = "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\nSwapTotal: 524288 kB\n";
        assert_eq!(most(&[("proc/meminfo", swap)]), GIB + GIB / 2);
        let group = [
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.high", "1073741824\n"),
            ("sys/fs/cgroup/a/memory.max", "2147483648\n"),
        ];
        assert_eq!((most(&group), seen(&group)), (2 * GIB, (GIB, GIB, true)));
        assert_eq!((most(&group[..2]), seen(&group[..2])), (16 * GIB, (GIB, GIB, true)));
    }

    #[test]
    fn version_1_counts_its_memory_controller() {
        let none = "9223372036854771712\n";
        let files = [
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", none),
            ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "2147483648\n"),
            ("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", "1610612736\n"),
            ("sys/fs/cgroup/memory/docker/abc/memory.stat", "total_inactive_file 1073741824\n"),
        ];
        assert_eq!(seen(&files), (2 * GIB, 2 * GIB - GIB / 2, true));
        // Inside a container the path is that of the host, and its own group lies at the mount.
        let inside = [
            ("proc/self/cgroup", "4:memory:/docker/abc\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ];
        assert_eq!(seen(&inside), (GIB, GIB, true));
    }

    #[test]
    fn paths_out_of_the_mount_are_not_followed() {
        let files = [
            ("proc/self/cgroup", "0::/../../../outside\nbroken\n7:memory\n"),
            ("outside/memory.max", "1\n"),
            ("sys/fs/cgroup/memory.max", "1073741824\n"),
        ];
        assert_eq!(seen(&files), (GIB, GIB, true));
    }

    #[test]
    fn what_no_memory_holds_is_refused_beforehand() {
        assert!(room_for("a small thing", 1 << 20, "").is_ok());
        if look().is_some() {
            let error = room_for("batch of 9", u64::MAX, "lower it").unwrap_err();
            assert!(error.to_string().contains("batch of 9: expected at most"), "{error}");
            assert!(error.to_string().contains("found 17592186044415 MiB"), "{error}");
        }
    }
}
