//! Several threads on one device.

use headstart_gpu::kernels::elementwise::{copy, fill};

use crate::support::{contexts, read, room, run};

#[test]
fn threads_share_a_device() {
    for c in contexts() {
        std::thread::scope(|scope| {
            for thread in 1..5u32 {
                scope.spawn(move || {
                    for turn in 1..30 {
                        let (len, value) = (100 * thread as usize, (thread * turn) as f32);
                        let (x, y) = (room(c, len), room(c, len));
                        run(c, &[fill(len, value.to_bits(), &x), copy(len, &x, false, &y)]);
                        assert!(read(c, &y, len).iter().all(|&v| v == value));
                    }
                });
            }
        });
    }
}
