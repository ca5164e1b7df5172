//! 8-bit arithmetic: value ranges, measured on images, and a net's predictions with them.
//!
//! Feature maps are unsigned bytes with one scale and zero point each, kernels signed bytes with a scale for each output
//! channel, biases 32-bit sums, as ONNX's `QuantizeLinear` defines them (Jacob et al. 2018, section 2). The dense layer and what
//! follows stay floats.

use std::collections::{BTreeMap, HashMap};

use super::groups::{groups, is_map};
use crate::control::Control;
use crate::data::dataset::Subset;
use crate::engine::device::Device;
use crate::engine::execute::{Execute, Input};
use crate::engine::inference::{answer_node, each_batch, executor, read_floats, to_probabilities};
use crate::engine::plan::{Group, Main};
use crate::error::{Error, Result};
use crate::net::graph::{NodeId, Op};
use crate::net::model::Model;
use crate::net::parameters::Role;

/// Images whose values are in memory together.
const BATCH: usize = 4;
/// Greatest sum of two neighbouring bytes of a kernel with the same sign. Processors without 8-bit dot products (before
/// AVX-512 VNNI and AVX-VNNI) add neighbouring products in 16 bits, which end at 32767: 255 x 128 fits, and either
/// byte may be rounded up by a half.
const PAIR: f32 = 127.0;
/// Bins of a feature map's histogram.
const BINS: usize = 2048;
/// Fractions of a feature map's range that are tried as the range of its bytes.
const SHARES: usize = 64;

/// Values `(byte - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Distance of two values.
    pub scale: f32,
    /// The byte that is exactly 0.
    pub zero: u8,
}

impl Affine {
    /// Bytes for the values from `low` to `high`, and for zero, which padding needs exactly.
    fn covering(low: f32, high: f32) -> Affine {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (high - low) / 255.0;
        if !(scale.is_normal() && scale.recip().is_finite()) {
            return Affine { scale: 1.0, zero: 0 };
        }
        Affine { scale, zero: (-low / scale).round_ties_even() as u8 }
    }

    /// Rounds values to those of their bytes.
    fn round(self, values: &mut [f32]) {
        // Adding it rounds to whole numbers, ties to even, where the processor has no instruction for that.
        const WHOLE: f32 = 1.5 * (1 << 23) as f32;
        let zero = f32::from(self.zero);
        let (low, high) = (-zero, 255.0 - zero);
        for v in values {
            let whole = ((*v / self.scale).clamp(low, high) + WHOLE) - WHOLE;
            *v = whole * self.scale;
        }
    }
}

/// A kernel in signed bytes.
pub struct Kernel {
    /// The bytes, ordered as the values were: output channels innermost.
    pub values: Vec<i8>,
    /// Value of a byte's step, by output channel.
    pub scales: Vec<f32>,
}

impl Kernel {
    /// The bytes nearest to `kernel`, which has `out` output channels innermost, at a scale at which neighbours in the
    /// reduction (kernel row, kernel column, input channel: onnxruntime's order) stay within [`PAIR`].
    pub fn quantise(kernel: &[f32], out: usize) -> Kernel {
        let out = out.max(1);
        let mut scales = vec![0.0_f32; out];
        for rows in kernel.chunks(2 * out) {
            let (first, second) = rows.split_at(out.min(rows.len()));
            for (i, (scale, a)) in scales.iter_mut().zip(first).enumerate() {
                let b = second.get(i).unwrap_or(&0.0);
                let [up, down] = [1.0, -1.0].map(|sign| (sign * a).max(0.0) + (sign * b).max(0.0));
                *scale = scale.max(up / PAIR).max(down / PAIR);
            }
        }
        scales.iter_mut().filter(|s| !s.is_normal()).for_each(|s| *s = 1.0);
        let byte = |(i, w): (usize, &f32)| (w / scales[i % out]).round_ties_even() as i8;
        Kernel { values: kernel.iter().enumerate().map(byte).collect(), scales }
    }

