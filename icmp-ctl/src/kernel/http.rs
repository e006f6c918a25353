//! Asks a page over HTTP, and how that was answered.
//!
//! Owns connecting, which `serve` gives up but for the ports that its configuration names. How long it may take is the caller's to say.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Connects to a port.
///
/// # Errors
/// Nobody accepts, or connecting there was given up.
pub(crate) async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| {
        let given_up = if error.kind() == io::ErrorKind::PermissionDenied {
            "; `serve` has given up connecting to ports that its configuration did not name when it started: start it again"
        } else {
            ""
        };
        format!("{error}{given_up}")
    })
}

/// Asks for a path of a host, or with a text posts that there, as JSON.
///
/// # Errors
/// As [`connect`]; it is not answered, or by a status that is none of success.
pub(crate) async fn ask(
    address: SocketAddr,
    host: &str,
    path: &str,
    json: Option<String>,
) -> Result<(), String> {
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = handshake(TokioIo::new(connect(address).await?)).await.map_err(failed)?;
    let request = match &json {
        None => Request::get(path),
        Some(_) => Request::post(path).header(header::CONTENT_TYPE, "application/json"),
    };
    let request = request
        .header(header::HOST, host)
        .header(header::USER_AGENT, "icmp-ctl")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(json.unwrap_or_default())));
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
