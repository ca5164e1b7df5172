//! `headstart similar`.

use headstart::Error;
use headstart::atomic::write_bytes;
use headstart::cache::Whole;
use headstart::dataset::{DataOptions, Split, image_hash};
use headstart::gradcam::enter;
use headstart::image;
use headstart::inference::{executor, read_floats};
use headstart::job::open_with;
use headstart::report::{Captioned, neighbours};
use headstart::similar::nearest;
use headstart::trainer::INFERENCE_BATCH;
use serde::Serialize;

use super::{cache, check_output, device, hub, open_model, settled};
use crate::args::Similar;
use crate::failure::Failure;
use crate::output::note;
use crate::progress::Progress;
use crate::{interrupt, output};

#[derive(Serialize)]
struct Found<'a> {
    image: String,
    class: &'a str,
    similarity: f32,
}

/// Names the images of a data set whose features are most similar to those of an image, by cosine. The image itself is
/// left out.
pub fn run(args: &Similar) -> Result<(), Failure> {
    check_output(args.html.as_deref(), [&*args.image.to_string_lossy(), &args.data, &args.model])?;
    let model = open_model(&args.model, args.weights.as_deref())?;
    let query = model.target().open(&args.image)?;
    let itself = image_hash(&args.image)?;
    let device = device(args.threads, args.precision.into(), args.device)?;
    let device = settled(device, (args.device, args.precision.into()), &model, INFERENCE_BATCH)?;
    let node = model.pooled();
    let mut one = executor(&model, &device, 1, &[0], &[node])?;
    one.forward(&[(&enter(&model, &query)?).into()], 1)?;
    let own = read_floats(&mut *one, 0)?;
    let options = DataOptions {
        validation_split: 0.0,
        threads: args.threads,
        least_side: model.target().least_side(),
        ..DataOptions::default()
    };
    let data = hub::watched(|watch| open_with(&args.data, &options, watch))?;
    interrupt::watch();
    let mut progress = Progress::new(0);
    let (mut features, mut places, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
    let cache = cache::settings(&args.cache);
    let mut whole = Whole::new(&model, &data.name, &device, INFERENCE_BATCH, &cache);
    let mut show = cache::show(&mut progress, "features");
    for (split, subset) in data.parts(Split::All)? {
        let Some(part) = whole.pooled((split, subset), &mut show)? else {
            return Err(Failure::Interrupted("nothing was written".into()));
        };
        let each = part.len() / subset.len().max(1);
        let hashes = subset.image_hashes(&device.compute().threads)?;
        for (i, row) in part.chunks_exact(each.max(1)).enumerate() {
            match hashes[i] == itself {
                true => left_out.push(subset.path(i).into_owned()),
                false => {
                    features.extend_from_slice(row);
                    places.push((subset, i));
                }
            }
        }
    }
    drop(show);
    drop(progress);
    if !left_out.is_empty() {
        note!("left out, because it is the image itself: {}", left_out.join(", "));
    }
    let found = nearest(&own, &features, args.top_k);
    let name = |i: usize| places[i].0.path(places[i].1).into_owned();
    let class = |i: usize| data.classes[places[i].0.label(places[i].1)].as_str();
    if let Some(path) = &args.html {
        let list: Result<Vec<Captioned<'_>>, Error> = found
            .iter()
            .map(|n| {
                let (subset, at) = places[n.image];
                let caption = format!("{} {:.4}", class(n.image), n.similarity);
                Ok(Captioned { image: subset.image(at)?, name: name(n.image), caption })
            })
            .collect();
        let caption = "the image".to_string();
        let own = Captioned {
            image: image::open(&args.image)?,
            name: args.image.display().to_string(),
            caption,
        };
        write_bytes(path, neighbours(&own, &list?)?.as_bytes())?;
        note!("page: {}", path.display());
    }
    let list: Vec<Found<'_>> = found
        .iter()
        .map(|n| Found { image: name(n.image), class: class(n.image), similarity: n.similarity })
        .collect();
    if args.json {
        let image = args.image.display().to_string();
        output::json(
            &serde_json::json!({ "image": image, "left_out": left_out, "similar": list }),
        )?;
    } else {
        for Found { image, class, similarity } in &list {
            output::line(format!("{similarity:7.4}  {class}  {image}"))?;
        }
    }
    Ok(())
}
