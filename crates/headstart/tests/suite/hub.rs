//! Downloads from a server on loopback that does everything servers do.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use headstart::Error;
use headstart::hub::Event;
use headstart::inference::Control;

use crate::support::place::{self, place};
use crate::support::server::{self, Server, head, send, serve, serve_part};

fn ranges(server: &Server) -> Vec<Option<usize>> {
    server.requests().iter().map(|r| r.range).collect()
}

#[test]
fn a_file_is_downloaded_once() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    let server = place.serve(serve);
    let (mut seen, mut arrived) = (Vec::new(), None);
    let path = place.hub.fetch(&place.asset, &mut |event| {
        assert!(arrived.is_none(), "{event:?} after the file arrived");
        match event {
            Event::Downloading { done, total, url, .. } => {
                seen.push((*done, *total));
                assert!(url.ends_with("/net.bin"));
            }
            Event::Arrived { path } => arrived = Some(path.to_path_buf()),
            _ => {}
        }
        Control::Continue
    });
    let path = path.unwrap();
    assert!(fs::read(&path).unwrap() == place.file);
    assert_eq!(arrived, Some(path));
    assert_eq!(seen.last(), Some(&(300_007, Some(300_007))));
    assert!(seen.is_sorted());
    place.arrives();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.requests()[0].path, "/net.bin");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    let server = place.serve(|request, out, file| match request.number {
        0 => serve_part(request, out, file, 100_000),
        1 => serve_part(request, out, file, 50_000),
        _ => serve(request, out, file),
    });
    place.arrives();
    assert_eq!(ranges(&server), [None, Some(100_000), Some(150_000)]);

    // In another run as well.
    fs::remove_file(place.hub.path(&place.asset)).unwrap();
    place.put_part(&place.file[..200_000]);
    place.arrives();
    assert_eq!(server.requests().last().unwrap().range, Some(200_000));

    // A part that is whole needs no server.
    fs::rename(place.hub.path(&place.asset), place.part()).unwrap();
    place.arrives();
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn after_so_many_tries_the_part_is_kept_and_the_message_says_how_much() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    let server = place.serve(|request, out, file| serve_part(request, out, file, 10));
    let error = place.fails("30 bytes have arrived and are saved", &["net.bin.part"]);
    let hint = error.hint().unwrap();
    assert!(hint.contains(&place.asset.digest.hex), "{hint}");
    assert!(hint.contains(&*place.hub.path(&place.asset).to_string_lossy()), "{hint}");
    assert_eq!(ranges(&server), [None, Some(10), Some(20)]);
    assert!(fs::read(place.part()).unwrap() == place.file[..30]);
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    let server = place.serve(|request, out, file| match request.number {
        0 => serve_part(request, out, file, 100_000),
        _ => send(out, "200 OK", &[], file),
    });
    place.arrives();
    assert_eq!(ranges(&server), [None, Some(100_000)]);

    // One that sends other bytes than it was asked for is not asked for a range again.
    let mut place = place::place();
    let server = place.serve(|request, out, file| match (request.number, request.range) {
        (0, _) => serve_part(request, out, file, 100_000),
        (_, Some(_)) => {
            let range = format!("Content-Range: bytes 0-{}/{}", file.len() - 1, file.len());
            send(out, "206 Partial Content", &[range], file);
        }
        (_, None) => send(out, "200 OK", &[], file),
    });
    place.arrives();
    assert_eq!(ranges(&server), [None, Some(100_000), None]);
}

#[test]
fn first_bytes_of_another_file_are_thrown_away() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    let server = place.serve(serve);
    place.put_part(&[7; 1000]);
    place.arrives();
    assert_eq!(ranges(&server), [Some(1000), None]);

    // Longer than the file: the server has no such range.
    let mut place = place::place();
    let server = place.serve(serve);
    place.put_part(&vec![7; 400_000]);
    place.arrives();
    assert_eq!(ranges(&server), [Some(400_000), None]);

    // The server says that it has another version now.
    let mut place = place::place();
    let server = place.serve(|request, out, file| {
        let tag = format!("ETag: \"{}\"", request.number.min(1));
        if request.number == 0 {
            head(out, "200 OK", &[tag, "Content-Length: 300007".into()]);
            let _ = out.write_all(&[7; 5000]);
        } else {
            send(out, "200 OK", &[tag], file);
        }
    });
    place.arrives();
    assert_eq!(server.requests()[1].if_range.as_deref(), Some("\"0\""));
}

