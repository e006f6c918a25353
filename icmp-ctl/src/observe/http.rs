//! The metrics over HTTP: one page.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::sync::Mutex;

use crate::observe::metrics;

/// Answers one request.
///
/// # Errors
/// None.
pub async fn respond<B>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    let reply = |status, kind: &'static str, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        Ok(response)
    };
    if request.uri().path() != "/metrics" {
        return reply(StatusCode::NOT_FOUND, "text/plain", "metrics are at /metrics\n".to_owned());
    }
    if request.method() != Method::GET {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".to_owned());
    }
    // One at a time: each has all maps open, and reads them, which takes a while, on a thread of its own.
    static ONE: Mutex<()> = Mutex::const_new(());
    let one = ONE.lock().await;
    let rendered = tokio::task::spawn_blocking(metrics::render).await;
    drop(one);
    match rendered.map_err(anyhow::Error::from).flatten() {
        Ok(body) => reply(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", body),
        Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error:#}\n")),
    }
}
