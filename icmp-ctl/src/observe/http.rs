//! The metrics, the health and a front page over HTTP; and answers for group members who may not read the maps.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::sync::Mutex;

use crate::failure;
use crate::kernel::threads::on_thread;
use crate::observe::front;
use crate::observe::metrics::{self, Format};
use crate::observe::readers::{Answering, LONGEST, PATH, answer, too_long};

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Page {
    Front,
    Metrics(Format),
    Health,
}

impl Page {
    fn content_type(self) -> &'static str {
        match self {
            Self::Front => "text/html; charset=utf-8",
            Self::Metrics(format) => format.content_type(),
            Self::Health => "text/plain",
        }
    }

    fn read(self) -> Result<String> {
        match self {
            Self::Front => front::page(),
            Self::Metrics(format) => metrics::render(format),
            Self::Health => metrics::check_health().map(|()| "ok\n".to_owned()),
        }
    }
}

/// Answers one request, for a page or, with `answering`, a question. `is_answered` is set once it is its turn.
///
/// # Errors
/// None.
pub async fn respond(
    request: Request<Incoming>,
    answering: Option<Answering>,
    is_answered: Arc<AtomicBool>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    static READER: Reader = Reader::new();
    let reply = |status, kind: &'static str, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    };
    if let Some(answering) = answering.filter(|_| request.uri().path() == PATH) {
        return Ok(match answered(request, answering, &is_answered).await {
            Ok(body) => reply(StatusCode::OK, "application/json", body),
            Err((status, error)) => reply(status, "text/plain", format!("{error}\n")),
        });
    }
    is_answered.store(true, Ordering::Relaxed);
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let page = match request.uri().path() {
        "/" => Page::Front,
        "/metrics" => Page::Metrics(Format::accepted(accept.unwrap_or_default())),
        "/healthz" => Page::Health,
        _ => {
            let places = "metrics are at /metrics, health at /healthz\n".to_owned();
            return Ok(reply(StatusCode::NOT_FOUND, "text/plain", places));
        }
    };
    // The answer to HEAD has the header of the one to GET; hyper leaves out the body.
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refused =
            reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET and HEAD only\n".to_owned());
        refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    Ok(match READER.read(page, move || page.read()).await {
        Ok(body) => reply(StatusCode::OK, page.content_type(), body),
        Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
    })
}

/// Answers a question on a thread of its own, one at a time: each has all maps open.
async fn answered(
    request: Request<Incoming>,
    answering: Answering,
    is_answered: &AtomicBool,
) -> std::result::Result<String, (StatusCode, String)> {
    static TURN: Mutex<()> = Mutex::const_new(());
    let question = Limited::new(request.into_body(), LONGEST).collect().await.map_err(|error| {
        match error.downcast_ref::<LengthLimitError>() {
            Some(_) => (StatusCode::PAYLOAD_TOO_LARGE, too_long(None)),
            None => (StatusCode::BAD_REQUEST, error.to_string()),
        }
    });
    let question = question?.to_bytes();
    let turn = TURN.lock().await;
    is_answered.store(true, Ordering::Relaxed);
    let answered = on_thread(move || {
        let _turn = turn;
        answer(&question, answering)
    });
    answered.await.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, failure::sentence(&error)))
}

/// Reads maps, which takes a while, on a thread of its own; one read at a time, as each has all of them open. Who asks while a read is waited
/// for shares the next one, so that nobody waits for more than two, however many ask.
struct Reader(Mutex<BTreeMap<Page, LastRead>>);

/// A page, or why it cannot be had, and when that began to be read.
struct LastRead {
    began: Instant,
    page: std::result::Result<String, String>,
}

impl Reader {
    const fn new() -> Self {
        Self(Mutex::const_new(BTreeMap::new()))
    }

    async fn read(
        &'static self,
        page: Page,
        read: impl FnOnce() -> Result<String> + Send + 'static,
    ) -> std::result::Result<String, String> {
        let asked = Instant::now();
        let mut last = self.0.lock().await;
        if let Some(shared) = last.get(&page).filter(|last| last.began >= asked) {
            return shared.page.clone();
        }
        // The lock goes with the thread: that reads to its end, also where the connection is gone meanwhile.
        let reading = on_thread(move || {
            let began = Instant::now();
            let text = read().map_err(|error| failure::sentence(&error));
            last.insert(page, LastRead { began, page: text.clone() });
            text
        });
        reading.await.unwrap_or_else(|error| Err(failure::sentence(&error)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;
    use crate::host::netlink::event_loop;

    #[test]
    fn requests_that_are_given_up_leave_one_read_behind_them() {
        static READER: Reader = Reader::new();
        static BEGUN: AtomicUsize = AtomicUsize::new(0);
        let (end, ended) = mpsc::channel::<()>();
        let run = async {
            let first = tokio::spawn(READER.read(Page::Health, move || {
                BEGUN.fetch_add(1, Ordering::SeqCst);
                _ = ended.recv();
                Ok(String::new())
            }));
            while BEGUN.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            first.abort();
            assert!(first.await.expect_err("it was given up").is_cancelled());
            // As long as it reads nobody else does.
            let last = READER.0.try_lock().is_err();
            drop(end);
            let next = READER.read(Page::Health, || Ok("next".to_owned())).await;
            (last, next)
        };
        let (is_locked, next) = event_loop().expect("an event loop").block_on(run);
        assert!(is_locked, "the first read goes on");
        assert_eq!(next, Ok("next".to_owned()));
    }

    #[test]
    fn who_asks_while_others_wait_shares_a_read_that_began_afterwards() {
        static READER: Reader = Reader::new();
        static READS: AtomicUsize = AtomicUsize::new(0);
        let run = async {
            let held = READER.0.lock().await;
            let ask = || READER.read(Page::Health, || Ok(READS.fetch_add(1, Ordering::SeqCst).to_string()));
            let waiting: Vec<_> = (0..10).map(|_| tokio::spawn(ask())).collect();
            tokio::task::yield_now().await;
            drop(held);
            let mut pages = Vec::new();
            for one in waiting {
                pages.push(one.await.expect("it ran"));
            }
            (pages, ask().await)
        };
        let (pages, later) = event_loop().expect("an event loop").block_on(run);
        assert!(pages.iter().all(|page| *page == Ok("0".to_owned())), "{pages:?}");
        assert_eq!(later, Ok("1".to_owned()), "what is older than the question is no answer to it");
    }
}
