//! An image and the most similar ones, as a web page.

use super::page::{escape, page, path, picture};
use crate::data::image::Rgb8;
use crate::error::Result;

/// Pixels of a thumbnail's longer side.
const SIDE: usize = 192;

/// An image with its caption.
#[derive(Clone, Debug)]
pub struct Captioned<'a> {
    /// The image.
    pub image: Rgb8<'a>,
    /// Its path.
    pub name: String,
    /// Its class, or what it is.
    pub caption: String,
}

/// A page with `query` and the images most similar to it.
///
/// # Errors
/// If an image cannot be drawn.
pub fn neighbours(query: &Captioned<'_>, found: &[Captioned<'_>]) -> Result<String> {
    let figure = |c: &Captioned<'_>| -> Result<String> {
        let (picture, caption) = (picture(&c.image, SIDE, &c.name)?, escape(&c.caption));
        Ok(format!(
            "<figure>{picture}<figcaption><b dir=\"auto\">{caption}</b><br>{}</figcaption></figure>\n",
            path(&c.name)
        ))
    };
    let mut body = format!(
        "<section><div class=\"grid small\">\n{}</div></section>\n<section><h2>Most similar</h2>\n\
         <p>The number after each class is the cosine similarity of the features: 1 is the same image.</p>\n\
         <div class=\"grid small\">\n",
        figure(query)?
    );
    for c in found {
        body.push_str(&figure(c)?);
    }
    body.push_str("</div></section>\n");
    Ok(page("Similar images", "Similar images", &body))
}
