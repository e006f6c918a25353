//! One check of a VIP's service.
//!
//! Owns what each kind of check asks, and when that is a success. How often, and what follows, is `mod.rs`'s.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::vip::{Check, Kind};
use crate::failure::sentence;
use crate::kernel::command::ask;
use crate::kernel::threads::on_thread;

/// A check, which does not end by itself after `timeout`. What blocks has a thread, which goes on where nobody waits for it any more.
pub(super) fn begin(check: &Check, timeout: Duration) -> BoxFuture<'static, Result<(), String>> {
    match check.kind.clone() {
        Kind::File(path) => Box::pin(blocking(move || file(&path))),
        Kind::Systemd(unit) => Box::pin(blocking(move || systemd(&unit, timeout))),
        Kind::Tcp(address) => Box::pin(async move { connect(address).await.map(|_| ()) }),
        Kind::Http { address, host, path } => Box::pin(async move { http(address, &host, &path).await }),
    }
}

async fn blocking(check: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
    on_thread(check).await.unwrap_or_else(|error| Err(sentence(&error)))
}

fn file(path: &Path) -> Result<(), String> {
    path.metadata().map(|_| ()).map_err(|error| error.to_string())
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| {
        let given_up = if error.kind() == io::ErrorKind::PermissionDenied {
            "; `serve` has given up connecting to ports of which no check was known when it started: start it again"
        } else {
            ""
        };
        format!("{error}{given_up}")
    })
}

async fn http(address: SocketAddr, host: &str, path: &str) -> Result<(), String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = handshake(TokioIo::new(connect(address).await?)).await.map_err(failed)?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, "icmp-ctl")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let mut answered = pin!(sender.send_request(request));
    let answered = tokio::select! {
        answered = &mut answered => answered,
        // With the answer, or without.
        _ = connection => answered.await,
    };
    match answered.map_err(failed)?.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it was answered by {status}")),
    }
}

fn systemd(unit: &str, timeout: Duration) -> Result<(), String> {
    let state = ask("systemctl", &["show", "--property=ActiveState", "--value", "--", unit], timeout)?;
    match state.as_deref().map(str::trim) {
        Some("active") => Ok(()),
        Some(state) => Err(format!("{unit} is {state}")),
        None => Err("there is no systemctl to ask; checks of units need systemd".to_owned()),
    }
}
