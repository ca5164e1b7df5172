//! Models as ONNX graphs, from the bytes of images to class probabilities.
//!
//! The input `images` is unsigned bytes, batch x height x width x 3, RGB, at the model's size; pixel
//! normalisation, upsampling, temperature and softmax are inside. The output `probabilities` is floats, batch x classes.
//! The class names, a JSON list, and other facts that a program may need are in the file's metadata.
//!
//! ```
//! use headstart::Model;
//! use headstart::export::onnx;
//!
//! let folder = tempfile::tempdir()?;
//! let (model, path) = (Model::imagenet("resnet20")?, folder.path().join("net.onnx"));
//! onnx::write(&model, None, &path)?;
//! assert!(onnx::script(&model, &path).contains("onnxruntime"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod graph;
mod groups;
mod int8;
mod proto;

use std::path::Path;

use prost::Message;

pub use graph::{INPUT, OUTPUT};
pub use int8::{Affine, Int8};

use super::{ending, python};
use crate::atomic::write_bytes;
use crate::data::image::Fit;
use crate::error::{Error, Result};
use crate::net::model::Model;
use proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};

/// How its files must end.
pub const ENDING: &str = ".onnx";
/// Version of the operators; ONNX 1.12, of 2022, has it.
const OPSET: i64 = 17;
/// Version of the format, the one that came with these operators.
const IR_VERSION: i64 = 8;

/// Checks a file's name.
///
/// # Errors
/// If it does not end in .onnx.
pub fn check_ending(path: &Path) -> Result<()> {
    ending::check(path, ENDING)
}

/// Writes a model, completely or not at all: in floats, or in 8-bit arithmetic.
///
/// # Errors
/// If the file's name does not end in .onnx, or it cannot be written.
pub fn write(model: &Model, int8: Option<&Int8>, path: &Path) -> Result<()> {
    check_ending(path)?;
    let proto = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "headstart".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph::build(model, int8)?),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata(model, int8),
    };
    // The format's own limit: a reader takes no message of 2 GiB.
    let (bytes, most) = (proto.encoded_len(), i32::MAX as usize);
    if bytes > most {
        let expected = format!("at most {most} bytes");
        return Err(Error::format(path, expected, bytes.to_string(), "choose a smaller net"));
    }
    write_bytes(path, &proto.encode_to_vec())
}

fn metadata(model: &Model, int8: Option<&Int8>) -> Vec<StringStringEntryProto> {
    let card = &model.card;
    let classes = serde_json::to_string(&card.classes).unwrap_or_default();
    let mut list = vec![
        ("classes", classes),
        ("architecture", card.architecture.clone()),
        ("height", card.height.to_string()),
        ("width", card.width.to_string()),
        ("interpolation", card.interpolation.name().into()),
        ("fit", card.fit.name().into()),
        ("decode", card.decode.name().into()),
    ];
    if let Fit::Crop { share } = card.fit {
        list.push(("crop_share", share.to_string()));
    }
    if let Some(side) = model.target().least_side() {
        list.push(("least_side", side.to_string()));
    }
    list.extend(int8.map(|q| ("calibration_images", q.images.to_string())));
    let entry = |(key, value): (&str, String)| StringStringEntryProto { key: key.into(), value };
    list.into_iter().map(entry).collect()
}

/// The lines of Python that classify a photo with the written file, as `headstart predict` does.
pub fn script(model: &Model, path: &Path) -> String {
    let file = serde_json::to_string(&path.display().to_string()).unwrap_or_default();
    let image = python::indented(model, "\"photo.jpg\"", "");
    format!(
        "import json, numpy, onnxruntime\nfrom PIL import Image, ImageOps\n\n\
         session = onnxruntime.InferenceSession({file})\n\
         classes = json.loads(session.get_modelmeta().custom_metadata_map[\"classes\"])\n\
         {image}\
         probabilities = session.run(None, {{\"{INPUT}\": numpy.asarray(image)[None]}})[0][0]\n\
         print(classes[probabilities.argmax()], probabilities.max())\n"
    )
}
