//! Answers: JSON, and refusals that say what was expected.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use headstart::Error;
use serde::Serialize;

/// An answer that says why there is none.
#[derive(Debug)]
pub struct Refusal {
    /// The status code.
    pub status: StatusCode,
    /// What is wrong.
    pub message: String,
    /// What would correct it.
    pub hint: String,
    /// Seconds after which it may be asked again.
    pub retry: Option<u64>,
}

impl Refusal {
    /// With a message.
    pub fn new(status: StatusCode, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), hint: hint.into(), retry: None }
    }

    /// A request that cannot be meant.
    pub fn bad(message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, message, hint)
    }

    /// There is too much to do now.
    pub fn busy(message: impl Into<String>, seconds: u64) -> Refusal {
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message, "ask again later");
        Refusal { retry: Some(seconds), ..refusal }
    }

    /// With the error's message and hint.
    pub fn of(status: StatusCode, error: &Error) -> Refusal {
        Refusal::new(status, error.to_string(), error.hint().unwrap_or_default())
    }
}

/// The error with its hint, in a line.
pub fn said(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// What a refusal says.
#[derive(Serialize)]
struct Said<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hint: &'a str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let said = Said { error: &self.message, hint: &self.hint };
        let mut response = json_with(self.status, &said);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> Response<Body> {
    json_with(StatusCode::OK, value)
}

fn json_with(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match text(value) {
        Ok(text) => with(status, "application/json", text),
        Err(error) => {
            with(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", error.to_string())
        }
    }
}

/// An answer of that kind of content.
pub fn with(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A value as JSON, in which nothing can be taken for HTML or turn a text around: names come from outside.
///
/// # Errors
/// If the value has no JSON.
pub fn text(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut text = headstart::text::json(&serde_json::to_string(value)?).into_owned();
    // Such characters stand in strings only.
    for (mark, escape) in [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")] {
        if text.contains(mark) {
            text = text.replace(mark, escape);
        }
    }
    Ok(text)
}

/// What every answer says to a browser.
pub fn secure(response: &mut Response<Body>) {
    let headers = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        if !response.headers().contains_key(&name) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use headstart::text::is_active;

    use super::*;

    #[test]
    fn names_stay_what_they_are_and_do_nothing() {
        for name in [
            "<script>alert(\"1\")</script>",
            "a\nb\r",
            "\u{202e}gpj.exe",
            "a\u{2028}&é中",
            "\u{9b}2J",
        ] {
            let json = text(&[name]).unwrap();
            assert!(!json.contains(|c: char| is_active(c) || "<>&\n".contains(c)), "{json}");
            assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [name]);
        }
    }
}
