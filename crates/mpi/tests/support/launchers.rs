//! The MPI launchers of this machine: Debian's `mpirun.openmpi` and `mpirun.mpich`, whatever `mpirun` is, and those that
//! `HEADSTART_MPIRUN` lists.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An `mpirun`.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program.
    pub path: PathBuf,
    /// Whether it is Open MPI's; else it is Hydra, MPICH's.
    pub is_open_mpi: bool,
}

/// All that are here, each once.
pub fn launchers() -> Vec<Launcher> {
    let listed = env::var_os("HEADSTART_MPIRUN").unwrap_or_default();
    let on_path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&on_path).collect();
    let named = ["mpirun.openmpi", "mpirun.mpich", "mpirun"];
    let found = named.iter().filter_map(|name| {
        folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
    });
    let mut seen = BTreeSet::new();
    let all = found.chain(env::split_paths(&listed));
    let new = all.filter(|path| path.canonicalize().is_ok_and(|real| seen.insert(real)));
    new.filter_map(|path| Launcher::of(&path)).collect()
}

impl Launcher {
    fn of(path: &Path) -> Option<Launcher> {
        let output = Command::new(path).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_open_mpi = text.contains("Open MPI") || text.contains("OpenRTE");
        let known = is_open_mpi || text.contains("HYDRA");
        known.then(|| Launcher { path: path.to_path_buf(), is_open_mpi })
    }

    /// Starts `ranks` processes of what is added to the command.
    pub fn command(&self, ranks: usize) -> Command {
        let mut command = Command::new(&self.path);
        if self.is_open_mpi {
            // Tests have no cluster: one machine, as many processes as are asked for, and perhaps as root.
            command.args(["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]);
            for (name, value) in [
                ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
                ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
                ("OMPI_MCA_btl_vader_single_copy_mechanism", "none"),
                ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
            ] {
                command.env(name, value);
            }
        }
        command.args(["-n", &ranks.to_string()]);
        command
    }
}