#[test]
fn lengths_that_are_lies() {
    if !server::loopback() {
        return;
    }
    // More is promised than there is.
    let mut place = place();
    place.serve(|request, out, file| match request.range {
        None => {
            head(out, "200 OK", &[format!("Content-Length: {}", file.len() + 100)]);
            let _ = out.write_all(file);
        }
        Some(_) => serve(request, out, file),
    });
    place.arrives();

    // Promised again and again.
    let mut place = place::place();
    place.serve(|request, out, file| {
        let start = request.range.unwrap_or(0);
        head(out, "200 OK", &[format!("Content-Length: {}", file.len() + 100)]);
        let _ = out.write_all(file);
        assert!(start <= file.len());
    });
    place.arrives();

    // Less: what is there is not the file.
    let mut place = place::place();
    place.serve(|_, out, file| {
        head(out, "200 OK", &["Content-Length: 1000".into()]);
        let _ = out.write_all(file);
    });
    place.fails("(1000 bytes); the file was deleted", &[]);

    // None: the end is where the connection closes.
    let mut place = place::place();
    place.serve(|_, out, file| {
        head(out, "200 OK", &[]);
        let _ = out.write_all(file);
    });
    place.arrives();

    // Far more than there should be, announced or not.
    let mut place = place::place();
    place.serve(|_, out, _| head(out, "200 OK", &["Content-Length: 99999999999".into()]));
    place.fails("expected about 300000 bytes, found 99999999999 bytes", &[]);
    let mut place = place::place();
    place.serve(|_, out, file| {
        head(out, "200 OK", &[]);
        while out.write_all(file).is_ok() {}
    });
    place.fails("expected about 300000 bytes, found no end", &["net.bin.part"]);
}

#[test]
fn chunks() {
    if !server::loopback() {
        return;
    }
    fn chunked(out: &mut dyn Write, file: &[u8], end: bool) {
        head(out, "200 OK", &["Transfer-Encoding: chunked".into()]);
        for chunk in file.chunks(70_001) {
            let _ = write!(out, "{:x}\r\n", chunk.len());
            let _ = out.write_all(chunk);
            let _ = write!(out, "\r\n");
        }
        if end {
            let _ = write!(out, "0\r\n\r\n");
        }
    }
    let mut place = place();
    place.serve(|_, out, file| chunked(out, file, true));
    place.arrives();
    // Cut between two chunks.
    let mut place = place::place();
    let server = place.serve(|request, out, file| match request.number {
        0 => chunked(out, &file[..140_002], false),
        _ => serve(request, out, file),
    });
    place.arrives();
    assert_eq!(ranges(&server), [None, Some(140_002)]);
}

#[test]
fn redirections() {
    if !server::loopback() {
        return;
    }
    for absolute in [true, false] {
        let mut place = place();
        let server = place.serve(move |request, out, file| match request.path.as_str() {
            "/net.bin" => {
                let base = match absolute {
                    true => format!("http://{}/", request.host),
                    false => String::new(),
                };
                send(out, "302 Found", &[format!("Location: {base}a/b.bin")], b"");
            }
            "/a/b.bin" => send(out, "301 Moved Permanently", &["Location: ../c.bin".into()], b""),
            _ => serve(request, out, file),
        });
        place.arrives();
        let paths: Vec<String> = server.requests().into_iter().map(|r| r.path).collect();
        assert_eq!(paths, ["/net.bin", "/a/b.bin", "/c.bin"]);
    }
    // To another server; a broken download asks the first one again.
    let mut place = place();
    let file = place.file.clone();
    let other = Server::start(move |request, out| match request.number {
        0 => serve_part(request, out, &file, 1000),
        _ => serve(request, out, &file),
    });
    let target = other.url.clone();
    let first = place.serve(move |_, out, _| {
        send(out, "307 Temporary Redirect", &[format!("Location: {target}x")], b"");
    });
    place.arrives();
    assert_eq!(ranges(&other), [None, Some(1000)]);
    assert_eq!(first.requests().len(), 2);

    let mut place = place::place();
    let server =
        place.serve(|_, out, _| send(out, "302 Found", &["Location: /net.bin".into()], b""));
    place.fails("redirects again and again", &[]);
    assert!(server.requests().len() < 20);
}

#[test]
fn wrong_bytes_are_refused() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    let mut wrong = place.file.clone();
    wrong[200_000] ^= 1;
    place.serve(move |request, out, _| serve(request, out, &wrong));
    let error = place.fails("the file was deleted", &[]).to_string();
    assert!(error.contains(&format!("expected {}", place.asset.digest)), "{error}");
    assert!(error.contains("found sha256 ") && error.contains("(300007 bytes)"), "{error}");

    let mut place = place::place();
    place.serve(|_, out, _| send(out, "200 OK", &[], b"\n<!DOCTYPE html><p>Log in"));
    place.fails("a web page as a log-in portal or a proxy sends", &[]);
}

