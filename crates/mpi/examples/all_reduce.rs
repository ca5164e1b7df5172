//! Seconds of a sum over all processes against the bytes that each of them sends:
//!
//!     cargo build --release -p headstart-mpi --example all_reduce
//!     mpirun -n 2 target/release/examples/all_reduce [SUMS]
//!
//! One replica for each process, as training has by default. Prints a line of JSON for each length of the vector.

use std::time::Instant;

use headstart::Result;
use headstart_mpi::World;

fn main() -> Result<()> {
    let sums: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(5);
    let Some(world) = World::of_environment()? else {
        eprintln!("one process alone: start it with mpirun -n 2");
        return Ok(());
    };
    let (rank, size) = (world.rank(), world.size());
    let mut group = world.collective();
    for elements in [1, 1 << 10, 1 << 14, 1 << 18, 1 << 20, 1 << 22, 23_528_522] {
        let own = vec![rank as f32 + 0.5; elements];
        let mut sum = vec![0.0; elements];
        group.all_reduce(&[&own], &mut sum)?;
        group.barrier()?;
        let mut seconds = Vec::new();
        for _ in 0..sums {
            let start = Instant::now();
            group.all_reduce(&[&own], &mut sum)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        let expected = (size * size) as f32 / 2.0;
        assert!(sum.iter().all(|&v| v == expected), "{} is not {expected}", sum[0]);
        seconds.sort_by(f64::total_cmp);
        let (median, least) = (seconds[sums / 2], seconds[0]);
        // Twice, but for the own part: to the process that sums it, and from there to all.
        let sent = 2 * 4 * elements * (size - 1) / size;
        if rank == 0 {
            println!(
                "{{\"processes\": {size}, \"elements\": {elements}, \"sent\": {sent}, \"median\": {median:.6}, \"least\": {least:.6}}}"
            );
        }
    }
    world.leave("", None);
    drop(group);
    world.finalize();
    Ok(())
}
