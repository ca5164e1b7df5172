//! What went wrong, in words.

use std::error::Error as _;

use headstart::Error;
use headstart::text::is_active;
use object_store::Error as Failure;

use crate::address::{Address, Kind};

/// Longest reason.
const LONGEST: usize = 500;

/// A failure of `what`: the name of an object, `the list`.
pub fn explain(failure: &Failure, address: &Address, what: &str) -> Error {
    let reason = reason(failure);
    let hint = hint(failure, &reason, address.kind);
    Error::Download { file: what.into(), url: address.url(), reason, hint }
}

/// Why, in a line.
pub fn reason(failure: &Failure) -> String {
    let text = match failure {
        Failure::NotFound { .. } => "it is not there".to_string(),
        Failure::Precondition { .. } => "it has changed since it was listed".to_string(),
        Failure::PermissionDenied { source, .. } => format!("it may not be read: {source}"),
        Failure::Unauthenticated { source, .. } => {
            format!("the credentials are not accepted: {source}")
        }
        other => {
            // The last cause says what the network did.
            let mut last = other.source();
            while let Some(next) = last.and_then(std::error::Error::source) {
                last = Some(next);
            }
            let text = match other {
                Failure::Generic { source, .. } => source.to_string(),
                other => other.to_string(),
            };
            match last.map(ToString::to_string) {
                Some(last) if !text.contains(&last) => format!("{text}: {last}"),
                _ => text,
            }
        }
    };
    plain(&text)
}

/// Text from outside in one short line, without what follows a question mark in URLs: some have a signature there. Of an answer in
/// XML what it says.
fn plain(text: &str) -> String {
    let of = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once("</")?.0)
    };
    let said = of("Code").map(|code| match of("Message") {
        Some(message) => format!("the server says {code}: {message}"),
        None => format!("the server says {code}"),
    });
    let text = said.as_deref().unwrap_or(text);
    let visible = |c: char| if is_active(c) { ' ' } else { c };
    let line: String = text.chars().take(LONGEST).map(visible).collect();
    let words = line.split_whitespace().map(|word| {
        let Some((scheme, rest)) = word.split_once("://") else { return word.to_string() };
        let rest = rest.split('?').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        format!("{scheme}://{}{path}", authority.rsplit('@').next().unwrap_or_default())
    });
    words.collect::<Vec<_>>().join(" ")
}

fn hint(failure: &Failure, reason: &str, kind: Kind) -> String {
    // The status is in the text where a list was refused.
    let text = failure.to_string();
    let status = |code: &str| text.contains(&format!("status code: {code}"));
    let refused =
        matches!(failure, Failure::PermissionDenied { .. } | Failure::Unauthenticated { .. })
            || status("401")
            || status("403");
    let missing = matches!(failure, Failure::NotFound { .. }) || status("404");
    let by = match kind {
        Kind::S3 => {
            "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; a public bucket is read with \
             AWS_SKIP_SIGNATURE=true"
        }
        Kind::Gs => {
            "GOOGLE_APPLICATION_CREDENTIALS; a public bucket is read with GOOGLE_SKIP_SIGNATURE=true"
        }
        Kind::Az => {
            "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN; a public \
             container is read with AZURE_SKIP_SIGNATURE=true"
        }
        Kind::Web => "",
    };
    match kind {
        Kind::Web if refused => "servers that ask for a password are not read".into(),
        _ if refused => format!("credentials are those of {by}"),
        Kind::S3 if reason.contains("edirect") => "set AWS_REGION to the bucket's region".into(),
        Kind::S3 if missing => {
            "check the spelling, AWS_REGION, and AWS_ENDPOINT_URL if it is not Amazon's".into()
        }
        _ if missing => "check the spelling".into(),
        Kind::Web if status("405") || status("501") => {
            "the server lists no files (WebDAV): give the URLs of files, such as a .tar".into()
        }
        Kind::S3 if text.contains("error sending request") => {
            "check the network, and AWS_ENDPOINT_URL if it is not Amazon's; what has arrived is kept".into()
        }
        _ => "what has arrived is kept; the same command goes on from there".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Failure {
        Failure::Generic { store: "S3", source: text.to_string().into() }
    }

    #[test]
    fn reasons_are_one_line_without_signatures() {
        let text = "GET https://h/x?sig=secret&a=b HTTP 503\n\u{1b}[31mslow, is it?";
        assert_eq!(reason(&generic(text)), "GET https://h/x HTTP 503 [31mslow, is it?");
        let text = "status code: 404: <?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code>\
                    <Message>There is\nnone</Message><HostId>1</HostId></Error>";
        assert_eq!(reason(&generic(text)), "the server says NoSuchBucket: There is none");
        assert!(reason(&generic(&"x".repeat(10_000))).len() < 600);
    }

    #[test]
    fn hints_name_the_variables() {
        let denied = Failure::PermissionDenied { path: "x".into(), source: "403".into() };
        for (url, name) in [
            ("s3://b", "AWS_ACCESS_KEY_ID"),
            ("gs://b", "GOOGLE_APPLICATION_CREDENTIALS"),
            ("az://b", "AZURE_STORAGE_ACCOUNT_NAME"),
        ] {
            let error = explain(&denied, &Address::parse(url).unwrap(), "the list");
            assert!(error.hint().unwrap().contains(name), "{error}");
        }
        for (status, name) in [(403, "AWS_ACCESS_KEY_ID"), (404, "AWS_ENDPOINT_URL")] {
            let failure = generic(&format!("Server returned non-2xx status code: {status} : "));
            let error = explain(&failure, &Address::parse("s3://b").unwrap(), "the list");
            assert!(error.hint().unwrap().contains(name), "{error}");
        }
        let moved = generic("Received redirect without LOCATION");
        let error = explain(&moved, &Address::parse("s3://b").unwrap(), "the list");
        assert!(error.hint().unwrap().contains("AWS_REGION"));
    }
}
