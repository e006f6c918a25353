//! Fetches a page over HTTP.
//!
//! Owns connecting, which `serve` gives up except to the ports that its configuration names. The caller sets the time.

use std::error::Error as _;
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
    let (mut sender, connection) =
        handshake(TokioIo::new(connect(address).await?)).await.map_err(|error| failed(&error))?;
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
    match answered.map_err(|error| failed(&error))?.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it was answered by {status}")),
    }
}

/// Why there was no answer, without the words of the library for what it has read.
fn failed(error: &hyper::Error) -> String {
    if error.is_parse() {
        return "its answer is no HTTP".to_owned();
    }
    if error.is_incomplete_message() {
        return "it has closed the connection without an answer".to_owned();
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::host::netlink::event_loop;

    /// What is said of a listener that reads what it is asked, and answers this.
    fn said_of(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answering = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _asked = stream.read(&mut [0; 1024]).expect("a question");
            stream.write_all(answer.as_bytes()).expect("answered");
        });
        let asked = event_loop().expect("an event loop").block_on(ask(address, "localhost", "/", None));
        answering.join().expect("it answers");
        asked
    }

    #[test]
    fn what_is_no_answer_is_said_without_words_of_the_library() {
        assert_eq!(said_of("HTTP/1.1 204 No Content\r\n\r\n"), Ok(()));
        for (answer, why) in [
            ("SSH-2.0-x\r\n", "its answer is no HTTP"),
            ("", "it has closed the connection without an answer"),
            (
                "HTTP/1.1 503 Not Now\r\ncontent-length: 0\r\n\r\n",
                "it was answered by 503 Service Unavailable",
            ),
        ] {
            assert_eq!(said_of(answer), Err(why.to_owned()), "{answer:?}");
        }
    }
}
