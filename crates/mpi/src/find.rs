//! Where the MPI library may be.

use std::path::{Path, PathBuf};

use crate::launch::{LIBRARY, Launch};

/// File names of the libraries: Open MPI's since 2.0, MPICH's and what shares its interface, Debian's MPICH, and the standard
/// interface of MPI 5.
const OPEN_MPI: &str = "libmpi.so.40";
const MPICH: &str = "libmpi.so.12";
const DEBIAN_MPICH: &str = "libmpich.so.12";
const STANDARD: &str = "libmpi_abi.so.1";
/// The same, by the name that the text of the standard has.
const STANDARD_0: &str = "libmpi_abi.so.0";

/// The same on macOS.
const OF_MACOS: [(&str, &str); 5] = [
    (OPEN_MPI, "libmpi.40.dylib"),
    (MPICH, "libmpi.12.dylib"),
    (DEBIAN_MPICH, "libpmpi.12.dylib"),
    (STANDARD, "libmpi_abi.1.dylib"),
    (STANDARD_0, "libmpi_abi.0.dylib"),
];

/// What the environment variable names, or what a process of that launcher is likely to need, the likeliest first.
pub fn candidates(launch: &Launch) -> Vec<PathBuf> {
    match std::env::var_os(LIBRARY).filter(|path| !path.is_empty()) {
        Some(path) => vec![path.into()],
        None => named(launch, prefix().as_deref()),
    }
}

fn named(launch: &Launch, prefix: Option<&Path>) -> Vec<PathBuf> {
    let names = match launch.by {
        "PMI_SIZE" | "MV2_COMM_WORLD_SIZE" => [MPICH, DEBIAN_MPICH, STANDARD, STANDARD_0, OPEN_MPI],
        _ => [OPEN_MPI, STANDARD, STANDARD_0, MPICH, DEBIAN_MPICH],
    };
    let here = names.map(|name| match cfg!(target_os = "macos") {
        true => OF_MACOS.iter().find(|(linux, _)| *linux == name).map_or(name, |(_, own)| own),
        false => name,
    });
    // The launcher's own library lies beside it, as in a wheel or a module's folder.
    let folders = prefix.map_or(Vec::new(), |p| vec![p.join("lib"), p.join("lib64")]);
    let beside = here.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    beside.filter(|path| path.exists()).chain(here.iter().map(PathBuf::from)).collect()
}

/// The folder above the one that the program which started this process is in.
fn prefix() -> Option<PathBuf> {
    #[cfg(target_os = "linux")]
    {
        let parent = std::os::unix::process::parent_id();
        let program = std::fs::read_link(format!("/proc/{parent}/exe")).ok()?;
        Some(program.parent()?.parent()?.to_path_buf())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_launchers_own_library_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lib")).unwrap();
        let own = folder.path().join("lib").join(DEBIAN_MPICH);
        std::fs::write(&own, "").unwrap();
        let launch = |by| Launch { by, size: Some(2), rank: 0 };
        let found = named(&launch("PMI_SIZE"), Some(folder.path()));
        assert_eq!(found[..2], [own, MPICH.into()]);
        assert_eq!(found.len(), 6);
        let found = named(&launch("OMPI_COMM_WORLD_SIZE"), None);
        assert_eq!(found[0], Path::new(OPEN_MPI));
        assert!(prefix().unwrap().is_absolute());
    }
}
