//! `headstart summary`.

use headstart::resnet::{Net, Recipe, Surroundings};
use headstart::summary::Summary as Listing;

use crate::args::Summary;
use crate::failure::Failure;
use crate::output;

/// Lists a net's layers: alone, or with upsampling and head as in the Keras tutorial.
pub fn run(args: &Summary) -> Result<(), Failure> {
    let recipe = Recipe::named(&args.model).map_err(Failure::Usage)?;
    let classes = args.classes.or(args.fine_tune_at.as_ref().map(|_| 10));
    // The Keras tutorial's images: 32 pixels, upsampled to the net's own size.
    let (size, upsample) = match (args.image_size, args.upsample, &args.fine_tune_at) {
        (None, None, Some(_)) if recipe.image_size % 32 == 0 => (32, recipe.image_size / 32),
        (None, Some(factor), _) => (recipe.image_size.div_ceil(factor), factor),
        (size, factor, _) => (size.unwrap_or(recipe.image_size), factor.unwrap_or(1)),
    };
    let around = Surroundings { height: size, width: size, preprocess: None, upsample, classes };
    let net = Net::new(&recipe, &around).map_err(Failure::Usage)?;
    let trainable = match &args.fine_tune_at {
        Some(text) => net.trainable(net.freeze_point(text).map_err(Failure::Usage)?),
        None => vec![true; net.graph.nodes.len()],
    };
    let listing = Listing::new(&net, &trainable);
    if args.json {
        output::json(&listing.rows)?;
    } else {
        output::line(&listing)?;
    }
    Ok(())
}
