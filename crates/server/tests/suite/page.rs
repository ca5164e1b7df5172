//! The page, and what it asks.

use headstart::image::decode;
use headstart_server::{Limits, Options};

use crate::support::{Server, options, pixels, png};

/// Addresses in a text that are not this server's own.
fn foreign(text: &str) -> Vec<&str> {
    let known = ["http://www.w3.org/2000/svg"];
    let found = text
        .split(['"', '\'', '(', ' ', '`'])
        .filter(|word| word.contains("://") || word.starts_with("//"));
    found.filter(|word| !known.contains(word) && *word != "//").collect()
}

#[test]
fn the_page_is_whole_and_uses_nothing_from_outside() {
    let server = Server::with(Options {
        token: Some("correct-horse-battery".into()),
        ..options(Limits::default())
    });
    let index = server.get("/").ok();
    let policy = index.header("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    let (mut pages, mut seen) = (vec![index], 0);
    while let Some(page) = pages.pop() {
        let text = page.text();
        assert_eq!(foreign(&text), Vec::<&str>::new());
        assert!(!text.contains(" style=") && !text.contains(" onclick"), "the policy forbids it");
        for word in text.split(['"', '\'']).filter(|word| word.starts_with("/page/")) {
            let file = server.get(word).ok();
            let kind = match word.rsplit_once('.').unwrap().1 {
                "js" => "text/javascript; charset=utf-8",
                "css" => "text/css; charset=utf-8",
                "svg" => "image/svg+xml",
                other => panic!("{other}"),
            };
            assert_eq!(file.header("content-type"), Some(kind), "{word}");
            seen += 1;
            if text.contains("<html") {
                pages.push(file);
            }
        }
    }
    assert!(seen >= 4, "{seen}");
    server.get("/page/nothing.js").is(404);
    server.get("/page/..%2fCargo.toml").is(404);
    server.get("/state").is(401);
}

#[test]
fn the_page_is_told_what_is_served() {
    let server = Server::start(Limits::default());
    let state = server.get("/state").ok().json();
    assert_eq!(state["models"][0]["name"], "small");
    assert_eq!(state["models"][0]["classes"][0], "airplane");
    assert_eq!(state["threshold"], 0.0);
}

#[test]
fn where_a_class_is_seen_is_drawn_over_the_image() {
    let server = Server::start(Limits::default());
    let kind = [("Content-Type", "image/png")];
    let file = png(48, 32, 3);
    let ask = |path: &str| {
        let reply = server.ask("POST", path, &kind, &file).ok();
        assert_eq!(reply.header("content-type"), Some("image/png"));
        let image = decode("answer", &reply.body).unwrap();
        assert_eq!((image.width, image.height), (640, 427));
        image.pixels.into_owned()
    };
    let (one, other) = (ask("/explain?class=1"), ask("/explain?class=2"));
    assert_ne!(one, other);
    assert_eq!(ask("/explain?class=1&model=small"), one);
    // Between the lines the image stays as it is.
    let plain = pixels(2, 3)[..3].to_vec();
    assert!(one.chunks(3).filter(|pixel| *pixel == plain).count() > 50);
    server.ask("POST", "/explain?class=10", &kind, &file).says(400, &["below 10"]);
    server.ask("POST", "/explain?klass=1", &kind, &file).says(400, &["model and class"]);
    server.ask("POST", "/explain", &kind, b"no image").says(422, &["an image that is read"]);
    let server = Server::start(Limits { pixels: 1000, ..Limits::default() });
    server.ask("POST", "/explain", &kind, &file).says(422, &["1,000 pixels"]);
}
