//! `--shard`: one part of the work of predict, features or data check, in a folder of parts.

use std::path::{Path, PathBuf};

use headstart::classify::ClassifyOptions;
use headstart::dataset::{Dataset, Subset};
use headstart::export::Prediction;
use headstart::export::parts::{Encoded, Head, Part, Row, fingerprint};
use headstart::graph::NodeId;
use headstart::inference::{self, Control};
use headstart::shard::Shard;
use headstart::trainer::INFERENCE_BATCH;
use headstart::{Device, Model, inspect};
use serde::Serialize;
use serde_json::{Value, json};

use super::images::Images;
use super::predict::TOP;
use crate::args::{DataCheck, Features, Predict};
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output};

/// Images after which rows are handed to the system.
const FLUSH: usize = 64;
/// Images whose features are computed at once.
const AT_ONCE: usize = 8 * INFERENCE_BATCH;

/// Opens a part, and says where it stands.
fn open(folder: &Path, head: &Head) -> Result<Part, Failure> {
    let part = Part::open(folder, head)?;
    let (path, done, count) = (part.path().display(), part.done(), head.count);
    if part.is_finished() {
        note!("{path}: part {} of {} is complete", head.part, head.of);
    } else if done > 0 {
        note!("{path}: goes on after {done} of {count} images");
    }
    interrupt::watch();
    Ok(part)
}

/// Ends a part that was made, or that was stopped.
fn close(mut part: Part, count: usize, control: Control) -> Result<(), Failure> {
    let (path, done) = (part.path().display().to_string(), part.done());
    if control == Control::Stop {
        part.flush()?;
        let kept = format!("{path} has {done} of {count} images; the same command goes on");
        return Err(Failure::Interrupted(kept));
    }
    part.finish()?;
    let s = if done == 1 { "" } else { "s" };
    output::line(format!("{path}: {done} image{s}"))?;
    Ok(())
}

/// What a model is known by: its weights, and how images enter it.
fn same_model(model: &Model, device: &Device) -> Vec<String> {
    let card = serde_json::to_string(&model.card).unwrap_or_default();
    let program = format!("headstart {}", env!("CARGO_PKG_VERSION"));
    vec![program, model.parameters.fingerprint(), card, device.dtype().name().to_string()]
}

fn head(command: &str, shard: Shard, total: usize, same: &[String], about: Value) -> Head {
    let same = fingerprint(same.iter().map(String::as_str));
    let part = (shard.number, shard.of);
    Head::new(command, part, shard.range(total), total, same, about)
}

/// Predicts the images of a part.
pub fn predict(
    args: &Predict,
    (shard, folder): (Shard, &PathBuf),
    images: &Images,
    model: &Model,
    device: &Device,
    options: ClassifyOptions,
) -> Result<(), Failure> {
    let top = args.top_k.unwrap_or(TOP);
    let threshold = args.threshold.unwrap_or(0.0);
    let mut same = same_model(model, device);
    same.push(format!("top {top}, threshold {threshold}, tta {}", options.tta));
    same.extend((0..images.len()).map(|i| images.name(i)));
    let head = head("predict", shard, images.len(), &same, Value::Null);
    let mut part = open(folder, &head)?;
    let left = head.first + part.done()..head.first + head.count;
    let mut progress = Progress::new(0);
    let last = images.classify(left, model, device, options, &mut |i, told| {
        let name = images.name(i);
        match told {
            Ok(p) => part.add(&Prediction::new(name, model.choices(p, top), threshold))?,
            Err(error) => {
                note!("skipped: {error}");
                part.add(&Row::<()>::Skipped { skipped: name, reason: error.to_string() })?;
            }
        }
        if part.done() % FLUSH == 0 {
            part.flush()?;
        }
        Ok(progress.images("predicting", i + 1 - head.first, head.count))
    })?;
    progress.clear();
    let stopped = last == Control::Stop && part.done() < head.count;
    close(part, head.count, if stopped { Control::Stop } else { Control::Continue })
}

/// A row of features.
#[derive(Serialize)]
struct Vector<'v> {
    image: &'v str,
    split: &'v str,
    label: usize,
    values: Encoded,
}

/// Computes the features of the images of a part.
pub fn features(
    args: &Features,
    shard: Shard,
    data: &Dataset,
    (model, node): (&Model, NodeId),
    device: &Device,
) -> Result<(), Failure> {
    let parts = data.parts(args.split.into())?;
    let total = parts.iter().map(|(_, subset)| subset.len()).sum();
    let layer = &model.net.graph.nodes[node];
    let mut same = same_model(model, device);
    same.push(layer.name.clone());
    same.extend(parts.iter().flat_map(|(split, subset)| listed(split, subset)));
    let width = layer.shape.elements();
    let about = json!({ "classes": data.classes, "layer": layer.name, "width": width });
    let head = head("features", shard, total, &same, about);
    let mut part = open(&args.out, &head)?;
    let (mut progress, mut before, mut control) = (Progress::new(0), 0, Control::Continue);
    for (split, subset) in parts {
        let within = |at: usize| at.clamp(before, before + subset.len()) - before;
        let own = within(head.first + part.done())..within(head.first + head.count);
        before += subset.len();
        let positions: Vec<usize> = own.collect();
        for some in positions.chunks(AT_ONCE) {
            if control == Control::Stop {
                break;
            }
            let chosen = subset.select(some);
            let done = part.done();
            let mut show = |i| progress.images("features", done + i, head.count);
            let batch = INFERENCE_BATCH;
            let found = inference::features(model, &chosen, &[node], device, batch, &mut show)?;
            let Some(found) = found else {
                control = Control::Stop;
                break;
            };
            let values = found.tensors[0].as_slice().to_f32();
            for (i, row) in values.chunks_exact(width.max(1)).enumerate() {
                let (image, values) = (chosen.path(i), Encoded::of(row));
                part.add(&Vector { image: &image, split, label: chosen.label(i), values })?;
            }
            part.flush()?;
        }
    }
    progress.clear();
    close(part, head.count, control)
}

/// Checks the images of a part.
pub fn check(
    args: &DataCheck,
    (shard, folder): (Shard, &PathBuf),
    data: &Dataset,
) -> Result<(), Failure> {
    let about = json!({ "data": args.data });
    let part = (shard.number, shard.of);
    let total = inspect::images(data);
    let head = Head::new("data check", part, shard.range(total), total, same_data(data), about);
    let mut part = open(folder, &head)?;
    let wanted = head.first + part.done()..head.first + head.count;
    let mut progress = Progress::new(0);
    let control = inspect::look(data, args.threads, wanted, &mut |looked| {
        for one in &looked {
            part.add(one)?;
        }
        part.flush()?;
        Ok(progress.images("checking images", part.done(), head.count))
    })?;
    progress.clear();
    let stopped = control == Control::Stop && part.done() < head.count;
    close(part, head.count, if stopped { Control::Stop } else { Control::Continue })
}

/// What the images of a data set are known by: their names, classes and splits.
pub fn same_data(data: &Dataset) -> String {
    let splits = [
        ("train", Some(&data.train)),
        ("validation", data.validation.as_ref()),
        ("test", data.test.as_ref()),
    ];
    let all = splits.into_iter().filter_map(|(name, subset)| Some((name, subset?)));
    let names: Vec<String> = all.flat_map(|(split, subset)| listed(split, subset)).collect();
    fingerprint(names.iter().map(String::as_str))
}

fn listed(split: &str, subset: &Subset) -> Vec<String> {
    (0..subset.len()).map(|i| format!("{split} {} {}", subset.label(i), subset.name(i))).collect()
}
