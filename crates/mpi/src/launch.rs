//! Which launcher started this process, as its environment says.

use headstart::{Error, Result};

/// The environment variable that names the MPI library.
pub const LIBRARY: &str = "HEADSTART_MPI";
/// Its value for no MPI at all.
pub const TURNED_OFF: &str = "off";

/// Variables by which launchers tell a process how many there are, which one it is, and how many are on its machine.
const VARIABLES: [[&str; 2]; 3] = [
    // Open MPI's mpirun, of all versions.
    ["OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"],
    // MVAPICH's mpirun_rsh.
    ["MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"],
    // Hydra, the mpirun of MPICH and Intel MPI, and srun --mpi=pmi2.
    ["PMI_SIZE", "PMI_RANK"],
];

/// How this process was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The variable that shows it.
    pub by: &'static str,
    /// Number of processes; none where the environment does not say.
    pub size: Option<usize>,
    /// Number of this process, from 0.
    pub rank: usize,
}

impl Launch {
    /// The MPI launcher that started this process; none outside of one, and where `HEADSTART_MPI` is `off`.
    ///
    /// # Errors
    /// If srun started several tasks and gave them no MPI.
    pub fn of_environment() -> Result<Option<Launch>> {
        Launch::of(&|name| std::env::var(name).ok())
    }

    /// The same from any environment.
    ///
    /// # Errors
    /// As there.
    pub fn of(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<Launch>> {
        if get(LIBRARY).as_deref() == Some(TURNED_OFF) {
            return Ok(None);
        }
        let number = |name: &str| get(name)?.trim().parse::<usize>().ok();
        for [size, rank] in VARIABLES {
            if let (Some(count), Some(rank)) = (number(size), number(rank)) {
                return Ok(Some(Launch { by: size, size: Some(count), rank }));
            }
        }
        let tasks = number("SLURM_STEP_NUM_TASKS");
        // srun --mpi=pmix, and prterun.
        if let Some(rank) = number("PMIX_RANK") {
            return Ok(Some(Launch { by: "PMIX_RANK", size: tasks, rank }));
        }
        match tasks {
            Some(tasks) if tasks > 1 => Err(Error::invalid(
                "srun",
                "an interface of MPI for its tasks",
                format!("{tasks} tasks without one (no PMI_RANK, no PMIX_RANK)"),
                format!(
                    "srun --mpi=pmix or --mpi=pmi2 gives them one; {LIBRARY}={TURNED_OFF} makes each task a run of its own"
                ),
            )),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Launch>> {
        Launch::of(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn every_launcher_is_known_by_its_variables() {
        let some = |by, size, rank| Some(Launch { by, size, rank });
        let open = [("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "2")];
        assert_eq!(of(&open).unwrap(), some("OMPI_COMM_WORLD_SIZE", Some(4), 2));
        let hydra = [("PMI_SIZE", "2"), ("PMI_RANK", "1"), ("PMI_FD", "6")];
        assert_eq!(of(&hydra).unwrap(), some("PMI_SIZE", Some(2), 1));
        let pmix = [("PMIX_RANK", "3"), ("SLURM_STEP_NUM_TASKS", "8")];
        assert_eq!(of(&pmix).unwrap(), some("PMIX_RANK", Some(8), 3));
        assert_eq!(of(&pmix[..1]).unwrap(), some("PMIX_RANK", None, 3));
        // A batch script has the job's number of tasks, and is one process.
        assert_eq!(of(&[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")]).unwrap(), None);
        assert_eq!(of(&[]).unwrap(), None);
        let off = [open[0], open[1], ("HEADSTART_MPI", "off")];
        assert_eq!(of(&off).unwrap(), None);
    }

    #[test]
    fn tasks_without_mpi_are_not_taken_for_single_runs() {
        let bare = [("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_PROCID", "1")];
        let error = of(&bare).unwrap_err();
        assert!(error.to_string().contains("4 tasks"), "{error}");
        assert!(error.hint().unwrap().contains("--mpi=pmix"));
        assert_eq!(of(&[("SLURM_STEP_NUM_TASKS", "1")]).unwrap(), None);
        assert_eq!(of(&[bare[0], ("HEADSTART_MPI", "off")]).unwrap(), None);
    }
}
