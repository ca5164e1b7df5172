//! A classifier by name: a model file, a run's folder, or the name of a net, with weights that have their head.
//!
//! ```
//! use headstart::Control;
//! use headstart::source::ModelSource;
//!
//! let source = ModelSource::new("resnet20", None)?; // with CIFAR-10's weights, which are inside the library
//! let (model, _loaded) = source.open(&mut |_download| Control::Continue)?;
//! assert_eq!(model.card.classes[0], "airplane");
//! # Ok::<(), headstart::Error>(())
//! ```

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::hub::{Asset, Hub, Watch, sources};
use crate::net::model::Model;
use crate::net::resnet::Recipe;
use crate::net::weights::embedded::{CIFAR10, CIFAR10_MODEL};
use crate::net::weights::{self, LoadReport, Scope};

/// Where a classifier comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSource(Source);

#[derive(Clone, Debug, PartialEq)]
enum Source {
    File(PathBuf),
    Published { model: String, name: String, assets: Vec<Asset> },
    Weights { model: String, name: String },
}

/// What was loaded into a net without a card of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// What was used from it.
    pub report: LoadReport,
}

/// Whether the name of a model means a file: it is one, or a folder, or contains a folder or an extension.
pub fn is_file(model: &str) -> bool {
    let path = Path::new(model);
    let is_no_net = || Recipe::named(model).is_err();
    let is_there =
        path.is_file() || weights::file_of(path) != path || (path.is_dir() && is_no_net());
    is_there || path.components().count() > 1 || path.extension().is_some()
}

impl ModelSource {
    /// The file, or that of the run's folder, or the net of that name with `weights`: published ones, those inside the library, or those of a file. The
    /// default is ImageNet's, or those inside the library.
    ///
    /// # Errors
    /// If weights are given for a model file, there is no such net, or it has no such published weights.
    pub fn new(model: &str, weights: Option<&str>) -> Result<ModelSource> {
        if is_file(model) {
            if weights.is_none() {
                return Ok(ModelSource(Source::File(model.into())));
            }
            return Err(Error::invalid(
                "--weights",
                "the name of a net before it",
                format!("the model file {model}, which has weights"),
                "leave --weights out",
            ));
        }
        Recipe::named(model)?;
        let own = if model == CIFAR10_MODEL { CIFAR10 } else { sources::IMAGENET };
        let (model, name) = (model.to_string(), weights.unwrap_or(own).to_string());
        if !sources::is_variant(&name) {
            return Ok(ModelSource(Source::Weights { model, name }));
        }
        let assets = sources::weights(&model, &name, true)?;
        Ok(ModelSource(Source::Published { model, name, assets }))
    }

    /// The file or run folder that it is, as it was named; none for a net.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Source::File(path) => Some(path),
            Source::Published { .. } | Source::Weights { .. } => None,
        }
    }

    /// Opens it; published weights are downloaded, unless they are on this machine.
    ///
    /// # Errors
    /// If weights cannot be downloaded or read, or are of another net; [`Error::Stopped`].
    pub fn open(&self, watch: &mut Watch<'_>) -> Result<(Model, Option<Loaded>)> {
        let (model, name, file) = match &self.0 {
            Source::File(path) => return Ok((Model::open(path)?, None)),
            Source::Published { model, name, assets } => {
                (model, name, weights::read(Hub::from_env()?.fetch_any(assets, watch)?)?)
            }
            Source::Weights { model, name } => (model, name, weights::open(name)?),
        };
        if let Some(card) = &file.card {
            if card.architecture != *model {
                let expected = format!("weights of {model}");
                let found = format!("weights of {}", card.architecture);
                return Err(Error::invalid(name, expected, found, ""));
            }
            return Ok((Model::from_file(file)?, None));
        }
        let mut model = Model::imagenet(model)?;
        let report = model.load(&file, Scope::All)?;
        Ok((model, Some(Loaded { path: file.path, report })))
    }
}
