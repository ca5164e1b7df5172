//! Flags of how images are split, besides fractions and seed.

use clap::Args;
use headstart::dataset::Grouping;

/// Which images a split keeps in proportion, and which together.
#[derive(Clone, Debug, Default, Args)]
pub struct SplitFlags {
    /// Split by class: every part has the classes in the same proportion (scikit-learn's stratify)
    #[arg(long)]
    pub stratify: bool,
    /// Do not split by class
    #[arg(long, conflicts_with = "stratify")]
    pub no_stratify: bool,
    /// Split by group: images with an equal cell in this column of the table that lists them, images in
    /// one folder below the class folder, or images that look the same (as `data check` finds them) are
    /// never in two parts. Fractions are then of groups; with --stratify, of images
    #[arg(long, value_name = "COLUMN|folder|duplicates")]
    pub group: Option<Grouping>,
}

impl SplitFlags {
    /// Whether to split by class, if that was said.
    pub fn by_class(&self) -> Option<bool> {
        match (self.stratify, self.no_stratify) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }
}
