//! Every device runs the whole battery. A device that cannot run here is named, never counted as passed.

use std::sync::Arc;

use headstart::execute::{Execute, Executor};
use headstart::graph::{Graph, Op, Shape};
use headstart::plan::{Plan, Request, frontier};
use headstart::resnet::{Block, FreezePoint, Stem};
use headstart::{Compute, Device};
use headstart_kernels::element::DType;
use headstart_kernels::isa::Isa;

use crate::battery;
use crate::battery::{case, check, net, step};

/// Stamps the battery on devices of a kind: `$devices` makes them.
macro_rules! battery {
    ($name:ident, $devices:expr) => {
        mod $name {
            use super::*;

            fn devices() -> Vec<Device> {
                $devices
            }

            battery!(@ gradients: keras_nets, other_families,
                mixed_labels_have_the_mean_of_both_gradients, labels_out_of_range_are_errors,
                a_short_batch_is_as_good_as_a_full_one, trainable_layers_need_not_be_the_last_ones);
            battery!(@ inference: values_are_those_of_the_reference, bytes_are_as_good_as_floats,
                loss_and_hits_are_those_of_the_probabilities, what_does_not_fit_is_an_error);
            battery!(@ learning: every_optimizer_follows_its_rule, gradients_are_clipped,
                targets_are_checked_and_weigh, a_resumed_step_has_the_same_bits,
                dropout_follows_the_turn);
            battery!(@ replicas: replicas_have_statistics_of_their_own, batches_add_up);
        }
    };
    (@ $part:ident: $($test:ident),*) => {
        $(
            #[test]
            fn $test() {
                devices().iter().for_each(battery::$part::$test);
            }
        )*
    };
}

/// The parts of the battery that ask for nothing that 16 bits round away.
#[cfg(feature = "gpu")]
mod gpu_in_f16 {
    use super::*;

    battery!(@ gradients: labels_out_of_range_are_errors);
    battery!(@ inference: rounded_values_follow_the_reference, bytes_are_as_good_as_floats,
        what_does_not_fit_is_an_error);
    battery!(@ learning: every_optimizer_follows_its_rule, gradients_are_clipped,
        targets_are_checked_and_weigh, a_resumed_step_has_the_same_bits, dropout_follows_the_turn);
    battery!(@ replicas: batches_add_up);

    fn devices() -> Vec<Device> {
        halves()
    }

    #[test]
    fn gradients_follow_the_reference() {
        let follows = battery::gradients::rounding_follows_the_reference;
        devices().iter().for_each(|device| follows(device, 12, 7));
    }
}

battery!(cpu, vec![Compute::new(2).unwrap().into()]);
#[cfg(feature = "gpu")]
battery!(gpu, gpus());

/// Every adapter of this machine, each opened once: kernels compile once.
#[cfg(feature = "gpu")]
pub fn gpus() -> Vec<Device> {
    static ALL: std::sync::OnceLock<Vec<Device>> = std::sync::OnceLock::new();
    let all = ALL.get_or_init(|| {
        let count = headstart::doctor::adapters().adapters.len();
        (0..count).map(|i| Device::gpu(Some(i), 1).unwrap()).collect()
    });
    if all.is_empty() {
        let package = "apt install mesa-vulkan-drivers libvulkan1";
        crate::support::skip::skipped(&format!("nets on a GPU: no adapter here ({package})"));
    }
    all.clone()
}

/// Those of them that store f16, which share their kernels with the others.
#[cfg(feature = "gpu")]
pub fn halves() -> Vec<Device> {
    let halves: Vec<Device> = gpus().iter().filter_map(|gpu| gpu.half().ok()).collect();
    if halves.is_empty() {
        crate::support::skip::skipped("nets in f16: no adapter here has `shader-f16`");
    }
    halves
}

#[test]
fn bf16_on_every_instruction_set() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        let device = Compute::with_isa(2, isa).unwrap().storing(DType::Bf16).into();
        let step = if isa == Isa::best() { 1 } else { 11 };
        battery::gradients::rounding_follows_the_reference(&device, 12, step);
    }
}

#[test]
fn every_instruction_set_agrees_with_the_reference() {
    let net = net(Stem::Imagenet, Block::Bottleneck, true);
    for isa in Isa::ALL {
        if !isa.available() {
            crate::support::skip::skipped(&format!(
                "whole nets on {isa}: this CPU does not run it"
            ));
            continue;
        }
        let device = Compute::with_isa(1, isa).unwrap().into();
        for from in [0, 12, 40] {
            check(&case(&net, 5), &net.trainable(FreezePoint(from)), 5, &device, isa.name());
        }
    }
}

