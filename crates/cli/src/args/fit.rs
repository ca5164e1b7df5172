//! Flags that say what becomes of images of other proportions than the net's, and of large JPEGs.

use clap::Args;
use headstart::Error;
use headstart::config::TrainConfig;
use headstart::image::{Decode, Fit, FitName};
use headstart::weights::model_file::ModelCard;

use super::choices::{Decoded, Fitted};

/// What becomes of images of other proportions, and of large JPEGs.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct FitFlags {
    /// What becomes of images that are not square [default: stretch]
    #[arg(long, value_enum)]
    pub fit: Option<Fitted>,
    /// Part of the shorter side that --fit crop keeps [default: 0.875, 224 of 256 pixels]
    #[arg(long, value_name = "PART")]
    pub crop_share: Option<f64>,
    /// How JPEGs are decoded [default: reduced]
    #[arg(long, value_enum)]
    pub decode: Option<Decoded>,
}

impl FitFlags {
    /// Whether one is given.
    pub fn given(&self) -> bool {
        self.fit.is_some() || self.crop_share.is_some() || self.decode.is_some()
    }

    /// Puts those that are given over the settings.
    pub fn over(&self, config: &mut TrainConfig) {
        if let Some(fit) = self.fit {
            // The share is of the earlier choice.
            (config.fit, config.crop_share) = (Some(fit.into()), None);
        }
        config.crop_share = self.crop_share.or(config.crop_share);
        config.decode = self.decode.map_or(config.decode, Decode::from);
    }

    /// Puts those that are given over those of a model.
    pub fn over_card(&self, card: &mut ModelCard) -> Result<(), Error> {
        card.fit = self.over_model(card.fit);
        card.decode = self.decode.map_or(card.decode, Decode::from);
        card.fit.check(card.height, card.width)
    }

    fn over_model(&self, fit: Fit) -> Fit {
        let (name, share) = fit.parts();
        let mut config = TrainConfig { fit: name, crop_share: share, ..TrainConfig::default() };
        self.over(&mut config);
        match config.fit {
            // A share by itself means a crop, so that it is never ignored.
            None if self.crop_share.is_some() => FitName::Crop.with(self.crop_share),
            _ => config.fit(),
        }
    }
}
