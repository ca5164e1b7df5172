//! One training step without an update: every gradient of a batch, to be compared with another
//! system's (`tools/parity/parity.py` does).
//!
//!     cargo run --release --example gradients -- MODEL.safetensors DATA FREEZE_POINT BATCH OUT.safetensors
//!
//! Writes `loss`, `gradient/LAYER/VARIABLE` and, after the step, `statistic/LAYER/VARIABLE`.

use std::collections::BTreeMap;
use std::sync::Arc;

use headstart::batches::{Loader, LoaderOptions};
use headstart::dataset::{self, DataOptions};
use headstart::execute::{Gradients, Training, Turn, Weights};
use headstart::model::Model;
use headstart::optimizer::{Optimizer, Rule};
use headstart::plan::Request;
use headstart::{Device, Error};
use headstart_kernels::element::DType;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, from, batch, out] = &arguments[..] else {
        eprintln!("usage: gradients MODEL DATA FREEZE_POINT BATCH OUT");
        std::process::exit(2);
    };
    if let Err(error) = run(model, data, from, batch.parse().unwrap_or(20), out) {
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run(model: &str, data: &str, from: &str, batch: usize, out: &str) -> Result<(), Error> {
    let mut model = Model::open(model)?;
    let options = DataOptions { validation_split: 0.0, ..DataOptions::default() };
    let data = dataset::open(data, &options)?;
    let order = (0..batch.min(data.train.len())).collect();
    let options = LoaderOptions::new(batch, model.target());
    let Some(images) = Loader::new(&data.train, order, options)?.next() else { return Ok(()) };
    let images = images?;

    let trainable = model.net.trainable(model.net.freeze_point(from)?);
    let graph = Arc::clone(&model.net.graph);
    let request = Request {
        batch,
        sources: vec![0],
        outputs: vec![],
        trainable: Some(trainable),
        dtype: DType::F32,
    };
    let mut executor = Device::cpu(0)?.executor(&graph, request, &model.parameters, 0)?;
    executor.prepare(Training::new(Optimizer::new(Rule::SGD, 1.0)?))?;
    let inputs = [(&images.images).into()];
    let result = executor.train_step(&inputs, (&images.labels).into(), Turn::default())?;
    let mut gradients = Gradients::default();
    executor.gradients(&mut gradients)?;
    executor.download(Weights::Current, &mut model.parameters)?;

    let mut tensors = BTreeMap::from([("loss".to_string(), (vec![1], vec![result.loss]))]);
    for (t, g) in model.parameters.tensors.iter().zip(gradients.tensors) {
        if !g.is_empty() {
            tensors.insert(format!("gradient/{}", t.name), (t.shape.clone(), g));
        }
        if !t.role.has_gradient() {
            tensors.insert(format!("statistic/{}", t.name), (t.shape.clone(), t.values.clone()));
        }
    }
    let failed = |e: safetensors::SafeTensorError| Error::invalid("file", out, e.to_string(), "");
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(n, (s, v))| (n, s, v.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views: Result<Vec<_>, _> = bytes
        .iter()
        .map(|(n, s, b)| TensorView::new(Dtype::F32, s.clone(), b).map(|v| (n.as_str(), v)))
        .collect();
    serialize_to_file(views.map_err(failed)?, None, out.as_ref()).map_err(failed)
}
