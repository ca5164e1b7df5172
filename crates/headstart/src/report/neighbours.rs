//! An image and those most like it, as a web page.

use super::page::{escape, image, page};
use crate::error::Result;
use crate::gradcam::{png, thumbnail};
use crate::image::Rgb8;

/// Pixels of a thumbnail's longer side.
const SIDE: usize = 192;

/// An image with what stands below it.
#[derive(Clone, Debug)]
pub struct Captioned<'a> {
    /// The image.
    pub image: Rgb8<'a>,
    /// Its path.
    pub name: String,
    /// Its class, or what it is.
    pub caption: String,
}

/// A page with `query` and the images most like it.
///
/// # Errors
/// If an image cannot be drawn.
pub fn neighbours(query: &Captioned<'_>, found: &[Captioned<'_>]) -> Result<String> {
    let figure = |c: &Captioned<'_>| -> Result<String> {
        let picture = image(&png(&thumbnail(&c.image, SIDE)?)?, &c.name);
        let (name, caption) = (escape(&c.name), escape(&c.caption));
        Ok(format!(
            "<figure>{picture}<figcaption>{caption}<br><span class=\"soft\">{name}</span></figcaption></figure>\n"
        ))
    };
    let mut body = format!("<div class=\"grid small\">\n{}</div>\n", figure(query)?);
    body.push_str("<h2>Most like it</h2>\n<div class=\"grid small\">\n");
    for c in found {
        body.push_str(&figure(c)?);
    }
    body.push_str("</div>\n");
    Ok(page("Similar images", &body))
}
