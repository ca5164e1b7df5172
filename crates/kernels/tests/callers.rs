//! Several callers share one pool of threads, and the memory for partial results that it keeps.

use std::sync::Barrier;

use headstart_kernels::conv::{self, ConvShape, ConvSizes, Epilogue, Onto, Packed};
use headstart_kernels::element::{Bf16, Element};
use headstart_kernels::isa::Isa;
use headstart_kernels::table::Compute;

mod support;
use support::{elements, noise};

/// 3x3 windows.
fn shape(batch: usize, side: usize, in_channels: usize, out_channels: usize) -> ConvShape {
    let sizes = ConvSizes { batch, height: side, width: side, ..ConvSizes::default() };
    let sizes = ConvSizes { in_channels, out_channels, kernel: 3, padding: 1, ..sizes };
    ConvShape::new(sizes).unwrap()
}

/// A convolution with its inputs, in all three directions.
struct Work<E> {
    shape: ConvShape,
    x: Vec<E>,
    dy: Vec<E>,
    forward: Packed,
    backward: Packed,
}

impl<E: Element> Work<E> {
    fn new(c: &Compute, shape: ConvShape) -> Work<E> {
        let kernel = noise(shape.kernel_len(), 2);
        let (mut forward, mut backward) = (Packed::default(), Packed::default());
        conv::pack_forward::<E>(c, &shape, &kernel, None, &mut forward);
        conv::pack_backward_input::<E>(c, &shape, &kernel, &mut backward);
        let (x, dy) = (elements(shape.in_len(), 1).0, elements(shape.out_len(), 3).0);
        Work { shape, x, dy, forward, backward }
    }

    /// Output and gradients.
    fn run(&self, c: &Compute) -> (Vec<E>, Vec<E>, Vec<f32>) {
        let Work { shape: s, x, dy, forward, backward } = self;
        let nan = |len| vec![E::from_f32(f32::NAN); len];
        let (mut y, mut dx) = (nan(s.out_len()), nan(s.in_len()));
        let mut dw = vec![f32::NAN; s.kernel_len()];
        conv::forward(c, s, x, forward, Epilogue::default(), &mut y);
        conv::backward_input(c, s, dy, backward, Onto::Nothing, None, &mut dx);
        conv::backward_kernel(c, s, x, dy, &mut dw);
        (y, dx, dw)
    }
}

/// Callers on threads of their own must get what each gets alone, round after round, of shapes that ask for different
/// lengths of memory in turn.
fn together<E: Element>(c: &Compute, shapes: &[ConvShape], callers: usize, rounds: usize) {
    let works: Vec<Work<E>> = shapes.iter().map(|&shape| Work::new(c, shape)).collect();
    let alone: Vec<_> = works.iter().map(|work| work.run(c)).collect();
    let start = Barrier::new(callers);
    std::thread::scope(|scope| {
        for caller in 0..callers {
            let (works, alone, start) = (&works, &alone, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..rounds {
                    let i = (caller + round) % works.len();
                    // Every other caller enters the pool first.
                    let got = match caller % 2 {
                        0 => c.threads.enter(|| works[i].run(c)),
                        _ => works[i].run(c),
                    };
                    let (isa, threads) = (c.isa(), c.threads.count());
                    let what = &works[i].shape;
                    assert!(
                        got == alone[i],
                        "{isa} on {threads} threads, caller {caller}: {what:?}"
                    );
                }
            });
        }
    });
}

#[test]
fn callers_do_not_wait_for_one_another() {
    let c = Compute::new(2).unwrap();
    together::<f32>(&c, &[shape(2, 12, 32, 32)], 4, 200);
}

/// Winograd's memory: blocks of a task, blocks of all threads, sums of the kernel gradient that are kept.
#[test]
fn memory_of_winograd_is_not_shared_by_callers() {
    let shapes = [
        shape(2, 8, 64, 64),
        shape(1, 4, 64, 128),
        // So many tiles that each task takes blocks of its own.
        shape(4, 25, 64, 64),
        // Channels of large blocks, on which all threads work together.
        shape(1, 7, 256, 320),
    ];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        for threads in 1..=4 {
            let c = Compute::with_isa(threads, isa).unwrap();
            together::<f32>(&c, &shapes, 4, 8);
        }
    }
}

/// The same of bfloat16's packed pairs of images.
#[test]
fn memory_of_kernel_gradients_is_not_shared_by_callers() {
    let shapes = [shape(4, 9, 64, 64), shape(2, 5, 17, 65), shape(3, 6, 64, 10)];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        for threads in 1..=4 {
            let c = Compute::with_isa(threads, isa).unwrap();
            together::<Bf16>(&c, &shapes, 4, 12);
        }
    }
}
