//! What a weight file contains, and which nets it fits.

use std::path::Path;

use serde::Serialize;

use super::apply::{Match, only_dense};
use super::{Format, Listed, Scope, WeightFile, read};
use crate::error::Result;
use crate::net::resnet::{Net, Recipe, Surroundings};
use crate::range;

/// A net that a file's weights fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// Its name.
    pub net: String,
    /// Whether the file has its head, too.
    pub head: bool,
    /// The head's classes.
    pub classes: Option<usize>,
    /// Why the net has no answers with these numbers, in the words in which loading them is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Of several copies of the net, or several nets, the one that is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<String>,
}

/// Contents of a weight file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// Its kind.
    pub format: Format,
    /// Its tensors as it lists them.
    pub tensors: Vec<Listed>,
    /// Numbers in all tensors.
    pub parameters: usize,
    /// Nets whose every layer it fits, name by name and shape by shape.
    pub fits: Vec<Fit>,
    /// For a headstart model file, the net it is of and its class names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// See `architecture`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_names: Option<Vec<String>>,
}

/// Inspects a weight file.
///
/// # Errors
/// If it cannot be read, or is damaged.
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection> {
    let file = read(path)?;
    let mut fits = Vec::new();
    for name in Recipe::names() {
        fits.extend(fit(&file, &Recipe::named(name)?)?);
    }
    Ok(Inspection {
        format: file.format,
        parameters: file.listing.iter().map(|t| t.shape.iter().product::<usize>()).sum(),
        fits,
        architecture: file.card.as_ref().map(|c| c.architecture.clone()),
        class_names: file.card.map(|c| c.classes),
        tensors: file.listing,
    })
}

/// Whether a file has all of a net's layers, perhaps without its head. Where nets do not differ in layers with
/// weights, the model file's own card decides.
fn fit(file: &WeightFile, recipe: &Recipe) -> Result<Option<Fit>> {
    if file.card.as_ref().is_some_and(|c| c.architecture != recipe.name) {
        return Ok(None);
    }
    let net = |classes: Option<usize>| {
        let (height, width) = (recipe.image_size, recipe.image_size);
        Net::new(recipe, &Surroundings { height, width, preprocess: None, upsample: 1, classes })
    };
    let base = net(None)?;
    let Ok((file, found)) = Match::of_one(file, &base, Scope::Base) else { return Ok(None) };
    let refused = found.check(file, &base);
    let [_, dense] = recipe.naming.head();
    let names = [Some(dense), only_dense(file)].into_iter().flatten();
    let mut kernels = names.filter_map(|layer| {
        let name = format!("{layer}/kernel");
        file.tensors.iter().find(|t| t.name == name && t.shape.len() == 2)
    });
    let classes = kernels.next().map(|t| t.shape[1]).filter(|&c| range::CLASSES.contains(c as u64));
    let (mut head, mut refused) = (false, refused.err());
    if classes.is_some() {
        let whole = net(classes)?;
        if let Ok(found) = Match::new(file, &whole, Scope::All) {
            head = true;
            refused = refused.or(found.check(file, &whole).err());
        }
    }
    let classes = classes.filter(|_| head);
    let refused = refused.map(|error| error.to_string());
    let copy = file.copy.clone();
    Ok(Some(Fit { net: recipe.name.clone(), head, classes, refused, copy }))
}
