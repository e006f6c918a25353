//! The metrics and the health of what is loaded over HTTP.

use std::convert::Infallible;

use anyhow::Result;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::sync::Mutex;

use crate::failure;
use crate::observe::metrics::{self, Format};

/// Answers one request.
///
/// # Errors
/// None.
pub async fn respond<B>(request: Request<B>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let reply = |status, kind: &'static str, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    };
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    // The answer to HEAD has the header of the one to GET; hyper leaves out the body.
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let answer = match request.uri().path() {
        "/metrics" | "/healthz" if !is_read => {
            let mut refused =
                reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET and HEAD only\n".to_owned());
            refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
            return Ok(refused);
        }
        "/metrics" => read(move || metrics::render(format)).await.map(|body| (format.content_type(), body)),
        "/healthz" => read(metrics::check_health).await.map(|()| ("text/plain", "ok\n".to_owned())),
        _ => {
            let places = "metrics are at /metrics, health at /healthz\n".to_owned();
            return Ok(reply(StatusCode::NOT_FOUND, "text/plain", places));
        }
    };
    Ok(match answer {
        Ok((kind, body)) => reply(StatusCode::OK, kind, body),
        Err(error) => {
            reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{}\n", failure::sentence(&error)))
        }
    })
}

/// Reads maps, which takes a while, on a thread of its own; one at a time, as each has all of them open.
async fn read<T: Send + 'static>(what: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    static ONE: Mutex<()> = Mutex::const_new(());
    let _one = ONE.lock().await;
    tokio::task::spawn_blocking(what).await?
}
