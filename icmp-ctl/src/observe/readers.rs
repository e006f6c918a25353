//! Questions of users who may not open the maps, and how they go over `serve`'s socket.
//!
//! Owns the form of questions and answers. `kernel/sockets.rs` owns where the socket is and who may connect, the verbs own the answers.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use crate::failure::{Exit, Failure, exit_of, sentence};
use crate::host::netlink::{Network, event_loop, namespace_number};
use crate::instance::pins::{View, nothing_loaded};
use crate::kernel::requirements::{Purpose, capabilities, prepare};
use crate::kernel::sockets::{connect, for_readers, silent};
use crate::observe::look::Look;
use crate::observe::rates::Reading;

/// Where questions are asked, beside the pages of metrics.
pub(super) const PATH: &str = "/ask";
/// Bytes of the longest question.
pub(super) const LONGEST: usize = 8 << 10;
/// How long an answer is waited for: shorter than `serve` lets a connection live.
const DEADLINE: Duration = Duration::from_secs(25);

/// What can be asked.
#[derive(Debug, Deserialize, Serialize)]
pub enum Question {
    /// What a command line that only looks has to tell; the program's name is its first word.
    Verb(Vec<String>),
    /// What was counted so far.
    Reading,
    /// What the live view shows of a moment.
    Look,
    /// Events behind the one of this number, or the number of the last one.
    Events(Option<u64>),
}

/// What is answered: a value of the question's own type; or the exit code and why there is none.
type Answer<T> = std::result::Result<T, (Exit, String)>;

/// How a question is answered; it blocks.
pub type Answering = fn(&Question) -> Result<Value>;

/// The socket of the `serve` of this network namespace.
///
/// # Errors
/// The namespace's number cannot be had.
pub fn socket() -> Result<PathBuf> {
    Ok(for_readers(namespace_number()?))
}

/// That a question is too long, and how long it is where that is known.
pub(super) fn too_long(bytes: Option<usize>) -> String {
    let has = bytes.map_or_else(|| format!("more than {LONGEST}"), |bytes| bytes.to_string());
    format!(
        "a question to `serve`, which is the command line, has at most {LONGEST} bytes, and this one has {has}; with fewer or shorter words it is \
         answered, and so is root, who asks nobody"
    )
}

/// The answer to a question as it goes over the socket.
pub(super) fn answer(question: &[u8], answering: Answering) -> String {
    let answer = serde_json::from_slice(question)
        .context("understanding the question")
        .and_then(|question| answering(&question));
    let answer: Answer<Value> = answer.map_err(|error| (exit_of(&error), sentence(&error)));
    serde_json::json!(answer).to_string()
}

/// From where what an instance has counted is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// From its maps.
    Maps,
    /// From `serve`, which reads them.
    Serve,
}

impl Source {
    /// The one that this process may read. Call it while the process has one thread only.
    ///
    /// # Errors
    /// It may open maps, but there is no BPF file system.
    pub fn of_this_process() -> Result<Self> {
        if Purpose::Use.obstacle().is_some() {
            return Ok(Self::Serve);
        }
        prepare(Purpose::Use)?;
        Ok(Self::Maps)
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// The maps cannot be read, or `serve` cannot be asked.
    pub fn reading(self) -> Result<Reading> {
        match self {
            Self::Maps => {
                let network = Network::read_once()?;
                View::look(|instance| Reading::of(instance, &network))?.ok_or_else(nothing_loaded)
            }
            Self::Serve => ask(&Question::Reading),
        }
    }

    /// What the live view shows of this moment.
    ///
    /// # Errors
    /// As [`Self::reading`].
    pub fn look(self) -> Result<Look> {
        match self {
            Self::Maps => {
                let network = Network::read_once()?;
                View::look(|instance| Look::of(instance, &network))?.ok_or_else(nothing_loaded)
            }
            Self::Serve => ask(&Question::Look),
        }
    }
}

/// Asks the `serve` of this network namespace.
///
/// # Errors
/// This process may not ask it, or nobody answers; or what the answer says.
pub fn ask<T: DeserializeOwned>(question: &Question) -> Result<T> {
    let question = serde_json::to_vec(question)?;
    ensure!(question.len() <= LONGEST, too_long(Some(question.len())));
    let began = Instant::now();
    let stream = connect(&socket()?, DEADLINE).map_err(|error| {
        // Whoever may ask, and is not answered, is helped by no capability.
        if error.is::<Failure>() {
            return error;
        }
        let own = capabilities(Purpose::Use).text();
        Failure::error(Exit::Permission, format!("{}; by itself, {own}", sentence(&error)))
    })?;
    let answer = answered(stream, question, began)?;
    let answer: Answer<T> = serde_json::from_slice(&answer)
        .context("understanding what `serve` has answered, which may be another build")?;
    answer.map_err(|(exit, text)| Failure::error(exit, text))
}

/// What is answered to a question whose asking began then.
fn answered(stream: UnixStream, question: Vec<u8>, began: Instant) -> Result<Bytes> {
    stream.set_nonblocking(true)?;
    let left = DEADLINE.saturating_sub(began.elapsed());
    let asked = event_loop()?.block_on(async { timeout(left, over_http(stream, question)).await });
    asked.map_err(|_| silent(DEADLINE))?.context("asking `serve`")
}

async fn over_http(stream: UnixStream, question: Vec<u8>) -> Result<Bytes> {
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, which says what there is to say of it.
    tokio::spawn(connection);
    let request =
        Request::post(PATH).header(header::HOST, "icmp-ctl").body(Full::new(Bytes::from(question)))?;
    let response = sender.send_request(request).await;
    let response = response.context("it has closed the connection; if too many ask at once, ask again")?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status != StatusCode::OK {
        bail!("{status}: {}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serve_that_does_not_answer_is_told_as_that_once() {
        let (asking, _silent) = UnixStream::pair().expect("a pair");
        let long_ago = Instant::now().checked_sub(DEADLINE).expect("it runs for longer");
        let error = answered(asking, b"\"Reading\"".to_vec(), long_ago).expect_err("nobody answers");
        assert_eq!(
            sentence(&error),
            "`serve` has not answered within 25 s: it is stopped, or busy with what others ask; ask again"
        );
        assert_eq!(exit_of(&error), Exit::Failed);
    }
}
