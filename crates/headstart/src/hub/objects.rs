//! Files in a bucket or on a web server: `s3://bucket/photos`, `gs://`, `az://` and `https://`.
//!
//! This library speaks to no bucket itself. A program gives it what does, an implementation of [`Objects`], once at its start;
//! that of the command line is the crate `headstart-objects`, built with `--features objects`. From then on URLs are data sets:
//! [`mirror`] keeps a copy of what is below one in the cache, and [`Blocks`] fetches images a few at a time.
//!
//! ```
//! use headstart::hub::objects::{is_url, mirror};
//! use headstart::Control;
//!
//! assert!(is_url("s3://bucket/photos") && !is_url("photos"));
//! // Nothing speaks to buckets here.
//! let error = mirror("s3://bucket/photos", &mut |_| Control::Continue).unwrap_err();
//! assert!(error.hint().unwrap().contains("--features objects"));
//! ```

mod blocks;
mod mirror;
mod names;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::SystemTime;

use super::Watch;
use crate::error::{Error, Result};
use crate::text::visible;

pub use blocks::{Block, Blocks};
pub use mirror::mirror;

/// What URLs of files begin with.
const SCHEMES: [&str; 10] =
    ["s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https"];

/// Larger objects than this many bytes are fetched in ranges of so many, and have their tag in a [`Listing`].
pub const RANGE: u64 = 16 << 20;

/// A file in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name, relative to [`Listing::base`]: `roses/1.jpg`.
    pub name: Box<str>,
    /// Its size.
    pub bytes: u64,
    /// When it was written.
    pub modified: SystemTime,
    /// The server's name for this version of it (ETag), of objects of more than [`RANGE`] bytes.
    pub tag: Option<Box<str>>,
}

/// Objects that are not used, because of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// The first, and why.
    pub first: String,
}

impl LeftOut {
    /// Adds an object.
    pub fn add(&mut self, name: &str, reason: &str) {
        if self.count == 0 {
            self.first = format!("{}: {reason}", visible(name));
        }
        self.count += 1;
    }
}

/// What is below a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The URL that the names of the objects follow, without a slash at its end.
    pub base: String,
    /// Whether the URL is that of one object, the only one here.
    pub single: bool,
    /// The objects, in the order of their names, each name once.
    pub objects: Vec<Object>,
    /// Objects whose names cannot be those of files.
    pub left_out: LeftOut,
}

/// The URL of the object of this name below `base`, as it is shown and as it can be given.
pub fn url_of(base: &str, name: &str) -> String {
    let web = base.starts_with("http://") || base.starts_with("https://");
    let mut url = format!("{base}/");
    for c in name.chars() {
        let plain = c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/".contains(c);
        if web && !plain {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|b| url.push_str(&format!("%{b:02X}")));
        } else {
            url.push(c);
        }
    }
    visible(&url).into_owned()
}

/// An object to fetch.
#[derive(Clone, Debug)]
pub struct Wanted<'o> {
    /// The object.
    pub object: &'o Object,
    /// The file that it becomes, once it is complete and has the time of the object. Its folder is there.
    pub path: PathBuf,
    /// Where its bytes are until then. If the object has a tag, what a file of this name holds are its first bytes.
    pub part: PathBuf,
}

/// An object that could not be fetched, while others could: it is gone, it has changed since it was listed, or this caller may
/// not read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its place among those that were wanted.
    pub index: usize,
    /// Why.
    pub reason: String,
    /// Whether there is nothing of that name: it was removed, or its name begins or ends with a slash, which requests leave out.
    pub gone: bool,
}

/// What lists and fetches objects.
pub trait Objects: Send + Sync {
    /// Lists what is below `url`, or the object that it is the URL of, and asks `watch` whether to go on.
    ///
    /// # Errors
    /// If there is nothing, or it cannot be listed; [`Error::Stopped`].
    fn list(&self, url: &str, watch: &mut Watch<'_>) -> Result<Listing>;

    /// The server or account that `url` is at, where its name does not say so; empty for that of the makers.
    ///
    /// # Errors
    /// If it is no such URL.
    fn server(&self, url: &str) -> Result<String>;

    /// Fetches objects below `base` into files, each completely or not at all, and returns those that cannot be had.
    ///
    /// # Errors
    /// If the server cannot be reached or the files not be written; [`Error::Stopped`].
    fn fetch(&self, base: &str, wanted: &[Wanted<'_>], watch: &mut Watch<'_>) -> Result<Vec<Lost>>;
}

static OBJECTS: OnceLock<Box<dyn Objects>> = OnceLock::new();

/// From now on URLs are opened with `objects`. Returns false if others were registered before, which stay.
pub fn register(objects: Box<dyn Objects>) -> bool {
    OBJECTS.set(objects).is_ok()
}

/// Whether a text is the URL of objects, and not the path of a file.
pub fn is_url(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(scheme, rest)| SCHEMES.contains(&scheme) && !rest.is_empty())
}

/// What is below a URL, by what is registered.
///
/// # Errors
/// As [`Objects::list`]; if nothing is registered.
pub fn list(url: &str, watch: &mut Watch<'_>) -> Result<Listing> {
    registered(url)?.list(url, watch)
}

fn registered(url: &str) -> Result<&'static dyn Objects> {
    match OBJECTS.get() {
        Some(objects) => Ok(&**objects),
        None => {
            let hint = "install it with them: cargo install --path crates/cli --features objects";
            Err(Error::invalid(
                visible(url),
                "a file or folder",
                "a URL, and this headstart is built without inputs from buckets and servers",
                hint,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        for url in
            ["s3://b", "gs://b/x", "az://c@a/x", "abfss://c@a/x", "https://h/x.tar", "http://h"]
        {
            assert!(is_url(url), "{url}");
        }
        for path in
            ["photos", "synthetic:2x10x32", "s3://", "s3:/b", "ftp://h/x", "C:\\x", "a/s3://b", ""]
        {
            assert!(!is_url(path), "{path}");
        }
    }

    #[test]
    fn urls_of_objects_are_those_that_can_be_given() {
        assert_eq!(url_of("s3://b/p", "a b#%41.jpg"), "s3://b/p/a b#%41.jpg");
        assert_eq!(
            url_of("https://h/p%20q", "a b#é/1.jpg"),
            "https://h/p%20q/a%20b%23%C3%A9/1.jpg"
        );
        assert_eq!(url_of("s3://b", "a\u{202e}b"), "s3://b/a\\u{202e}b");
    }

    #[test]
    fn what_is_left_out_is_counted_and_the_first_is_named() {
        let mut left_out = LeftOut::default();
        left_out.add("../a\nb", "no name of a file");
        left_out.add("..", "no name of a file");
        assert_eq!(
            (left_out.count, left_out.first.as_str()),
            (2, "../a\\u{a}b: no name of a file")
        );
    }
}