#[test]
fn threads_and_batches_do_not_change_a_bit() {
    let net = net(Stem::Imagenet, Block::Bottleneck, true);
    let all = case(&net, 7);
    let trainable = net.trainable(FreezePoint(9));
    for dtype in [DType::F32, DType::Bf16] {
        let on = |threads| {
            let device = Compute::new(threads).unwrap().storing(dtype).into();
            step(&all, &trainable, 7, &device)
        };
        let one = on(1);
        for threads in 2..5 {
            assert!(one == on(threads), "{} on {threads} threads", dtype.name());
        }
    }

    // The features of an image do not depend on the images beside it.
    let graph = &all.graph;
    let outputs = frontier(graph, &trainable);
    let compute = Arc::new(Compute::new(2).unwrap());
    let features = |batch: usize| -> Vec<f32> {
        let (outputs, dtype) = (outputs.clone(), DType::F32);
        let request = Request { batch, sources: vec![0], outputs, trainable: None, dtype };
        let plan = Plan::new(graph, request).unwrap();
        let (graph, compute) = (Arc::clone(graph), Arc::clone(&compute));
        let mut e = Executor::new(graph, plan, compute, &all.parameters, 1).unwrap();
        let elements = all.graph.nodes[0].shape.elements();
        let mut first = Vec::new();
        for images in all.images.chunks(batch * elements) {
            let count = images.len() / elements;
            e.forward(&[images.into()], count).unwrap();
            first.extend_from_slice(e.output(0, count));
        }
        first
    };
    let alone = features(1);
    for batch in [2, 3, 7] {
        assert!(alone == features(batch), "batch {batch}");
    }
}

#[test]
fn a_plan_that_cannot_be_is_an_error() {
    let net = net(Stem::Cifar, Block::Basic, false);
    let n = net.graph.nodes.len();
    let request = Request {
        batch: 1,
        sources: vec![0],
        outputs: vec![n - 1],
        trainable: None,
        dtype: DType::F32,
    };
    for bad in [
        Request { batch: 0, ..request.clone() },
        Request { batch: usize::MAX / 2, ..request.clone() },
        Request { sources: vec![], ..request.clone() },
        Request { outputs: vec![n], ..request.clone() },
        Request { trainable: Some(vec![true]), ..request.clone() },
    ] {
        assert!(Plan::new(&net.graph, bad).is_err());
    }
    for alignment in [0, 2, 48] {
        assert!(Plan::aligned(&net.graph, request.clone(), alignment).is_err());
    }
    let mut headless = Graph::default();
    let shape = Shape::Map { height: 4, width: 4, channels: 3 };
    headless.push("input_layer", Op::Input(shape), &[]).unwrap();
    let train = Request { outputs: vec![], trainable: Some(vec![false]), ..request };
    assert!(Plan::new(&headless, train).is_err());
}

#[test]
fn buffers_begin_where_a_device_wants_them() {
    let net = net(Stem::Imagenet, Block::Bottleneck, true);
    let trainable = Some(net.trainable(FreezePoint(0)));
    let (outputs, dtype) = (vec![], DType::Bf16);
    let request = Request { batch: 3, sources: vec![0], outputs, trainable, dtype };
    let bytes = |dtype| {
        let request = Request { batch: 60, dtype, ..request.clone() };
        Plan::new(&net.graph, request).unwrap().arena_bytes() as f64
    };
    let share = bytes(DType::F16) / bytes(DType::F32);
    assert!((0.5..0.55).contains(&share), "{share}");
    for (alignment, dtype) in
        [64, 256, 4096].into_iter().flat_map(|n| [(n, DType::Bf16), (n, DType::F16)])
    {
        let request = Request { dtype, ..request.clone() };
        let plan = Plan::aligned(&net.graph, request, alignment).unwrap();
        let floats = alignment / size_of::<f32>();
        assert!(plan.buffers.iter().all(|b| b.offset.is_multiple_of(floats)), "{alignment}");
        assert!(plan.arena.is_multiple_of(floats));
    }
}

/// Over pages no buffer lies in two, and buffers that are alive at the same time do not overlap.
#[test]
fn no_buffer_lies_in_two_pages() {
    let net = net(Stem::Imagenet, Block::Bottleneck, true);
    let trainable = Some(net.trainable(FreezePoint(0)));
    let request =
        Request { batch: 3, sources: vec![0], outputs: vec![], trainable, dtype: DType::F32 };
    let whole = Plan::aligned(&net.graph, request.clone(), 256).unwrap();
    let size = |b: &headstart::plan::BufferSpec| b.floats(3).next_multiple_of(64);
    let largest = 4 * whole.buffers.iter().map(size).max().unwrap();
    let plan = Plan::paged(&net.graph, request.clone(), 256, largest).unwrap();
    let page = largest / 4;
    assert!(plan.arena > page);
    for (i, a) in plan.buffers.iter().enumerate() {
        assert_eq!(a.offset / page, (a.offset + size(a) - 1) / page);
        for b in &plan.buffers[i + 1..] {
            let together = a.first <= b.last && b.first <= a.last;
            let apart = a.offset + size(a) <= b.offset || b.offset + size(b) <= a.offset;
            assert!(apart || !together);
        }
    }
    assert!(Plan::paged(&net.graph, request.clone(), 256, 100).is_err());
    let error = Plan::paged(&net.graph, request, 256, 4096).unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains("--batch-size") || hint.contains("--image-size"), "{error}");
}