    fn dequantised(&self) -> Vec<f32> {
        let out = self.scales.len();
        self.values.iter().enumerate().map(|(i, &b)| f32::from(b) * self.scales[i % out]).collect()
    }
}

/// The 8-bit ranges of a net's feature maps.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8 {
    maps: BTreeMap<NodeId, Affine>,
    /// Images whose feature maps were measured.
    pub images: usize,
}

impl Int8 {
    /// Measures the feature maps of `subset`, and takes for each the range whose bytes have the least mean squared error.
    /// `compute` must store f32. `progress` gets how many of twice the images are done; `None` if it stopped it.
    ///
    /// # Errors
    /// If there are no images, one cannot be decoded, or the net's values are not numbers.
    pub fn calibrate(
        model: &Model,
        subset: &Subset,
        device: &Device,
        progress: &mut dyn FnMut(usize) -> Control,
    ) -> Result<Option<Int8>> {
        if subset.is_empty() {
            return Err(Error::invalid("calibration images", "at least 1", "0", ""));
        }
        let graph = &model.net.graph;
        let summands = graph.nodes.iter().filter(|n| n.op == Op::Add);
        let summands: Vec<NodeId> = summands.flat_map(|n| n.inputs.iter().copied()).collect();
        let groups = groups(model, &summands)?;
        let maps: Vec<&Group> = groups.iter().filter(|g| is_map(model, g.output)).collect();
        let nodes: Vec<NodeId> = maps.iter().map(|g| g.output).collect();
        let mut all = executor(model, device, BATCH, &[0], &nodes)?;
        let mut histograms = vec![Histogram::default(); nodes.len()];
        for pass in 0..2 {
            let mut see = |images: Input<'_>, count: usize| {
                all.forward(&[images], count)?;
                for (i, histogram) in histograms.iter_mut().enumerate() {
                    let values = read_floats(&mut *all, i)?;
                    if pass == 0 { histogram.widen(&values) } else { histogram.count(&values) }
                }
                Ok(())
            };
            let mut show = |done| progress(pass * subset.len() + done);
            if each_batch(model, subset, BATCH, &mut see, &mut show)? == Control::Stop {
                return Ok(None);
            }
        }
        let mut int8 = Int8 { maps: BTreeMap::new(), images: subset.len() };
        for (group, histogram) in maps.iter().zip(&histograms) {
            if !histogram.finite {
                let name = format!("values of {}", graph.nodes[group.output].name);
                let hint = "the weights are damaged or training diverged";
                return Err(Error::invalid(name, "finite numbers", "others", hint));
            }
            // The maximum of bytes is one of these bytes.
            let same = matches!(group.main, Main::MaxPool(_)).then(|| int8.of(group.inputs[0]));
            int8.maps.insert(group.output, same.flatten().unwrap_or_else(|| histogram.best()));
        }
        Ok(Some(int8))
    }

    /// The nodes whose values are bytes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.maps.keys().copied()
    }

    /// Scale and zero point of a node's value; `None` if it is floats.
    pub fn of(&self, node: NodeId) -> Option<Affine> {
        self.maps.get(&node).copied()
    }

    /// Class probabilities of every image, `[images, classes]` row-major, with every feature map and kernel rounded to its
    /// bytes; sums are those of floats. `compute` must store f32.
    ///
    /// # Errors
    /// As [`crate::engine::inference::probabilities`].
    pub fn probabilities(
        &self,
        model: &Model,
        subset: &Subset,
        device: &Device,
        progress: &mut dyn FnMut(usize) -> Control,
    ) -> Result<Option<Vec<f32>>> {
        let mut stages = Stages::new(self, model, device)?;
        let mut answers = Vec::new();
        let mut run = |images: Input<'_>, count: usize| stages.run(images, count, &mut answers);
        if each_batch(model, subset, BATCH, &mut run, progress)? == Control::Stop {
            return Ok(None);
        }
        Ok(Some(to_probabilities(model, answers)))
    }
}

