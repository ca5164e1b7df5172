//! One phase on random images, to be measured or explained.
//!
//! ```
//! use headstart::bench::{Part, Work};
//! use headstart::{Device, Model};
//!
//! let device = Device::cpu(0)?;
//! let model = Model::imagenet("resnet20")?;
//! let mut work = Work::new(model, Part::Forward, false, 4, device)?;
//! println!("{} images/s", work.measure(1)?.images_per_second);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;
use std::time::Instant;

use headstart_kernels::element::Values;
use serde::Serialize;

use crate::data::split::RandomState;
use crate::engine::device::Device;
use crate::engine::execute::{Execute, Input, Training, Turn};
use crate::engine::gradients::Gradients;
use crate::engine::inference::executor;
use crate::engine::optimizer::{Optimizer, Rule};
use crate::engine::plan::{Request, sources};
use crate::error::{Error, Result};
use crate::memory::room_for;
use crate::net::model::Model;
use crate::net::resnet::FreezePoint;
use crate::study::explain::Explanation;

/// The optimizer's.
const LEARNING_RATE: f32 = 1e-4;

/// Which phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Inference.
    Forward,
    /// A training step of the head.
    Head,
    /// A training step from a layer on.
    FineTune(FreezePoint),
}

/// A phase, ready to run.
#[derive(Debug)]
pub struct Work {
    model: Model,
    device: Device,
    /// Inference, or the frozen layers of training.
    forward: Option<Box<dyn Execute>>,
    train: Option<Box<dyn Execute>>,
    /// Training steps that were run.
    steps: u64,
    images: Vec<u8>,
    /// Inputs of the training plan where the frozen layers are left out.
    features: Vec<Values>,
    labels: Vec<u32>,
}

/// What a measurement found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// Median of the repetitions.
    pub images_per_second: f64,
    /// Multiply-adds, counted as two, of convolutions and dense layers.
    pub gflops_per_image: f64,
    /// Their product.
    pub achieved_gflops: f64,
    /// Multiply-add rate of a loop that touches registers only, in the same run; 0 on a GPU, where it is not measured.
    pub peak_gflops: f64,
    /// Fraction of that peak; 0 where there is none.
    pub fraction_of_peak: f64,
    /// Most memory the process has held; 0 where the system does not say.
    pub peak_rss_mb: f64,
}

impl Work {
    /// Prepares `part` for batches of `batch` random images. With `cached` the frozen layers are
    /// left out, as with cached features.
    ///
    /// # Errors
    /// If the plan cannot be made.
    pub fn new(
        model: Model,
        part: Part,
        cached: bool,
        batch: usize,
        device: Device,
    ) -> Result<Work> {
        let graph = Arc::clone(&model.net.graph);
        let trainable = match part {
            Part::Forward => None,
            Part::Head => Some(model.net.head_only()),
            Part::FineTune(point) => Some(model.net.trainable(point)),
        };
        let image = graph.nodes[0].shape.elements();
        let bytes = (batch as u64).saturating_mul(image as u64).saturating_mul(4);
        room_for(&format!("a batch of {batch} images"), bytes, "lower --batch-size")?;
        let mut random = RandomState::new(1);
        let mut uniform = |n: usize| (0..n).map(|_| random.unit()).collect::<Vec<f32>>();
        let images = uniform(batch * image);
        let images = images.into_iter().map(|v| (v * 255.0) as u8).collect();
        let classes = model.card.classes.len();
        let labels = (0..batch).map(|i| (i % classes) as u32).collect();
        let (mut forward, mut train, mut features) = (None, None, Vec::new());
        match trainable {
            None => {
                forward = Some(executor(&model, &device, batch, &[0], &[model.output()])?);
            }
            Some(trainable) => {
                let mut made_up = false;
                let sources = sources(&graph, &trainable);
                let works = sources != [0];
                if works && !cached {
                    forward = Some(executor(&model, &device, batch, &[0], &sources)?);
                } else if works {
                    made_up = true;
                }
                let (outputs, trainable) = (vec![], Some(trainable));
                let request = Request { batch, sources, outputs, trainable, dtype: device.dtype() };
                let mut executor = device.executor(&graph, request, &model.parameters, 0)?;
                executor.prepare(Training::new(Optimizer::new(Rule::RMSPROP, LEARNING_RATE)?))?;
                let plan = executor.plan();
                if made_up {
                    features = plan
                        .request
                        .sources
                        .iter()
                        .map(|&s| {
                            let values = uniform(batch * graph.nodes[s].shape.elements());
                            Values::nearest(plan.dtypes[s], values)
                        })
                        .collect();
                }
                train = Some(executor);
            }
        }
        Ok(Work { model, device, forward, train, steps: 0, images, features, labels })
    }

