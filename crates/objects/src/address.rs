//! URLs of objects, taken apart.

use headstart::hub::objects::url_of;
use headstart::{Error, Result};
use object_store::path::Path;
use url::Url;

/// Who speaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// S3, and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure's Blob Storage.
    Az,
    /// A web server; a listing is WebDAV's.
    Web,
}

/// A URL of an object, or of a folder of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub kind: Kind,
    /// What stands before the names of objects: `s3://bucket`.
    pub root: String,
    /// The name after it, as the server has it, without slashes around it; empty for all.
    pub key: String,
    /// Whether the URL ends with a slash, so that it is that of a folder.
    pub folder: bool,
}

impl Address {
    /// Takes a URL apart. In those of buckets every character of a name stands for itself, as the tools of their makers have it; in
    /// those of web servers `%20` is a space.
    ///
    /// # Errors
    /// If it is none, or has what cannot be used.
    pub fn parse(url: &str) -> Result<Address> {
        let bad = |found: &str, hint: &str| {
            Err(Error::invalid(shown(url), "a URL such as s3://bucket/photos", found, hint))
        };
        let Some((scheme, rest)) = url.split_once("://") else { return bad("another text", "") };
        let kind = match scheme {
            "s3" | "s3a" => Kind::S3,
            "gs" => Kind::Gs,
            "az" | "azure" | "adl" | "abfs" | "abfss" => Kind::Az,
            "http" | "https" => Kind::Web,
            _ => return bad("another scheme", ""),
        };
        let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
        let folder = rest.ends_with('/') || key.is_empty();
        if authority.is_empty() {
            return bad("none of a bucket", "");
        }
        if kind != Kind::Web {
            // Of Azure's, `container@account`.
            let mut names = authority.split('@');
            let is_name = |c: char| c.is_alphanumeric() || "-_.~".contains(c);
            let good = names.all(|name| !name.is_empty() && name.chars().all(is_name));
            if !good || authority.matches('@').count() > usize::from(kind == Kind::Az) {
                let hint = "credentials come from the environment, and signatures are not taken";
                return bad("a bucket with other characters", hint);
            }
            if Path::parse(key).is_err() {
                return bad("a name with an empty part, . or .., or control characters", "");
            }
            let root = format!("{scheme}://{authority}");
            return Ok(Address { kind, root, key: key.trim_matches('/').to_string(), folder });
        }
        let Ok(parsed) = Url::parse(url) else { return bad("one that cannot be understood", "") };
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return bad("one with a question mark or #", "in a name they are %3F and %23");
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return bad("one with a password", "a URL is shown and written into files");
        }
        let Ok(path) = Path::from_url_path(parsed.path()) else {
            return bad("one with an empty part, or . or ..", "");
        };
        let root = parsed[..url::Position::BeforePath].to_string();
        Ok(Address { kind, root, key: path.to_string(), folder })
    }

    /// The URL of the folder or object itself.
    pub fn url(&self) -> String {
        match self.key.is_empty() {
            true => self.root.clone(),
            false => url_of(&self.root, &self.key),
        }
    }

    /// The folder that it is in.
    pub fn parent(&self) -> Address {
        let key = self.key.rsplit_once('/').map_or("", |(above, _)| above).to_string();
        Address { key, folder: true, ..self.clone() }
    }

    /// The path of what has this name below it.
    pub fn path(&self, name: &str) -> Result<Path, object_store::path::Error> {
        match self.key.is_empty() {
            true => Path::parse(name),
            false => Path::parse(format!("{}/{name}", self.key)),
        }
    }
}

/// A URL without what may be a password or a signature.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let web = scheme.starts_with("http");
    let cut = |text: &str| match text.split_once('?') {
        Some((before, _)) => format!("{before}?..."),
        None => text.to_string(),
    };
    let authority = match authority.rsplit_once('@') {
        Some((secret, host)) if web || secret.contains(':') => format!("...@{}", cut(host)),
        _ => cut(authority),
    };
    let path = if web { cut(path) } else { path.to_string() };
    let separator = if scheme.is_empty() { "" } else { "://" };
    url_of("", &format!("{scheme}{separator}{authority}{path}")).trim_start_matches('/').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_every_kind_are_taken_apart() {
        for (url, kind, root, key, folder) in [
            ("s3://b/p/x.jpg", Kind::S3, "s3://b", "p/x.jpg", false),
            ("s3://b", Kind::S3, "s3://b", "", true),
            ("s3a://b/", Kind::S3, "s3a://b", "", true),
            ("s3://b/p/", Kind::S3, "s3://b", "p", true),
            ("s3://b/a b#c?d%41", Kind::S3, "s3://b", "a b#c?d%41", false),
            ("gs://b/p", Kind::Gs, "gs://b", "p", false),
            ("az://c/p", Kind::Az, "az://c", "p", false),
            ("abfss://c@account/p", Kind::Az, "abfss://c@account", "p", false),
            ("https://h:8080/a%20b/x.tar", Kind::Web, "https://h:8080", "a b/x.tar", false),
            ("https://h/a/", Kind::Web, "https://h", "a", true),
        ] {
            let address = Address::parse(url).unwrap();
            let expected = Address { kind, root: root.into(), key: key.into(), folder };
            assert_eq!(address, expected, "{url}");
        }
        for url in [
            "s3:///x",
            "s3://b/../x",
            "gs://b/a//b",
            "https://h/x?sig=1",
            "s3://b?sig=1/x",
            "s3://b#a/x",
            "s3://u:p@b/x",
            "s3://u@b/x",
            "az://u:p@b/x",
            "az://c@a@b/x",
            "https://h/x#a",
            "ftp://h/x",
            "photos",
            "http:///",
        ] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
        let secret = Address::parse("https://me:secret@h/x").unwrap_err().to_string();
        assert!(!secret.contains("secret"), "{secret}");
    }

    #[test]
    fn names_follow_a_base_that_can_be_given_again() {
        let address = Address::parse("https://h/a%20b/x.tar").unwrap();
        assert_eq!(address.parent().url(), "https://h/a%20b");
        assert_eq!(Address::parse(&address.parent().url()).unwrap().key, "a b");
        let bucket = Address::parse("s3://b/x.tar").unwrap();
        assert_eq!((bucket.parent().url(), bucket.url()), ("s3://b".into(), "s3://b/x.tar".into()));
        assert_eq!(bucket.path("y").unwrap().as_ref(), "x.tar/y");
        assert!(bucket.path("../y").is_err());
    }
}