/// Progress without end: a megabyte and more at each try, and then another file.
#[test]
fn a_server_that_starts_again_for_ever_is_given_up() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    place.file = vec![1; 3 << 20];
    place.asset.size = 3 << 20;
    let server = place.serve(|request, out, file| match request.range {
        None => serve_part(request, out, file, 2 << 20),
        Some(_) => serve(request, out, file),
    });
    place.fails("sent several times", &["net.bin.part"]);
    assert!(server.requests().len() < 20);
}

#[test]
fn statuses() {
    if !server::loopback() {
        return;
    }
    for (status, reason) in [
        ("404 Not Found", "HTTP status 404: not found"),
        ("403 Forbidden", "HTTP status 403: not allowed"),
        ("418 I'm a teapot", "HTTP status 418"),
    ] {
        let mut place = place();
        let server = place.serve(move |_, out, _| send(out, status, &[], b"no"));
        place.fails(reason, &[]);
        assert_eq!(server.requests().len(), 1, "{status}");
    }
    let mut place = place();
    let server = place.serve(|_, out, _| send(out, "500 Internal Server Error", &[], b"no"));
    place.fails("HTTP status 500: the server failed", &[]);
    assert_eq!(server.requests().len(), 3);

    let mut place = place::place();
    place.serve(|request, out, file| match request.number {
        0 => send(out, "503 Service Unavailable", &["Retry-After: 0".into()], b""),
        1 => send(out, "429 Too Many Requests", &[], b""),
        _ => serve(request, out, file),
    });
    place.arrives();
}

#[test]
fn a_server_that_stalls_is_given_up() {
    if !server::loopback() {
        return;
    }
    let start = Instant::now();
    let mut place = place();
    place.hub.attempts = 2;
    place.hub.timeout = Duration::from_millis(100);
    let wait = || std::thread::sleep(Duration::from_secs(20));
    // Before the head, and within the body.
    place.serve(move |_, _, _| wait());
    place.fails("no data came within the time-out", &[]);
    place.serve(move |request, out, file| {
        serve_part(request, out, file, 5);
        wait();
    });
    place.fails("(10 bytes have arrived and are saved)", &["net.bin.part"]);
    // One that only stalled once is forgiven.
    place.serve(move |request, out, file| match request.number {
        0 => wait(),
        _ => serve(request, out, file),
    });
    place.arrives();
    assert!(start.elapsed() < Duration::from_secs(15));
}

#[test]
fn the_caller_can_stop_it_at_any_time() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    place.hub.timeout = Duration::from_secs(60);
    place.serve(|request, out, file| {
        serve_part(request, out, file, 100_000);
        std::thread::sleep(Duration::from_secs(60));
    });
    let start = Instant::now();
    let mut watch = |event: &Event<'_>| match event {
        Event::Downloading { done: 100_000.., .. } => Control::Stop,
        _ => Control::Continue,
    };
    let error = place.hub.fetch(&place.asset, &mut watch).unwrap_err();
    assert!(
        matches!(error, Error::Stopped(_)) && error.to_string().contains("continues from there")
    );
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(fs::read(place.part()).unwrap() == place.file[..100_000]);
    // The lock is free again. A stop when the file is whole does not lose it.
    let server = place.serve(serve);
    let mut at_the_end = |event: &Event<'_>| match event {
        Event::Arrived { .. } => Control::Stop,
        _ => Control::Continue,
    };
    let error = place.hub.fetch(&place.asset, &mut at_the_end).unwrap_err();
    assert!(matches!(error, Error::Stopped(_)) && error.to_string().contains("in the cache"));
    place.arrives();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn no_server_at_all() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    place.hub.mirror = None;
    let start = Instant::now();
    let error = place.fails("refused", &[]);
    assert!(start.elapsed() < Duration::from_secs(5));
    let hint = error.hint().unwrap();
    for part in [&*place.hub.path(&place.asset).to_string_lossy(), &place.asset.digest.hex, "1 MB"]
    {
        assert!(hint.contains(part), "no {part:?} in: {hint}");
    }
    place.hub.mirror = Some("http://no-such-host.invalid".into());
    place.fails("address was not found", &[]);
    place.hub.mirror = Some("gopher://127.0.0.1".into());
    place.fails("", &[]);
    place.hub.mirror = Some("http://127.0.0.1:1:1/ /".into());
    place.fails("", &[]);
    // A server that speaks something else.
    place.serve(|_, out, _| {
        let _ = out.write_all(b"\x16\x03\x01 hello\r\n\r\n");
    });
    place.fails("", &[]);
}

