//! `headstart similar`.

use headstart::Error;
use headstart::atomic::write_bytes;
use headstart::dataset::{DataOptions, image_hash};
use headstart::image;
use headstart::job::open_with;
use headstart::neighbours::{Neighbours, features};
use headstart::report::{Captioned, neighbours};
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
    let local = hub::local(&args.image)?;
    let query = model.target().open(&local)?;
    let itself = image_hash(&local)?;
    let device = device(args.threads, args.precision.into(), args.device)?;
    let device = settled(device, (args.device, args.precision.into()), &model, INFERENCE_BATCH)?;
    let own = features(&model, &query, &device)?;
    let options = DataOptions {
        validation_split: 0.0,
        threads: args.threads,
        least_side: model.target().least_side(),
        ..DataOptions::default()
    };
    let data = hub::watched(|watch| open_with(&args.data, &options, watch))?;
    interrupt::watch();
    let mut progress = Progress::new(0);
    let cache = cache::settings(&args.cache);
    let mut show = cache::show(&mut progress, "features");
    let Some(known) = Neighbours::new(&model, data, &device, &cache, &mut show)? else {
        return Err(Failure::Interrupted("nothing was written".into()));
    };
    drop(show);
    drop(progress);
    let left_out: Vec<String> = known.same(&itself).into_iter().map(|i| known.name(i)).collect();
    if !left_out.is_empty() {
        note!("left out, because it is the image itself: {}", left_out.join(", "));
    }
    let found = known.nearest(&own, args.top_k, Some(&itself));
    if let Some(path) = &args.html {
        let list: Result<Vec<Captioned<'_>>, Error> = found
            .iter()
            .map(|n| {
                let (subset, at) = known.place(n.image)?;
                let caption = format!("{} {:.4}", known.class(n.image), n.similarity);
                Ok(Captioned { image: subset.image(at)?, name: known.name(n.image), caption })
            })
            .collect();
        let caption = "the image".to_string();
        let own = Captioned {
            image: image::open(&local)?,
            name: args.image.display().to_string(),
            caption,
        };
        write_bytes(path, neighbours(&own, &list?)?.as_bytes())?;
        note!("page: {}", path.display());
    }
    let list: Vec<Found<'_>> = found
        .iter()
        .map(|n| {
            let (image, class) = (known.name(n.image), known.class(n.image));
            Found { image, class, similarity: n.similarity }
        })
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
