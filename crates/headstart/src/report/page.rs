//! Web pages that need no other file: one style, light and dark, and pictures inside.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::plots::Picture;
use crate::data::image::Rgb8;
use crate::data::image::picture::{png, thumbnail};
use crate::error::Result;
use crate::text::is_active;

/// Bytes of an SVG that is taken even where the PNG is smaller.
const LARGE: usize = 100_000;
const STYLE: &str = include_str!("page.css");

/// A page of `body`, which is HTML; `title` and `heading` are text.
pub(crate) fn page(title: &str, heading: &str, body: &str) -> String {
    page_with(title, heading, "", body)
}

/// The same with `meta`, HTML that says something of the page to programs.
pub(crate) fn page_with(title: &str, heading: &str, meta: &str, body: &str) -> String {
    let (title, heading) = (escape(title), escape(heading));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n{meta}\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1 dir=\"auto\">{heading}</h1>\n{body}\
         <footer>headstart {}</footer>\n</main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Text as HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Names from outside can have any byte; HTML has no other control characters.
            c if is_active(c) && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A path as HTML that may be broken after each folder. Folders and files stay in their order where their names
/// are written from right to left.
pub(crate) fn path(text: &str) -> String {
    let part = |part: &str| match part.is_ascii() {
        true => escape(part),
        false => format!("<bdi>{}</bdi>", escape(part)),
    };
    text.split('/').map(part).collect::<Vec<_>>().join("/<wbr>")
}

/// A picture as a tag; `alt` is text.
pub(crate) fn image(png: &[u8], alt: &str) -> String {
    let data = STANDARD.encode(png);
    format!("<img alt=\"{}\" src=\"data:image/png;base64,{data}\">", escape(alt))
}

/// A picture, `inner`, that is shown over the whole page while its box is checked: no script is needed.
pub(crate) fn zoom(inner: &str) -> String {
    format!(
        "<label class=\"zoom\"><input type=\"checkbox\" aria-label=\"show large\">{inner}</label>"
    )
}

/// A chart as a tag that is shown large on demand: the SVG, or the PNG where that is smaller.
pub(crate) fn chart(picture: &Picture, alt: &str) -> String {
    let (kind, bytes) = match picture.svg.len() > picture.png.len().max(LARGE) {
        true => ("png", &picture.png[..]),
        false => ("svg+xml", picture.svg.as_bytes()),
    };
    let data = STANDARD.encode(bytes);
    let alt = escape(alt);
    zoom(&format!("<img class=\"chart\" alt=\"{alt}\" src=\"data:image/{kind};base64,{data}\">"))
}

/// `picture` as a tag, made to fit a square of `side` pixels. Those of at most half of it stay as they
/// are, and the browser magnifies them without blur.
///
/// # Errors
/// If it cannot be resized or encoded.
pub(crate) fn picture(picture: &Rgb8<'_>, side: usize, alt: &str) -> Result<String> {
    if picture.width.max(picture.height) * 2 > side {
        return Ok(image(&png(&thumbnail(picture, side)?)?, alt));
    }
    Ok(image(&png(picture)?, alt).replacen("<img", "<img class=\"px\"", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(escape("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
        assert_eq!(escape("a\u{1b}[0m\u{0}"), "a\u{fffd}[0m\u{fffd}");
        assert_eq!(path("a/<b>"), "a/<wbr>&lt;b&gt;");
        assert_eq!(path("زهرة/b"), "<bdi>زهرة</bdi>/<wbr>b");
        let page = page("a<b", "c<d", "");
        assert!(page.contains("<title>a&lt;b</title>") && page.contains(">c&lt;d</h1>"));
        assert!(image(b"abc", "\"").contains("alt=\"&quot;\" src=\"data:image/png;base64,YWJj\""));
    }

    #[test]
    fn only_small_images_are_enlarged_by_the_browser() {
        let image = |side: usize| Rgb8::new(side, side, vec![7; side * side * 3]).unwrap();
        for (side, small) in [(8, true), (48, true), (49, false), (500, false)] {
            let tag = picture(&image(side), 96, "x").unwrap();
            assert_eq!(tag.starts_with("<img class=\"px\" alt=\"x\""), small, "{side}");
        }
    }
}
