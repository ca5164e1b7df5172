//! `headstart export`.

use headstart::Error;
use headstart::config::{DeviceChoice, Precision, precision_of_run};
use headstart::dataset::DataOptions;
use headstart::evaluate::open_for;
use headstart::export::onnx::{self, Int8};
use headstart::export::{WeightFormat, script, write_weights};
use headstart::inference::probabilities;
use headstart::job::labels_for;
use headstart::metrics::Agreement;
use headstart::model::Model;
use headstart::trainer::INFERENCE_BATCH;
use serde::Serialize;

use super::{check_output, device, hub, open_model};
use crate::args::{Export, ExportFormat};
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output};

#[derive(Serialize)]
struct Exported {
    file: String,
    /// All files, that one first.
    files: Vec<String>,
    /// The Python that loads it.
    script: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: Option<Cost>,
}

/// What 8-bit arithmetic costs.
#[derive(Serialize)]
struct Cost {
    split: &'static str,
    calibration_images: usize,
    #[serde(flatten)]
    agreement: Agreement,
}

/// Writes the file and prints the lines that load it.
pub fn run(args: &Export) -> Result<(), Failure> {
    check_output(Some(&args.out), [&*args.model])?;
    let weights = match args.format {
        ExportFormat::Pytorch => Some(WeightFormat::Pytorch),
        ExportFormat::Keras => Some(WeightFormat::Keras),
        ExportFormat::Onnx => None,
    };
    weights
        .map_or_else(|| onnx::check_ending(&args.out), |format| format.check_ending(&args.out))
        .map_err(Failure::Usage)?;
    if args.int8 && weights.is_some() {
        let hint =
            "the other formats hold weights in floats; leave --int8 out, or take --format onnx";
        return Err(Failure::Usage(Error::invalid("--int8", "--format onnx", "another", hint)));
    }
    let model = open_model(&args.model, args.weights.as_deref())?;
    let (script, int8) = match weights {
        Some(format) => {
            write_weights(&model, format, &args.out)?;
            (script(&model, format, &args.out), None)
        }
        None => {
            let data = args.data.as_deref();
            let quantised = data.map(|data| quantise(args, data, &model)).transpose()?;
            onnx::write(&model, quantised.as_ref().map(|(int8, _)| int8), &args.out)?;
            (onnx::script(&model, &args.out), quantised.map(|(_, cost)| cost))
        }
    };
    let files = weights.map_or_else(|| vec![args.out.clone()], |format| format.files(&args.out));
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if args.json {
        output::json(&Exported { file: files[0].clone(), files, script, int8 })?;
        return Ok(());
    }
    if let Some(Cost { split, calibration_images, agreement: a }) = &int8 {
        note!(
            "int8, ranges from {calibration_images} training images: accuracy {:.4}, with floats {:.4} ({} {split} images; \
             {:.2}% predicted the same)",
            a.accuracy,
            a.reference_accuracy,
            a.samples,
            100.0 * a.agreement
        );
    }
    let short = match precision_of_run(&model) {
        Some(Precision::Bf16) => Some("bf16"),
        Some(Precision::F16) => Some("f16"),
        _ => None,
    };
    if let (Some(short), false) = (short, args.int8) {
        note!(
            "the run computed in {short}, and what was written computes in f32, as `predict --precision f32` does: from the run's \
             report and from predictions in {short}, probabilities can differ in the second decimal, \
             and with them the class of an image whose two best are close"
        );
    }
    note!("wrote {}; in Python:", files.join(" and "));
    output::text(script)?;
    Ok(())
}

/// Finds the 8-bit ranges of a model's values on training images, and measures what they cost.
fn quantise(args: &Export, data: &str, model: &Model) -> Result<(Int8, Cost), Failure> {
    let device = device(args.threads, Precision::F32, DeviceChoice::Cpu)?;
    let options = DataOptions { threads: args.threads, ..DataOptions::default() };
    let (given, threads) = (args.parts.given(), &device.compute().threads);
    let validation = args.parts.hold_out();
    let opened =
        hub::watched(|watch| open_for(model, data, given, validation, &options, threads, watch))?;
    let data = &opened.data;
    interrupt::watch();
    let stopped = || Failure::Interrupted("nothing was written".into());
    let mut progress = Progress::new(0);

    let some = data.train.limit(args.calibration_images, args.parts.seed.unwrap_or(42));
    let total = 2 * some.len();
    let mut show = |done| progress.images("calibrating", done, total);
    let int8 = Int8::calibrate(model, &some, &device, &mut show)?.ok_or_else(stopped)?;

    let list = opened.parts(args.parts.split.into())?;
    let split = if list.len() == 1 { list[0].0 } else { "all" };
    let (mut floats, mut bytes, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for (name, subset) in list {
        labels.extend(labels_for(model, data, subset)?);
        let total = subset.len();
        let mut show = |done| progress.images(&format!("floats, {name}"), done, total);
        let p = probabilities(model, subset, &device, INFERENCE_BATCH, &mut show)?;
        floats.extend(p.ok_or_else(stopped)?);
        let mut show = |done| progress.images(&format!("int8, {name}"), done, total);
        let p = int8.probabilities(model, subset, &device, &mut show)?;
        bytes.extend(p.ok_or_else(stopped)?);
    }
    let agreement = Agreement::new(model.card.classes.len(), &floats, &bytes, &labels);
    let cost = Cost { split, calibration_images: int8.images, agreement };
    Ok((int8, cost))
}
