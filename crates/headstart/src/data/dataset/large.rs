//! Large JPEGs of data sets whose pixels are all in memory.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::subset::Encoded;
use crate::data::image::Rgb8;
use crate::error::Result;
use crate::memory::Claim;

/// The file of a JPEG that can be decoded smaller, and the pixels of the first size that was asked for.
pub(crate) struct Large {
    pub file: Encoded,
    kept: OnceLock<Kept>,
}

/// A JPEG at a fraction of its size.
struct Kept {
    scale: usize,
    image: Rgb8<'static>,
    _claim: Claim,
}

impl Large {
    pub fn new(file: Encoded) -> Large {
        Large { file, kept: OnceLock::new() }
    }

    /// The image made `scale` times smaller, by `decode` where it is not there already. The memory for images of other sizes
    /// is at most a quarter of what all pixels take; where there is none, they are decoded each time.
    pub fn at(
        &self,
        scale: usize,
        decode: impl FnOnce(&Encoded) -> Result<Rgb8<'static>>,
    ) -> Result<Rgb8<'_>> {
        if let Some(kept) = self.kept.get() {
            return match kept.scale == scale {
                true => Ok(borrowed(&kept.image)),
                false => decode(&self.file),
            };
        }
        let image = decode(&self.file)?;
        let mut claim = Claim::default();
        if claim.grow(image.pixels.len() as u64).is_err() {
            return Ok(image);
        }
        let kept = self.kept.get_or_init(|| Kept { scale, image: image.clone(), _claim: claim });
        Ok(if kept.scale == scale { borrowed(&kept.image) } else { image })
    }
}

fn borrowed<'a>(image: &'a Rgb8<'static>) -> Rgb8<'a> {
    Rgb8 { width: image.width, height: image.height, pixels: Cow::Borrowed(&image.pixels) }
}
