//! Hash of everything that a row of cached features depends on, except the image.

use headstart_kernels::element::{Slice, Values};
use sha2::{Digest, Sha256};

use super::element::{Layout, encode, part};
use super::store::{Hash, VERSION};
use crate::data::image::{Resizer, Rgb8, Target, decode_bytes};
use crate::data::split::RandomState;
use crate::engine::device::Device;
use crate::engine::execute::Execute;
use crate::error::Result;
use crate::net::graph::NodeId;
use crate::net::model::Model;

/// Values that are hashed together.
const PART: usize = 1024;
/// Raised when image files decode to other pixels than before. Of JPEG, [`DECODED`] shows it too.
const DECODING: u32 = 2;
/// A JPEG with 4:2:0 chroma and no whole blocks at its edges, whose pixels are a part of every key. Pillow made it of noise.
const DECODED: &[u8] = include_bytes!("decoded.jpg");

/// Hash of everything, except the image, that an image's values at `nodes` depend on. The first half is that of
/// [`fixed`]. `executor` computes `nodes`; its values for a synthetic image are a part of the second half, so that kernels
/// that round differently have other keys.
///
/// # Errors
/// If the executor is not one for `model`'s images.
pub fn key(
    model: &Model,
    nodes: &[NodeId],
    layout: &Layout,
    device: &Device,
    executor: &mut dyn Execute,
) -> Result<Hash> {
    let mut key = fixed(model, nodes, layout, device);
    let mut hash = Sha256::new();
    hash.update(key);
    let pixels = made_up(model)?;
    executor.forward(&[(&pixels).into()], 1)?;
    let mut values = Values::default();
    for i in 0..nodes.len() {
        executor.read(i, &mut values)?;
        update(&mut hash, values.as_slice());
    }
    key[16..].copy_from_slice(&hash.finalize()[16..]);
    Ok(key)
}

/// Hash of what is known without running the net: weights, layers, sizes, normalisation, resizing, decoding, instruction
/// set, precision, this program's version.
pub fn fixed(model: &Model, nodes: &[NodeId], layout: &Layout, device: &Device) -> Hash {
    let graph = &model.net.graph;
    let mut needed = vec![false; graph.nodes.len()];
    nodes.iter().for_each(|&n| needed[n] = true);
    for id in (0..needed.len()).rev() {
        if needed[id] {
            graph.nodes[id].inputs.iter().for_each(|&input| needed[input] = true);
        }
    }
    let mut hash = Sha256::new();
    text(
        &mut hash,
        &format!("headstart {} features {VERSION} {DECODING}", env!("CARGO_PKG_VERSION")),
    );
    match decode_bytes(DECODED) {
        Ok(image) => hash.update(&image.pixels),
        Err(reason) => text(&mut hash, &reason),
    }
    let device = device.fingerprint();
    text(&mut hash, &format!("{} {nodes:?} {layout:?} {device}", entry(model.target())));
    for (node, _) in graph.nodes.iter().zip(&needed).filter(|(_, needed)| **needed) {
        text(&mut hash, &format!("{node:?}"));
    }
    for tensor in model.parameters.tensors.iter().filter(|t| needed[t.node]) {
        text(&mut hash, &format!("{} {:?}", tensor.name, tensor.shape));
        update(&mut hash, Slice::F32(&tensor.values));
    }
    hash.finalize().into()
}

/// How images of all files enter. Where a JPEG is decoded smaller, or a corner enters, its row has another hash
/// ([`Subset::pixel_hashes`](crate::data::dataset::Subset::pixel_hashes)), so that all other rows serve both.
fn entry(target: Target) -> String {
    let Target { height, width, interpolation, fit, decode: _, corner: _ } = target;
    format!(
        "Target {{ height: {height}, width: {width}, interpolation: {interpolation:?}, fit: {fit:?} }}"
    )
}

fn text(hash: &mut Sha256, what: &str) {
    hash.update((what.len() as u64).to_le_bytes());
    hash.update(what);
}

fn update(hash: &mut Sha256, values: Slice<'_>) {
    let mut bytes = Vec::with_capacity(PART * size_of::<f32>());
    for start in (0..values.len()).step_by(PART) {
        bytes.clear();
        encode(part(values, start, PART.min(values.len() - start)), &mut bytes);
        hash.update(&bytes);
    }
}

/// An image of noise, resized to the net's size.
fn made_up(model: &Model) -> Result<Vec<u8>> {
    let target = model.target();
    let (width, height) = (target.width + 3, target.height + 5);
    let mut random = RandomState::new(1);
    let pixels: Vec<u8> = (0..width * height * 3).map(|_| random.next_u32() as u8).collect();
    target.enter(&mut Resizer::new(), &Rgb8::new(width, height, &pixels)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image::{Decode, Fit};

    #[test]
    fn entries_are_those_of_versions_that_decoded_everything_in_full() {
        let full = Target { fit: Fit::Crop { share: 0.875 }, ..Target::square(224) };
        let text = "Target { height: 224, width: 224, interpolation: Bilinear, fit: Crop { share: 0.875 } }";
        assert_eq!(entry(full), text);
        assert_eq!(entry(Target { decode: Decode::Reduced, ..full }), text);
    }
}
