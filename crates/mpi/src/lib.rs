//! Several processes that train one model, joined by MPI.
//!
//! The MPI library is the machine's own, opened at run time: nothing of MPI is needed to build or to run outside of it.
//! Three binary interfaces are known: Open MPI's, MPICH's (which Intel MPI, MVAPICH and Cray's share) and the
//! standard one of MPI 5. Outside an MPI launcher nothing is opened.
//!
//! ```
//! use headstart_mpi::World;
//!
//! // Under `mpirun -n 4`, one of four; here there is no launcher.
//! assert!(World::of_environment()?.is_none());
//! # Ok::<(), headstart::Error>(())
//! ```

mod call;
mod find;
mod heap;
mod launch;
#[cfg(unix)]
mod library;
mod near;
mod offer;
mod rounds;
mod sleep;
mod world;

pub use launch::{Launch, TURNED_OFF};
pub use world::{Left, World};