#[test]
fn files_put_there_by_hand_are_checked_and_used() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    place.hub.mirror = None;
    let other = place.folder.path().join("keras");
    fs::create_dir(&other).unwrap();
    place.hub.others = vec![place.folder.path().join("gone"), other.clone()];
    fs::write(other.join("net.bin"), "damaged").unwrap();
    place.fails("refused", &[]);
    fs::write(other.join("net.bin"), &place.file).unwrap();
    assert_eq!(place.fetch().unwrap(), other.join("net.bin"));
    // The cache's own file comes first, if it is right.
    fs::write(place.hub.path(&place.asset), "damaged").unwrap();
    let mut distrusted = 0;
    let found = place.hub.locate(&place.asset, &mut |event| {
        if let Event::Distrusted { path, expected, .. } = event {
            assert_eq!(path, &place.hub.path(&place.asset));
            assert_eq!(*expected, &place.asset.digest);
            distrusted += 1;
        }
        Control::Continue
    });
    assert_eq!((found.unwrap(), distrusted), (Some(other.join("net.bin")), 1));
    fs::write(place.hub.path(&place.asset), &place.file).unwrap();
    place.arrives();
    // A damaged one is replaced.
    fs::write(place.hub.path(&place.asset), "damaged").unwrap();
    place.hub.others.clear();
    place.serve(serve);
    place.arrives();
}

#[test]
fn folders_that_cannot_be_written() {
    let mut place = place();
    place.serve(serve);
    fs::write(place.folder.path().join("file"), "").unwrap();
    place.hub.folder = place.folder.path().join("file/below");
    let error = place.fails("cannot write in", &[]);
    assert!(error.hint().unwrap().contains("HEADSTART_CACHE"));
    if cfg!(target_os = "linux") {
        place.hub.folder = "/proc/headstart".into();
        place.fails("cannot write in /proc/headstart", &[]);
    }
}

/// Linux's /dev/full is a file on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    place.serve(serve);
    fs::create_dir_all(place.part().parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", place.part()).unwrap();
    let error = place.fails("No space left on device", &["net.bin.part"]);
    assert!(error.to_string().contains("net.bin.part"), "{error}");
    assert!(error.hint().unwrap().contains("make room"));
    fs::remove_file(place.part()).unwrap();
    place.arrives();
}

#[test]
fn threads_that_want_the_same_file_download_it_once() {
    if !server::loopback() {
        return;
    }
    let mut place = place();
    let server = place.serve(|request, out, file| {
        std::thread::sleep(Duration::from_millis(250));
        serve(request, out, file);
    });
    let waited = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut said = false;
                let path = place.hub.fetch(&place.asset, &mut |event| {
                    said |= matches!(event, Event::Waiting { file: "net.bin" });
                    Control::Continue
                });
                assert!(fs::read(path.unwrap()).unwrap() == place.file);
                waited.fetch_add(usize::from(said), std::sync::atomic::Ordering::SeqCst);
            });
        }
    });
    assert_eq!(server.requests().len(), 1);
    assert_eq!(waited.into_inner(), 3);
    place.arrives();
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn https_with_certificates_that_are_checked() {
    if !server::loopback() {
        return;
    }
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls");
    let chain = CertificateDer::pem_file_iter(golden.join("localhost.pem")).unwrap();
    let chain: Vec<_> = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(golden.join("localhost.key")).unwrap();
    let provider = Arc::new(rustls_graviola::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let mut place = place();
    let file = place.file.clone();
    let server = Server::wrapped(
        move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
            Some(StreamOwned::new(connection, stream))
        },
        move |request, out| match request.number {
            0 => serve_part(request, out, &file, 100_000),
            _ => serve(request, out, &file),
        },
    );
    let https = server.url.replace("http://127.0.0.1", "https://localhost");
    place.hub.mirror = Some(https.clone());
    place.fails("certificate", &[]);
    assert_eq!(server.requests().len(), 0);
    place.hub.roots = Some(golden.join("authority.pem"));
    // The certificate is localhost's, not that of the address.
    place.hub.mirror = Some(https.replace("localhost", "127.0.0.1"));
    place.fails("certificate", &[]);
    place.hub.mirror = Some(https.clone());
    place.arrives();
    assert_eq!(ranges(&server), [None, Some(100_000)]);
    // From plain to encrypted.
    let mut other = place::place();
    other.hub.roots = place.hub.roots.clone();
    let target = format!("Location: {https}net.bin");
    other.serve(move |_, out, _| send(out, "302 Found", std::slice::from_ref(&target), b""));
    other.arrives();
    for (name, reason) in [("generate.sh", "no certificates in"), ("gone.pem", "cannot read")] {
        other.hub.roots = Some(golden.join(name));
        other.hub.mirror = Some(https.clone());
        let _ = fs::remove_file(other.hub.path(&other.asset));
        other.fails(reason, &[]);
    }
}
