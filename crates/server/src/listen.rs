//! Sockets: connections are accepted, bounded, and let end.

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use headstart::{Control, Error, Result};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{interval, sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use crate::Limits;
use crate::metrics::Metrics;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Between two looks at whether to end.
const LOOK: Duration = Duration::from_millis(50);
/// Longest head of a request.
const HEAD: usize = 64 << 10;
/// What is said to a connection too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The addresses that `host` and `port` mean.
///
/// # Errors
/// If there is no such host.
pub fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let found = (plain, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => {
            let expected = "a name or address of this machine";
            Err(Error::invalid("host", expected, host, "127.0.0.1 is this machine alone"))
        }
    }
}

/// Lets this process have as many open files, and so connections, as the system allows it: many shells give programs 1024 of
/// them and allow more.
pub fn raise_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // A system that refuses leaves the limit as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Listens at the first address that can be had.
///
/// # Errors
/// If none can.
pub fn bind(addresses: &[SocketAddr]) -> Result<TcpListener> {
    let listen = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // On Windows it would let two programs have one port.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    let mut failed = None;
    for &address in addresses {
        match listen(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = failed.or(Some((address, error))),
        }
    }
    let found = failed.map_or(String::new(), |(address, error)| format!("{address}: {error}"));
    let hint = "another program may have the port: give another --port, or 0 for a free one";
    Err(Error::invalid("port", "one that can be listened on", found, hint))
}

/// Answers requests until `stop` says so, and then until those are answered that came before. The number of connections that
/// were cut because they did not end in time.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    metrics: &Arc<Metrics>,
    stop: &mut dyn FnMut() -> Control,
    ending: &dyn Fn(),
) -> usize {
    let graceful = GracefulShutdown::new();
    let service = TowerToHyperService::new(router);
    let accept = |stream: TcpStream| {
        let open = Open::new(metrics);
        if metrics.connections.load(Ordering::Relaxed) > limits.connections {
            metrics.refused.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(refuse(stream, open));
            return;
        }
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        // Who does not read answers is not waited for.
        stream.set_write_timeout(Some(limits.timeout));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle)
            .max_buf_size(HEAD)
            .serve_connection(TokioIo::new(Box::pin(stream)), service.clone());
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            // An error is the client's: it went away, or sent no HTTP.
            let _ = watched.await;
            drop(open);
        });
    };
    let mut tick = interval(LOOK);
    loop {
        tokio::select! {
            biased;
            _ = tick.tick() => if stop() == Control::Stop { break },
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => accept(stream),
                // No file is left for it; others end meanwhile.
                Err(error) if error.kind() != ErrorKind::ConnectionAborted => sleep(LOOK).await,
                Err(_) => {}
            },
        }
    }
    ending();
    // Those that are connected already are answered, too.
    while let Ok(Ok((stream, _))) = timeout(Duration::from_millis(1), listener.accept()).await {
        accept(stream);
    }
    drop(listener);
    match timeout(limits.drain, graceful.shutdown()).await {
        Ok(()) => 0,
        Err(_) => metrics.connections.load(Ordering::Relaxed),
    }
}

/// Counts a connection while it is open.
struct Open(Arc<Metrics>);

impl Open {
    fn new(metrics: &Arc<Metrics>) -> Open {
        count(metrics).fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(metrics))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        count(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

fn count(metrics: &Metrics) -> &AtomicUsize {
    &metrics.connections
}

/// Says that there is no room, and lets the client read it: a close with unread bytes would take it back.
async fn refuse(mut stream: TcpStream, open: Open) {
    let say = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await?;
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(LOOK, say).await;
    drop(open);
}
