//! Large JPEGs of data sets whose pixels are in memory.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::encoded::Encoded;
use crate::data::image::Rgb8;
use crate::error::Result;
use crate::memory::Claim;

/// The file of a JPEG that can be decoded smaller, and the pixels of sizes that are in memory.
pub(crate) struct Large {
    file: Encoded,
    /// As it was opened; none where all its pixels are with those of other images.
    opened: Option<Kept>,
    /// Of a smaller size, the first that was asked for.
    kept: OnceLock<Kept>,
}

/// A JPEG made `scale` times smaller.
struct Kept {
    scale: usize,
    image: Rgb8<'static>,
    _claim: Claim,
}

impl Large {
    /// A file, and the image that it holds made smaller; the caller counts the memory of that.
    pub fn new(file: Encoded, opened: Option<(usize, Rgb8<'static>)>) -> Large {
        let claim = Claim::default();
        let opened = opened.map(|(scale, image)| Kept { scale, image, _claim: claim });
        Large { file, opened, kept: OnceLock::new() }
    }

    /// The image as it was opened, where that is not all pixels.
    pub fn opened(&self) -> Option<Rgb8<'_>> {
        self.opened.as_ref().map(|kept| borrowed(&kept.image))
    }

    /// The image made `scale` times smaller, by `decode` where it is not there already. Kept is only what takes at most a
    /// quarter of the memory of what was opened, and what there is memory for.
    pub fn at(
        &self,
        scale: usize,
        decode: impl FnOnce(&Encoded) -> Result<Rgb8<'static>>,
    ) -> Result<Rgb8<'_>> {
        let mut known = self.opened.iter().chain(self.kept.get());
        if let Some(kept) = known.find(|kept| kept.scale == scale) {
            return Ok(borrowed(&kept.image));
        }
        let image = decode(&self.file)?;
        let smaller = scale > self.opened.as_ref().map_or(1, |opened| opened.scale);
        let mut claim = Claim::default();
        if !smaller || self.kept.get().is_some() || claim.grow(image.pixels.len() as u64).is_err() {
            return Ok(image);
        }
        let kept = self.kept.get_or_init(|| Kept { scale, image: image.clone(), _claim: claim });
        Ok(if kept.scale == scale { borrowed(&kept.image) } else { image })
    }
}

fn borrowed<'a>(image: &'a Rgb8<'static>) -> Rgb8<'a> {
    Rgb8 { width: image.width, height: image.height, pixels: Cow::Borrowed(&image.pixels) }
}
