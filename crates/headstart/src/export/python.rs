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
    // Version 13 of Pillow resizes tall images in another order than those before it, unless each pass is asked for.
    let steps = |wide: &str, size: &str| match card.interpolation {
        Interpolation::Nearest => vec![format!("image = image.resize({size}, {filter})")],
        _ => vec![
            "# The width, then the height: versions of Pillow differ in which one they begin with."
                .into(),
            format!("image = image.resize(({wide}, image.height), {filter})"),
            format!("image = image.resize({size}, {filter})"),
        ],
    };
    match card.fit {
        Fit::Stretch => steps(&width.to_string(), &format!("({width}, {height})")),
        Fit::Crop { share } => {
            let size = (width as f64 / share) as usize;
            let mut lines = vec![
                format!("# The middle {width} of {size} pixels of the shorter side."),
                format!("sides = [int({size} * side / min(image.size)) for side in image.size]"),
                format!("left, top = [int(round((side - {width}) / 2)) for side in sides]"),
            ];
            lines.extend(steps("sides[0]", "sides"));
            lines.push(format!("image = image.crop((left, top, left + {width}, top + {height}))"));
            lines
        }
        Fit::Pad => {
            let [r, g, b] = PADDING;
            let size = format!("({width}, {height})");
            let mut lines = vec![format!(
                "inner = ImageOps.contain(Image.new(\"L\", image.size), {size}).size"
            )];
            lines.extend(steps("inner[0]", "inner"));
            lines.push(format!(
                "image = ImageOps.pad(image, {size}, {filter}, color=({r}, {g}, {b}))"
            ));
            lines
        }
    }
}

/// [`image`], each line after `indent`.
pub(super) fn indented(model: &Model, file: &str, indent: &str) -> String {
    image(model, file).iter().map(|line| format!("{indent}{line}\n")).collect()
}
