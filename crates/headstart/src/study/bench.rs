//! The job's parts on made-up images, to be measured or explained.
//!
//! ```
//! use std::sync::Arc;
//! use headstart::bench::{Part, Work};
//! use headstart::{Compute, Model};
//!
//! let compute = Arc::new(Compute::new(0)?);
//! let model = Model::imagenet("resnet20")?;
//! let mut work = Work::new(model, Part::Forward, false, 4, compute)?;
//! println!("{} images/s", work.measure(1)?.images_per_second);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;
use std::time::Instant;

use headstart_kernels::element::{Bf16, DType, Element, Slice, Values};
use headstart_kernels::table::Compute;
use serde::Serialize;

use crate::data::split::RandomState;
use crate::engine::execute::{Executor, Gradients};
use crate::engine::inference::executor;
use crate::engine::optimizer::{Optimizer, Rule};
use crate::engine::plan::{Plan, Request, sources};
use crate::error::Result;
use crate::memory::room_for;
use crate::net::model::Model;
use crate::net::resnet::FreezePoint;
use crate::study::explain::Explanation;

/// Which part of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Inference.
    Forward,
    /// A training step of the head.
    Head,
    /// A training step from a layer on.
    FineTune(FreezePoint),
}

/// A part of the job, ready to run.
#[derive(Debug)]
pub struct Work {
    model: Model,
    compute: Arc<Compute>,
    /// Inference, or the frozen layers of training.
    forward: Option<Executor>,
    train: Option<Executor>,
    optimizer: Optimizer,
    gradients: Gradients,
    images: Vec<f32>,
    /// What the training plan reads where the frozen layers are left out.
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
    /// Multiply-add rate of a loop that touches registers only, in the same run.
    pub peak_gflops: f64,
    /// Share of that peak.
    pub fraction_of_peak: f64,
    /// Most memory the process has held; 0 where the system does not say.
    pub peak_rss_mb: f64,
}

impl Work {
    /// Prepares `part` for batches of `batch` random images. With `cached` the frozen layers are
    /// left out, as if their outputs were kept.
    ///
    /// # Errors
    /// If the plan cannot be made.
    pub fn new(
        model: Model,
        part: Part,
        cached: bool,
        batch: usize,
        compute: Arc<Compute>,
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
        let images = images.into_iter().map(|v| v * 255.0).collect();
        let classes = model.card.classes.len();
        let labels = (0..batch).map(|i| (i % classes) as u32).collect();
        let (mut forward, mut train, mut features) = (None, None, Vec::new());
        match trainable {
            None => {
                forward = Some(executor(&model, &compute, batch, &[0], &[model.output()])?);
            }
            Some(trainable) => {
                let mut made_up = false;
                let sources = sources(&graph, &trainable);
                let works = sources != [0];
                if works && !cached {
                    forward = Some(executor(&model, &compute, batch, &[0], &sources)?);
                } else if works {
                    made_up = true;
                }
                let (outputs, trainable) = (vec![], Some(trainable));
                let request = Request { batch, sources, outputs, trainable, dtype: compute.dtype };
                let plan = Plan::new(&graph, request)?;
                if made_up {
                    features = plan
                        .request
                        .sources
                        .iter()
                        .map(|&s| {
                            let values = uniform(batch * graph.nodes[s].shape.elements());
                            match plan.dtypes[s] {
                                DType::F32 => Values::F32(values),
                                DType::Bf16 => {
                                    Values::Bf16(values.into_iter().map(Bf16::from_f32).collect())
                                }
                            }
                        })
                        .collect();
                }
                let compute = Arc::clone(&compute);
                train = Some(Executor::new(graph, plan, compute, &model.parameters, 0)?);
            }
        }
        let optimizer = Optimizer::new(Rule::RMSPROP, 1e-4)?;
        let gradients = Gradients::default();
        Ok(Work { model, compute, forward, train, optimizer, gradients, images, features, labels })
    }

    /// Runs it once: inference, or a training step with its update.
    ///
    /// # Errors
    /// If a kernel's input does not fit, which would be a defect.
    pub fn run(&mut self) -> Result<()> {
        let count = self.labels.len();
        if let Some(forward) = &mut self.forward {
            forward.forward(&[&self.images], count)?;
        }
        let Some(train) = &mut self.train else { return Ok(()) };
        let inputs: Vec<Slice<'_>> = match &self.forward {
            Some(prefix) => {
                let outputs = prefix.plan().request.outputs.len();
                (0..outputs).map(|i| prefix.stored_output(i, count)).collect()
            }
            None if self.features.is_empty() => vec![Slice::F32(&self.images)],
            None => self.features.iter().map(Values::as_slice).collect(),
        };
        let parameters = &mut self.model.parameters;
        train.train_step(&inputs, &self.labels, parameters, &mut self.gradients)?;
        self.optimizer.step(&self.compute, parameters, &self.gradients);
        train.refresh(parameters)
    }

    /// Runs it `repeat` times after one that does not count.
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
            fraction_of_peak: achieved_gflops * 1e9 / peak,
            peak_rss_mb: peak_rss_mb(),
        })
    }

    fn measure_peak(&self, seconds: f64) -> f64 {
        self.compute.measure_peak(self.compute.dtype, seconds)
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
        self.forward.iter_mut().chain(&mut self.train).for_each(Executor::measure);
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
