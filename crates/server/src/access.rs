//! Who may ask: programs on this machine that name it, pages of its own, and who has the token.
//!
//! A page of another site can make a browser send requests here, and a name of its own can be made to lead here (DNS
//! rebinding). Both say so: by `Origin` or `Sec-Fetch-Site`, and by `Host`.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};

use crate::answer::Refusal;

/// What is checked of a request before anything else.
#[derive(Debug)]
pub struct Access {
    /// Names by which the server may be called, besides localhost.
    pub hosts: Vec<String>,
    /// Whether it listens to this machine alone.
    pub loopback: bool,
    /// What requests must have as their bearer token.
    pub token: Option<String>,
}

impl Access {
    /// Fails unless the request may be answered.
    ///
    /// # Errors
    /// In these cases.
    pub fn check(&self, request: &Parts) -> Result<(), Refusal> {
        let host = host(request)?;
        if !self.knows(&host) {
            let message = "Host: expected a name of this server, found another";
            return Err(forbidden(message, "name it with --allow-host"));
        }
        same_origin(request, &host)?;
        let path = request.uri.path();
        // The page has nothing in it that is not in every copy of the program.
        let open = matches!(path, "/" | "/watch" | "/look" | "/begin")
            || path.starts_with("/page/")
            || path.starts_with("/v2/health/");
        match &self.token {
            Some(token) if !open && !has_token(&request.headers, token) => {
                let message = "Authorization: expected the server's token, found none or another";
                let hint = "send the header Authorization: Bearer TOKEN";
                Err(Refusal::new(StatusCode::UNAUTHORIZED, message, hint))
            }
            _ => Ok(()),
        }
    }

    /// Whether `host`, with or without a port, is this server.
    fn knows(&self, host: &str) -> bool {
        let name = name_of(host);
        if let Ok(address) = name.parse::<IpAddr>() {
            // No name leads to an address by way of somebody's name server.
            return address.is_loopback() || !self.loopback;
        }
        name == "localhost" || self.hosts.iter().any(|known| name_of(known) == name)
    }
}

fn forbidden(message: &str, hint: &str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, message, hint)
}

/// The name or address of `host` without its port, in lower case.
fn name_of(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None if host.matches(':').count() > 1 => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.trim_end_matches('.').to_lowercase()
}

/// What the request calls this server: one `Host`, which an address in the request line must not contradict.
fn host(request: &Parts) -> Result<String, Refusal> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let host = first.and_then(|host| host.to_str().ok());
    let same = |host: &str| {
        let authority = request.uri.authority();
        authority.is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host))
    };
    match host {
        Some(host) if second.is_none() && same(host) => Ok(host.to_string()),
        _ => Err(Refusal::bad("Host: expected one name of this server", "")),
    }
}

/// Fails for what a browser sends for a page of another site.
fn same_origin(request: &Parts, host: &str) -> Result<(), Refusal> {
    let get =
        |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let own = |origin: &str| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    };
    if request.headers.get_all(header::ORIGIN).iter().count() > 1
        || get("origin").is_some_and(|origin| !own(origin))
    {
        return Err(forbidden("Origin: expected a page of this server, found another", ""));
    }
    let opened = request.method == Method::GET && get("sec-fetch-mode") == Some("navigate");
    if matches!(get("sec-fetch-site"), Some("cross-site" | "same-site")) && !opened {
        let message =
            "Sec-Fetch-Site: expected a request of a page of this server, found another's";
        return Err(forbidden(message, ""));
    }
    Ok(())
}

/// Whether the headers have this bearer token; takes as long for any other of its length.
fn has_token(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let Some((scheme, given)) = given.split_at_checked(b"Bearer ".len()) else { return false };
    if !scheme.eq_ignore_ascii_case(b"Bearer ") || given.len() != token.len() {
        return false;
    }
    let other = given.iter().zip(token.as_bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(other) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn asked(access: &Access, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        access.check(&parts).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    fn local() -> Access {
        Access { hosts: vec!["photos.example".into()], loopback: true, token: None }
    }

    #[test]
    fn only_names_of_this_machine_lead_here() {
        let access = local();
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:8000",
            "127.1.2.3",
            "[::1]:80",
            "localhost.",
            "Photos.example:1",
        ] {
            assert_eq!(asked(&access, "/v2", &[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io:8000",
            "192.168.0.7",
            "[2001:db8::1]",
            "0.0.0.0",
        ] {
            assert_eq!(asked(&access, "/v2", &[("host", host)]), 403, "{host}");
        }
        assert_eq!(asked(&access, "/v2", &[]), 400);
        assert_eq!(asked(&access, "/v2", &[("host", "localhost"), ("host", "evil.example")]), 400);
        assert_eq!(asked(&access, "http://evil.example/v2", &[("host", "localhost")]), 400);
        assert_eq!(asked(&access, "http://localhost/v2", &[("host", "localhost")]), 200);
        let open = Access { loopback: false, ..local() };
        assert_eq!(asked(&open, "/v2", &[("host", "192.168.0.7:8000")]), 200);
        assert_eq!(asked(&open, "/v2", &[("host", "evil.example")]), 403);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let access = local();
        let with =
            |name, value| asked(&access, "/v2", &[("host", "localhost:8000"), (name, value)]);
        assert_eq!(with("origin", "http://localhost:8000"), 200);
        assert_eq!(with("origin", "https://localhost:8000"), 200);
        for origin in [
            "null",
            "http://localhost",
            "http://localhost:3000",
            "https://evil.example",
            "file://",
            "",
        ] {
            assert_eq!(with("origin", origin), 403, "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "same-origin"), 200);
        assert_eq!(with("sec-fetch-site", "none"), 200);
        assert_eq!(with("sec-fetch-site", "cross-site"), 403);
        assert_eq!(with("sec-fetch-site", "same-site"), 403);
        let link = [
            ("host", "localhost"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert_eq!(asked(&access, "/", &link), 200);
    }

    #[test]
    fn the_token_is_asked_for_everywhere_but_for_health() {
        let access = Access { token: Some("0123456789abcdef".into()), ..local() };
        let with =
            |value| asked(&access, "/v2", &[("host", "localhost"), ("authorization", value)]);
        assert_eq!(with("Bearer 0123456789abcdef"), 200);
        assert_eq!(with("bearer 0123456789abcdef"), 200);
        for bad in [
            "",
            "Bearer",
            "Bearer 0123456789abcdee",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
            "é",
        ] {
            assert_eq!(with(bad), 401, "{bad}");
        }
        assert_eq!(asked(&access, "/v2/health/ready", &[("host", "localhost")]), 200);
        assert_eq!(asked(&access, "/v2/health/ready", &[("host", "evil.example")]), 403);
        for path in [
            "/metrics",
            "/state",
            "/look/state",
            "/runs",
            "/runs/a/report.html",
            "/compare",
            "/pages",
            "/v2/healthy",
        ] {
            assert_eq!(asked(&access, path, &[("host", "localhost")]), 401, "{path}");
        }
        for path in ["/", "/watch", "/look", "/page/try.js"] {
            assert_eq!(asked(&access, path, &[("host", "localhost")]), 200, "{path}");
        }
    }
}
