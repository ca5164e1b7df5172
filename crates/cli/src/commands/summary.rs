//! `headstart summary`.

use headstart::Error;
use headstart::config::trained_layers;
use headstart::model::Model;
use headstart::outcome;
use headstart::resnet::{Net, Recipe, Surroundings};
use headstart::source::is_file;
use headstart::summary::Summary as Listing;

use crate::args::Summary;
use crate::failure::Failure;
use crate::output;
use crate::output::note;

/// Lists a net's layers: alone, or with upsampling and head as in the Keras tutorial.
pub fn run(args: &Summary) -> Result<(), Failure> {
    if is_file(&args.model) {
        return of_file(args);
    }
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
    list(args, &net, None)
}

/// Lists the layers of the model in a file, which has its own classes and image size, below what its run shipped; those that
/// the run trained are trainable.
fn of_file(args: &Summary) -> Result<(), Failure> {
    let flags = [
        ("--classes", args.classes.is_some()),
        ("--image-size", args.image_size.is_some()),
        ("--upsample", args.upsample.is_some()),
    ];
    if let Some((flag, _)) = flags.iter().find(|(_, given)| *given) {
        let found = format!("the model file {}, which has this inside", args.model);
        let expected = "the name of a net with this flag";
        let hint = format!("leave {flag} out");
        return Err(Failure::Usage(Error::invalid(*flag, expected, found, hint)));
    }
    let model = Model::open(&args.model)?;
    if !args.json {
        output::line(&model.card)?;
        match outcome::of_model(&args.model) {
            Ok(Some(outcome)) => output::line(&outcome)?,
            Ok(None) => {}
            Err(error) => note!("warning: {error}"),
        }
    }
    list(args, &model.net, trained_layers(&model))
}

/// `trained` are the layers that the model's own run trained.
fn list(args: &Summary, net: &Net, trained: Option<Vec<bool>>) -> Result<(), Failure> {
    let trainable = match (&args.fine_tune_at, trained) {
        (Some(text), _) => net.trainable(net.freeze_point(text).map_err(Failure::Usage)?),
        (None, Some(trained)) => trained,
        (None, None) => vec![true; net.graph.nodes.len()],
    };
    let listing = Listing::new(net, &trainable);
    if args.json {
        output::json(&listing.rows)?;
    } else {
        output::line(&listing)?;
    }
    Ok(())
}