/// A net in pieces, so that the value between two of them can be rounded.
struct Stages {
    stages: Vec<Stage>,
    values: HashMap<NodeId, Vec<f32>>,
}

struct Stage {
    sources: Vec<NodeId>,
    executor: Box<dyn Execute>,
    output: NodeId,
    rounding: Option<Affine>,
}

impl Stages {
    fn new(int8: &Int8, model: &Model, device: &Device) -> Result<Stages> {
        let mut model = model.clone();
        let whole: Vec<NodeId> = int8.nodes().collect();
        let mut stages = Vec::new();
        for group in &groups(&model, &whole)? {
            if let Main::Conv { node, .. } = group.main
                && int8.of(group.inputs[0]).is_some()
                && let Some(i) = model.parameters.index(node, Role::Kernel)
            {
                let out = model.net.graph.nodes[node].shape.channels();
                let kernel = &mut model.parameters.tensors[i].values;
                *kernel = Kernel::quantise(kernel, out).dequantised();
            }
            let Some(rounding) = int8.of(group.output) else { continue };
            let mut sources: Vec<NodeId> =
                group.inputs.iter().copied().chain(group.residual).collect();
            sources.sort_unstable();
            sources.dedup();
            let executor = executor(&model, device, BATCH, &sources, &[group.output])?;
            let rounding = Some(rounding);
            stages.push(Stage { sources, executor, output: group.output, rounding });
        }
        let last = stages.last().map_or(0, |s| s.output);
        let output = answer_node(&model);
        let executor = executor(&model, device, BATCH, &[last], &[output])?;
        stages.push(Stage { sources: vec![last], executor, output, rounding: None });
        Ok(Stages { stages, values: HashMap::new() })
    }

    /// Appends the predictions for `count` images.
    fn run(&mut self, images: Input<'_>, count: usize, answers: &mut Vec<f32>) -> Result<()> {
        for stage in &mut self.stages {
            let value = |id: &NodeId| self.values.get(id).map_or(images, Input::from);
            let inputs: Vec<Input<'_>> = stage.sources.iter().map(value).collect();
            stage.executor.forward(&inputs, count)?;
            let mut output = read_floats(&mut *stage.executor, 0)?;
            match stage.rounding {
                Some(rounding) => {
                    rounding.round(&mut output);
                    self.values.insert(stage.output, output);
                }
                None => answers.extend_from_slice(&output),
            }
        }
        Ok(())
    }
}

/// Histogram of a feature map's values.
#[derive(Clone)]
struct Histogram {
    low: f32,
    high: f32,
    finite: bool,
    bins: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { low: 0.0, high: 0.0, finite: true, bins: vec![0; BINS] }
    }
}

impl Histogram {
    fn widen(&mut self, values: &[f32]) {
        for &v in values {
            self.finite &= v.is_finite();
            self.low = self.low.min(v);
            self.high = self.high.max(v);
        }
    }

    fn count(&mut self, values: &[f32]) {
        let per_unit = BINS as f32 / (self.high - self.low).max(f32::MIN_POSITIVE);
        for &v in values {
            let bin = ((v - self.low) * per_unit) as usize;
            self.bins[bin.min(BINS - 1)] += 1;
        }
    }

