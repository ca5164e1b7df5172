//! Lines of Python that read an image file with Pillow as the model's card says.

use crate::data::image::{Fit, Interpolation, PADDING};
use crate::net::model::Model;
use crate::net::weights::model_file::ModelCard;

/// Statements, one a line, that read the file that the expression `file` names to `image`, upright, RGB, at the net's size;
/// `Image` and `ImageOps` are Pillow's.
pub(super) fn image(model: &Model, file: &str) -> Vec<String> {
    let mut lines = match model.target().least_side() {
        None => {
            let opened = format!("ImageOps.exif_transpose(Image.open({file}))");
            vec![format!("image = {opened}.convert(\"RGB\")")]
        }
        Some(side) => vec![
            format!("image = Image.open({file})"),
            "# A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size.".into(),
            format!("image.draft(None, ({side}, {side}))"),
            "image = ImageOps.exif_transpose(image).convert(\"RGB\")".into(),
        ],
    };
    lines.extend(resized(&model.card));
    lines
}

/// Those that bring `image` to the net's size.
fn resized(card: &ModelCard) -> Vec<String> {
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

/// [`image`], each line after `indent`.
pub(super) fn indented(model: &Model, file: &str, indent: &str) -> String {
    image(model, file).iter().map(|line| format!("{indent}{line}\n")).collect()
}
