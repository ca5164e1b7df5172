//! Which parts of a data set are meant.

use super::{Dataset, Subset};
use crate::error::{Error, Result};

/// Which images of a data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// The test images, or all where there are none.
    #[default]
    Auto,
    /// Training images.
    Train,
    /// Validation images.
    Validation,
    /// Test images.
    Test,
    /// All of them.
    All,
}

impl Dataset {
    /// The parts that `split` means, with their names: "train", "validation", "test".
    ///
    /// # Errors
    /// If there are no such images.
    ///
    /// ```
    /// use headstart::Dataset;
    /// use headstart::dataset::Split;
    ///
    /// let data = Dataset::load("sample")?;
    /// let names: Vec<&str> = data.parts(Split::All)?.iter().map(|part| part.0).collect();
    /// assert_eq!(names, ["train", "validation", "test"]);
    /// # Ok::<(), headstart::Error>(())
    /// ```
    pub fn parts(&self, split: Split) -> Result<Vec<(&'static str, &Subset)>> {
        let (validation, test) = (self.validation.as_ref(), self.test.as_ref());
        let none = |name: &str, hint: &str| {
            Error::invalid(format!("{name} images of {}", self.name), "some", "none", hint)
        };
        match split {
            Split::Train if self.train.is_empty() => {
                Err(none("training", "choose others with --split"))
            }
            Split::Train => Ok(vec![("train", &self.train)]),
            Split::Validation => {
                let hint = "hold some out with --validation-split";
                Ok(vec![("validation", validation.ok_or_else(|| none("validation", hint))?)])
            }
            Split::Test => {
                let hint = "split some off with --test-split, or choose others with --split";
                Ok(vec![("test", test.ok_or_else(|| none("test", hint))?)])
            }
            Split::Auto if test.is_some() => self.parts(Split::Test),
            Split::Auto | Split::All => {
                let train = Some(&self.train).filter(|train| !train.is_empty());
                let mut list: Vec<_> = train.map(|s| ("train", s)).into_iter().collect();
                list.extend(validation.map(|s| ("validation", s)));
                list.extend(test.map(|s| ("test", s)));
                Ok(list)
            }
        }
    }
}
