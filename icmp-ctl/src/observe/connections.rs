//! The connections of the metrics' endpoint: how many there may be and for how long, so that whoever opens too many is no harm to the rest.

use std::collections::VecDeque;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::diagnostics::warn_about;
use crate::observe::http::respond;

/// Connections at a time. One more, and the oldest has to go.
const MOST: usize = 64;
/// Time from the beginning of a connection to the end of the request's header.
const FOR_HEADER: Duration = Duration::from_secs(5);
/// Time for all of it: one request and its answer.
const FOR_ALL: Duration = Duration::from_secs(30);
/// How long no connection is accepted after one could not be: at once it would fail again.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts connections for ever.
pub async fn accept(listener: TcpListener) {
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    let mut failed = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                failed = false;
                connections.retain(|connection| !connection.is_finished());
                if connections.len() >= MOST
                    && let Some(oldest) = connections.pop_front()
                {
                    oldest.abort();
                }
                connections.push_back(tokio::spawn(serve(stream)).abort_handle());
            }
            Err(error) => {
                if !failed {
                    let text =
                        format!("accepting connections for the metrics: {error}; tried again until it works");
                    warn_about("metrics", None, &text);
                }
                failed = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(FOR_HEADER).keep_alive(false);
    // A scraper that goes away in the middle, or takes too long, is its own affair.
    let _ =
        tokio::time::timeout(FOR_ALL, http.serve_connection(TokioIo::new(stream), service_fn(respond))).await;
}
