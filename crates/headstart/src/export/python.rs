//! Lines of Python that resize a Pillow image as the model's card says.

use crate::data::image::{Fit, Interpolation, PADDING};
use crate::net::weights::model_file::ModelCard;

/// Statements, one a line, that bring `image`, upright and RGB, to the net's size; `Image` and `ImageOps` are Pillow's.
pub(super) fn resized(card: &ModelCard) -> Vec<String> {
    let filter = match card.interpolation {
        Interpolation::Nearest => "Image.Resampling.NEAREST",
        Interpolation::Bilinear => "Image.Resampling.BILINEAR",
        Interpolation::Bicubic => "Image.Resampling.BICUBIC",
    };
    let (width, height) = (card.width, card.height);
    match card.fit {
        Fit::Stretch => vec![format!("image = image.resize(({width}, {height}), {filter})")],
        Fit::Crop { share } => {
            let size = (width as f64 / share) as usize;
            vec![
                format!("# The middle {width} of {size} pixels of the shorter side."),
                format!("sides = [int({size} * side / min(image.size)) for side in image.size]"),
                format!("left, top = [int(round((side - {width}) / 2)) for side in sides]"),
                format!("image = image.resize(sides, {filter})"),
                format!("image = image.crop((left, top, left + {width}, top + {height}))"),
            ]
        }
        Fit::Pad => {
            let [r, g, b] = PADDING;
            let size = format!("({width}, {height})");
            vec![format!("image = ImageOps.pad(image, {size}, {filter}, color=({r}, {g}, {b}))")]
        }
    }
}

/// [`resized`], each line after `indent` spaces.
pub(super) fn indented(card: &ModelCard, indent: usize) -> String {
    resized(card).iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
}
