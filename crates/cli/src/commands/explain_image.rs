//! `headstart explain-image`.

use std::path::Path;

use headstart::atomic::write_bytes;
use headstart::gradcam::GradCam;
use headstart::image::{self, Window};
use headstart::report::explained;
use headstart::text::of_path;
use serde::Serialize;

use super::{check_output, device, hub, open_model, settled};
use crate::args::ExplainImage;
use crate::failure::Failure;
use crate::output;

#[derive(Serialize)]
struct Explained<'a> {
    image: String,
    file: String,
    class: &'a str,
    /// The class's position in the model's list of classes, from 0.
    index: usize,
    probability: f32,
    /// Rows of the heat map.
    map: Vec<&'a [f32]>,
    /// The part of the image that the map covers, left, top, width and height, where the whole image is from 0 to 1.
    window: [f32; 4],
}

/// Draws where in an image the model sees a class.
pub fn run(args: &ExplainImage) -> Result<(), Failure> {
    check_output(Some(&args.out), [&*args.image, Path::new(&args.model)])?;
    let model = open_model(&args.model, args.weights.as_deref())?;
    let classes = &model.card.classes;
    let class = args.class.as_deref().map(|name| model.class(name).map_err(Failure::Usage));
    let class = class.transpose()?;
    let path = hub::local(&args.image)?;
    let bytes = image::read(&path)?;
    let (image, seen) = (image::decode(&path, &bytes)?, model.target().decoded(&path, &bytes)?);
    let device = device(args.threads, args.precision.into(), args.device)?;
    let device = settled(device, (args.device, args.precision.into()), &model, 1)?;
    let heat = GradCam::new(&model, &device)?.look(&seen, &[class])?.remove(0);
    write_bytes(&args.out, &explained(&image, &heat, classes)?)?;
    let (class, probability) = (&classes[heat.class], heat.probabilities[heat.class]);
    let (image, file) = (of_path(&args.image), args.out.display().to_string());
    if args.json {
        let map = heat.values.chunks_exact(heat.width).collect();
        let Window { left, top, width, height } = heat.window;
        let (index, window) = (heat.class, [left, top, width, height]);
        output::json(&Explained { image, file, class, index, probability, map, window })?;
    } else {
        output::line(format!("{image}: {class} {probability:.4}"))?;
        output::line(file)?;
    }
    Ok(())
}