    /// Runs it once: inference, or a training step with its update.
    ///
    /// # Errors
    /// If a kernel's input does not fit, which would be a defect.
    pub fn run(&mut self) -> Result<()> {
        let count = self.labels.len();
        if let Some(forward) = &mut self.forward {
            forward.forward(&[(&self.images).into()], count)?;
        }
        let Some(train) = &mut self.train else { return Ok(()) };
        if let Some(prefix) = &mut self.forward {
            self.features.resize(prefix.plan().request.outputs.len(), Values::default());
            for (i, values) in self.features.iter_mut().enumerate() {
                prefix.read(i, values)?;
            }
        }
        let inputs: Vec<Input<'_>> = match self.features.is_empty() {
            true => vec![(&self.images).into()],
            false => self.features.iter().map(Input::from).collect(),
        };
        let turn = Turn { step: self.steps, replica: 0 };
        train.train_step(&inputs, (&self.labels).into(), turn)?;
        self.steps += 1;
        train.update(LEARNING_RATE)
    }

    /// Gradients of the last training step.
    ///
    /// # Errors
    /// If it does not train, or the device cannot be read.
    pub fn gradients(&mut self) -> Result<Gradients> {
        let mut gradients = Gradients::default();
        let expected = || Error::invalid("gradients", "work that trains", "inference", "");
        self.train.as_mut().ok_or_else(expected)?.gradients(&mut gradients)?;
        Ok(gradients)
    }

    /// Runs it `repeat` times, after one run that does not count.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn measure(&mut self, repeat: usize) -> Result<Measurement> {
        self.run()?;
        let mut peak = self.measure_peak(0.2);
        let mut seconds = Vec::new();
        for _ in 0..repeat.max(1) {
            let start = Instant::now();
            self.run()?;
            seconds.push(start.elapsed().as_secs_f64());
            peak = peak.max(self.measure_peak(0.1));
        }
        seconds.sort_by(f64::total_cmp);
        let batch = self.labels.len() as f64;
        let images_per_second = batch / seconds[seconds.len() / 2];
        let flops: f64 = self.explain().iter().map(|e| e.flops as f64).sum();
        let gflops_per_image = flops / 1e9 / batch;
        let achieved_gflops = gflops_per_image * images_per_second;
        Ok(Measurement {
            images_per_second,
            gflops_per_image,
            achieved_gflops,
            peak_gflops: peak / 1e9,
            fraction_of_peak: if peak > 0.0 { achieved_gflops * 1e9 / peak } else { 0.0 },
            peak_rss_mb: peak_rss_mb(),
        })
    }

    fn measure_peak(&self, seconds: f64) -> f64 {
        if !self.device.is_cpu() {
            return 0.0;
        }
        self.device.compute().measure_peak(self.device.dtype(), seconds)
    }

    /// Lists the plans it runs, frozen layers first.
    pub fn explain(&self) -> Vec<Explanation> {
        let graph = &self.model.net.graph;
        let plans = self.forward.iter().chain(&self.train);
        plans.map(|e| Explanation::new(graph, e.plan(), None)).collect()
    }

    /// As [`Self::explain`], with the times of a run, best of three for each step.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn explain_measured(&mut self) -> Result<Vec<Explanation>> {
        self.run()?;
        let peak = self.measure_peak(0.5);
        let mut best: Vec<Vec<f64>> = Vec::new();
        self.forward.iter_mut().chain(&mut self.train).for_each(|e| e.measure());
        for _ in 0..3 {
            self.run()?;
            for (i, executor) in self.forward.iter().chain(&self.train).enumerate() {
                match best.get_mut(i) {
                    None => best.push(executor.seconds().to_vec()),
                    Some(best) => {
                        for (b, s) in best.iter_mut().zip(executor.seconds()) {
                            *b = b.min(*s);
                        }
                    }
                }
            }
        }
        let graph = &self.model.net.graph;
        let plans = self.forward.iter().chain(&self.train).zip(&best);
        Ok(plans.map(|(e, s)| Explanation::new(graph, e.plan(), Some((s, peak)))).collect())
    }
}

fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