    /// The range, both ends shrunk alike, whose bytes have the least squared error: within it a twelfth of the
    /// squared step a value, outside it the squared distance to its end.
    fn best(&self) -> Affine {
        let width = f64::from(self.high - self.low) / BINS as f64;
        let error = |affine: Affine| {
            let (scale, zero) = (f64::from(affine.scale), f64::from(affine.zero));
            let (low, high) = (-zero * scale, (255.0 - zero) * scale);
            let mut sum = 0.0;
            for (bin, &count) in self.bins.iter().enumerate().filter(|(_, c)| **c > 0) {
                let v = f64::from(self.low) + (bin as f64 + 0.5) * width;
                let outside = (low - v).max(v - high).max(0.0);
                sum += count as f64 * (outside * outside).max(scale * scale / 12.0);
            }
            sum
        };
        let range = |share: usize| {
            let share = share as f32 / SHARES as f32;
            Affine::covering(self.low * share, self.high * share)
        };
        let candidates =
            (SHARES / 8..=SHARES).rev().map(|share| (range(share), error(range(share))));
        let best = candidates.min_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(Affine::covering(self.low, self.high), |(affine, _)| affine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_within_half_a_step_and_zero_is_exact() {
        for (low, high) in [(0.0, 6.0), (-1.5, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 1e-30)] {
            let affine = Affine::covering(low, high);
            let values: Vec<f32> =
                (0..=100).map(|i| low + (high - low) * i as f32 / 100.0).collect();
            let mut rounded = values.clone();
            rounded.push(0.0);
            affine.round(&mut rounded);
            assert_eq!(rounded.pop(), Some(0.0));
            for (v, r) in values.iter().zip(&rounded) {
                // The zero point is whole, so an end of the range can be off by another half step.
                assert!((v - r).abs() <= affine.scale * 1.001, "{low} {high}: {v} {r}");
                let byte = (r / affine.scale) + f32::from(affine.zero);
                assert!((-1e-3..=255.001).contains(&byte) && (byte - byte.round()).abs() < 1e-3);
            }
        }
        assert_eq!(Affine::covering(0.0, 0.0), Affine { scale: 1.0, zero: 0 });
        assert_eq!(Affine::covering(f32::NAN, f32::INFINITY), Affine { scale: 1.0, zero: 0 });
    }

    #[test]
    fn kernels_have_a_scale_a_channel() {
        let kernel = [1.0, 0.0, -127.0, -0.5, 0.0, 63.5];
        let bytes = Kernel::quantise(&kernel, 3);
        assert_eq!(bytes.scales, [1.0 / 127.0, 1.0, 1.0]);
        assert_eq!(bytes.values, [127, 0, -127, -64, 0, 64]);
        let back = bytes.dequantised();
        assert!(kernel.iter().zip(&back).all(|(a, b)| (a - b).abs() <= 0.501), "{back:?}");
    }

    /// Two products with bytes of 255 must fit 16 bits.
    #[test]
    fn neighbouring_bytes_of_a_kernel_do_not_add_up_to_more_than_16_bits_hold() {
        let noise = |i: usize| ((i * 7919 % 1000) as f32 / 500.0 - 1.0).powi(3);
        let (rows, out) = (27, 5);
        let kernel: Vec<f32> = (0..rows * out).map(noise).collect();
        let Kernel { values, .. } = Kernel::quantise(&kernel, out);
        let mut most = 0;
        for pair in values.chunks(2 * out) {
            for o in 0..out {
                let bytes =
                    [Some(&pair[o]), pair.get(out + o)].map(|b| b.map_or(0, |&b| i32::from(b)));
                for sign in [1, -1] {
                    most = most.max(bytes.iter().map(|b| (sign * b).max(0)).sum());
                }
            }
        }
        assert!((120..=128).contains(&most), "{most}");
    }

    /// One outlier among a million values must not cost the others their precision.
    #[test]
    fn an_outlier_does_not_widen_the_range() {
        let mut values: Vec<f32> = (0..1_000_000).map(|i| (i % 1000) as f32 / 1000.0).collect();
        values.push(20.0);
        let mut histogram = Histogram::default();
        histogram.widen(&values);
        histogram.count(&values);
        let affine = histogram.best();
        assert!(affine.scale < 10.0 / 255.0 && affine.scale > 0.9 / 255.0, "{affine:?}");
        assert_eq!(affine.zero, 0);
    }
}
