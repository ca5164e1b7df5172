//! An inference request: JSON, which bytes of tensors may follow.

use bytes::Bytes;
use serde::Deserialize;

use super::tensor::{Few, Flat};
use super::{INPUT, OUTPUT};
use crate::answer::Refusal;
use crate::models::Served;

/// The header that says how many bytes are JSON, where tensors follow.
pub const JSON_LENGTH: &str = "inference-header-content-length";
/// Longest name of a request.
const ID: usize = 1000;

/// What a request asks for.
#[derive(Debug)]
pub struct Request {
    /// Its own name, which the answer has, too.
    pub id: Option<String>,
    /// Images at the model's size.
    pub pixels: Vec<u8>,
    /// How many.
    pub count: usize,
    /// What is wanted of them.
    pub outputs: Vec<Wanted>,
}

/// How the probabilities are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As bytes after the JSON.
    pub binary: bool,
    /// As so many lines of the most probable classes, if any.
    pub classes: Option<usize>,
}

#[derive(Deserialize)]
struct Whole {
    id: Option<String>,
    inputs: Few<Input>,
    #[serde(default)]
    outputs: Few<Output>,
    #[serde(default)]
    parameters: WholeParameters,
}

#[derive(Default, Deserialize)]
struct WholeParameters {
    #[serde(default)]
    binary_data_output: bool,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    shape: Few<u64>,
    datatype: String,
    #[serde(default)]
    parameters: InputParameters,
    data: Option<Flat>,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    binary_data_size: Option<u64>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<u64>,
}

impl Request {
    /// Reads a body, of which `json` bytes are JSON, all where that is not said, and none where tensors alone are sent.
    ///
    /// # Errors
    /// If it is not what the model takes.
    pub fn read(body: &Bytes, json: Option<usize>, served: &Served) -> Result<Request, Refusal> {
        let length = json.unwrap_or(body.len());
        let Some((text, tensors)) = body.split_at_checked(length) else {
            let message = format!(
                "Inference-Header-Content-Length: expected at most the body's {} bytes, found {length}",
                body.len()
            );
            return Err(Refusal::bad(message, ""));
        };
        if json == Some(0) {
            let (count, pixels) = (tensors.len() / served.image_bytes(), tensors.to_vec());
            check_size(count as u64, tensors.len(), served)?;
            let outputs = vec![Wanted { binary: true, classes: None }];
            return Ok(Request { id: None, pixels, count, outputs });
        }
        let whole: Whole = serde_json::from_slice(text).map_err(|error| {
            Refusal::bad(format!("body: expected an inference request, found {error}"), "")
        })?;
        if whole.id.as_ref().is_some_and(|id| id.len() > ID) {
            return Err(Refusal::bad(format!("id: expected at most {ID} bytes, found more"), ""));
        }
        let outputs = wanted(&whole)?;
        let (count, pixels) = input(whole.inputs.0, tensors, served)?;
        Ok(Request { id: whole.id, pixels, count, outputs })
    }
}

/// The outputs that are wanted: all where none is named.
fn wanted(whole: &Whole) -> Result<Vec<Wanted>, Refusal> {
    let usual = whole.parameters.binary_data_output;
    if whole.outputs.0.is_empty() {
        return Ok(vec![Wanted { binary: usual, classes: None }]);
    }
    let each = whole.outputs.0.iter().map(|output| match output.name.as_str() {
        OUTPUT => {
            let classes = output.parameters.classification.filter(|&k| k > 0);
            let classes = classes.map(|k| usize::try_from(k).unwrap_or(usize::MAX));
            let binary = output.parameters.binary_data.unwrap_or(usual);
            Ok(Wanted { binary, classes })
        }
        other => Err(expected("outputs", OUTPUT, other)),
    });
    each.collect()
}

fn expected(what: &str, expected: &str, found: &str) -> Refusal {
    let found: String = found.chars().take(100).collect();
    Refusal::bad(format!("{what}: expected {expected}, found {found}"), "")
}

/// The images of a request: their number and bytes.
fn input(inputs: Vec<Input>, tensors: &[u8], served: &Served) -> Result<(usize, Vec<u8>), Refusal> {
    let number = inputs.len();
    let Ok([input]) = <[Input; 1]>::try_from(inputs) else {
        return Err(expected("inputs", &format!("one, {INPUT}"), &number.to_string()));
    };
    if input.name != INPUT {
        return Err(expected("inputs", INPUT, &input.name));
    }
    if input.datatype != "UINT8" {
        return Err(expected("datatype of image", "UINT8", &input.datatype));
    }
    let target = served.model.target();
    let [height, width] = [target.height as u64, target.width as u64];
    let count = match input.shape.0[..] {
        [count, h, w, 3] if (h, w) == (height, width) => count,
        ref shape => {
            let wanted = format!("[n, {height}, {width}, 3], images of the net's size");
            let refusal = expected("shape of image", &wanted, &format!("{shape:?}"));
            let hint = "/predict takes image files of any size";
            return Err(Refusal { hint: hint.into(), ..refusal });
        }
    };
    let pixels = match (input.parameters.binary_data_size, input.data) {
        (Some(size), None) if size == tensors.len() as u64 => tensors.to_vec(),
        (Some(size), None) => {
            let found = format!("{} bytes", tensors.len());
            return Err(expected("body after its JSON", &format!("{size} bytes"), &found));
        }
        (None, Some(Flat(pixels))) if tensors.is_empty() => pixels,
        _ => return Err(expected("image", "either data or binary_data_size", "both, or neither")),
    };
    check_size(count, pixels.len(), served)?;
    Ok((count as usize, pixels))
}

/// Fails unless these are the bytes of so many images, at least one.
fn check_size(count: u64, bytes: usize, served: &Served) -> Result<(), Refusal> {
    let each = served.image_bytes() as u64;
    if count > 0 && count.checked_mul(each) == Some(bytes as u64) {
        return Ok(());
    }
    let wanted = format!("{count} images of {each} bytes, at least one");
    Err(expected("data of image", &wanted, &format!("{bytes} bytes")))
}
