//! Who may ask, and what the server is not started as.

use headstart::cache::CacheSettings;
use headstart::source::ModelSource;
use headstart::{Control, Device};
use headstart_server::{Limits, Named, Options, serve};

use crate::support::{Server, model, options, pixels, request};

#[test]
fn other_names_and_pages_of_other_sites_are_refused_before_anything_is_done() {
    let server = Server::start(Limits::default());
    let body = request(&pixels(1, 1));
    let infer = |headers: &[(&str, &str)]| {
        server.ask("POST", "/v2/models/small/infer", headers, body.as_bytes())
    };
    let port = server.address.port();
    let (own, other) = (format!("localhost:{port}"), format!("http://localhost:{}", port ^ 1));
    infer(&[("Host", &own), ("Origin", &format!("http://{own}"))]).ok();
    infer(&[("Host", "attacker.example")]).says(403, &["Host", "--allow-host"]);
    infer(&[("Host", &own), ("Origin", "http://attacker.example")]).says(403, &["Origin"]);
    infer(&[("Host", &own), ("Origin", &other)]).says(403, &["Origin"]);
    infer(&[("Host", &own), ("Origin", "null")]).says(403, &["Origin"]);
    infer(&[("Host", &own), ("Sec-Fetch-Site", "cross-site")]).says(403, &["Sec-Fetch-Site"]);
    assert!(server.get("/metrics").ok().text().contains("headstart_images_total 1\n"));
}

#[test]
fn every_answer_tells_browsers_what_it_is() {
    let server = Server::start(Limits::default());
    for reply in
        [server.get("/v2"), server.get("/nothing"), server.get("/metrics"), server.infer(b"")]
    {
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert!(reply.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert_eq!(reply.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}

#[test]
fn a_token_is_asked_for_where_there_is_one() {
    let token = "correct-horse-battery";
    let server = Server::with(Options { token: Some(token.into()), ..options(Limits::default()) });
    let reply = server.infer(&pixels(1, 1)).says(401, &["Bearer TOKEN"]);
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    let body = request(&pixels(1, 1));
    let with = |value: &str| {
        server.ask("POST", "/v2/models/small/infer", &[("Authorization", value)], body.as_bytes())
    };
    with("Bearer correct-horse-batterz").is(401);
    with(&format!("Bearer {token}")).ok();
    server.get("/v2/health/ready").ok();
    server.get("/metrics").is(401);
    server.ask("PUT", "/v2/models/small", &[], b"x").is(401);
}

#[test]
fn what_is_not_safe_or_cannot_be_meant_does_not_start() {
    let fails = |options: Options, part: &str| {
        let error =
            serve(options, &mut |_| panic!("it listens"), &mut || Control::Stop).unwrap_err();
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        assert!(text.contains(part), "no {part} in {text}");
    };
    let usual = || options(Limits::default());
    fails(Options { host: "0.0.0.0".into(), ..usual() }, "--token-file");
    fails(Options { host: "::".into(), ..usual() }, "--token-file");
    fails(Options { token: Some("short".into()), ..usual() }, "at least 16");
    fails(Options { token: Some("with a space in between".into()), ..usual() }, "signs of ASCII");
    fails(Options { host: "no such host".into(), ..usual() }, "a name or address");
    let data = Some(("no such/folder".to_string(), CacheSettings::none()));
    fails(Options { data, ..usual() }, "no such/folder");
    fails(Options { threshold: f32::NAN, ..usual() }, "from 0 to 1");
    let named = |name: &str| {
        let source = ModelSource::new("resnet20", None).unwrap();
        Named { name: name.into(), model: model(), source }
    };
    let device = || Device::cpu(1).unwrap();
    fails(Options::new(vec![named("a"), named("a")], device()), "a twice");
    for bad in ["", "a/b", "a b", "..", "ä", "a\"b", "a\nb", &"x".repeat(101)] {
        fails(Options::new(vec![named(bad)], device()), "NAME=MODEL");
    }
    let server = Server::start(Limits::default());
    fails(Options { port: server.address.port(), ..usual() }, "another --port");
}
