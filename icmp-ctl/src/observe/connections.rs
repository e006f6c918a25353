//! The connections of `serve`'s endpoints: how many there may be and for how long, so that whoever opens too many is no harm to the rest.
//!
//! Owns who has to go where there are too many: not who is being answered while others say nothing, and of these one of the network that has
//! most.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;

use crate::diagnostics::warn_about;
use crate::kernel::sockets::Socket;
use crate::observe::http::respond;
use crate::observe::readers::Answering;

/// Connections at a time. One more, and one has to go.
const MOST: usize = 64;
/// Time from the beginning of a connection to the end of the request's header.
const FOR_HEADER: Duration = Duration::from_secs(5);
/// Time for all of it: one request and its answer.
const FOR_ALL: Duration = Duration::from_secs(30);
/// How long no connection is accepted after one could not be: at once it would fail again.
const PAUSE: Duration = Duration::from_millis(200);

/// Where connections come in.
#[derive(Debug)]
pub enum Listener {
    /// At an address.
    Tcp(TcpListener),
    /// At a socket of the file system, which goes with this value.
    Unix(UnixListener, Socket),
}

impl Listener {
    /// Listens at an address.
    ///
    /// # Errors
    /// It cannot be listened at.
    pub async fn tcp(address: SocketAddr) -> Result<Self> {
        Ok(Self::Tcp(TcpListener::bind(address).await?))
    }

    /// Listens at a socket of the file system.
    ///
    /// # Errors
    /// As [`Socket::bind`].
    pub fn unix(path: &Path) -> Result<Self> {
        let socket = Socket::bind(path)?;
        Ok(Self::Unix(UnixListener::from_std(socket.listener.try_clone()?)?, socket))
    }

    /// Answers the next connection.
    async fn next(&self, answering: Option<Answering>) -> io::Result<Connection> {
        let has_asked = Arc::new(AtomicBool::new(false));
        let (task, peer) = match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let task = tokio::spawn(serve(stream, Arc::clone(&has_asked), answering));
                (task, Peer::Network(network(address.ip())))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::User(stream.peer_cred()?.uid());
                (tokio::spawn(serve(stream, Arc::clone(&has_asked), answering)), peer)
            }
        };
        Ok(Connection { task: task.abort_handle(), peer, has_asked })
    }
}

/// Accepts connections for ever, each for one page, or with `answering` for one question.
pub async fn accept(listener: Listener, answering: Option<Answering>) {
    // Oldest first.
    let mut connections: Vec<Connection> = Vec::new();
    let mut failed = false;
    loop {
        match listener.next(answering).await {
            Ok(connection) => {
                failed = false;
                connections.retain(|connection| !connection.task.is_finished());
                connections.push(connection);
                if connections.len() > MOST {
                    let seen: Vec<_> = connections.iter().map(Connection::seen).collect();
                    connections.remove(superfluous(&seen)).task.abort();
                }
            }
            Err(error) => {
                if !failed {
                    let text = format!("accepting connections: {error}; tried again until it works");
                    warn_about("metrics", None, &text);
                }
                failed = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A connection that has come.
struct Connection {
    task: AbortHandle,
    peer: Peer,
    /// Its request has come, and is being answered.
    has_asked: Arc<AtomicBool>,
}

/// Who a connection is from, as far as that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Network(IpAddr),
    User(u32),
}

impl Connection {
    fn seen(&self) -> (Peer, bool) {
        (self.peer, self.has_asked.load(Ordering::Relaxed))
    }
}

/// Which of these has to go, each who it is from and whether it has asked, oldest first: the oldest that has not asked, of who has most of
/// those; if all have, the oldest of who has most.
fn superfluous(connections: &[(Peer, bool)]) -> usize {
    let all_have_asked = connections.iter().all(|(_, has_asked)| *has_asked);
    let candidates =
        || connections.iter().enumerate().filter(move |(_, (_, has_asked))| all_have_asked || !has_asked);
    let mut of_peer: BTreeMap<Peer, usize> = BTreeMap::new();
    for (_, (peer, _)) in candidates() {
        *of_peer.entry(*peer).or_default() += 1;
    }
    // The first of several that are alike is the oldest.
    candidates().min_by_key(|(_, (peer, _))| usize::MAX - of_peer[peer]).map_or(0, |(oldest, _)| oldest)
}

/// Who an address belongs to: a host of IPv6 has a whole /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    has_asked: Arc<AtomicBool>,
    answering: Option<Answering>,
) {
    let respond = |request| {
        has_asked.store(true, Ordering::Relaxed);
        respond(request, answering)
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(FOR_HEADER).keep_alive(false);
    // A scraper that goes away in the middle, or takes too long, is its own affair.
    let _ =
        tokio::time::timeout(FOR_ALL, http.serve_connection(TokioIo::new(stream), service_fn(respond))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_goes_before_who_is_answered_and_of_those_who_has_most() {
        let addresses = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().expect("an address"));
        let [one, other] = addresses.map(Peer::Network);
        assert_eq!(superfluous(&[(one, true), (other, false)]), 1, "who is answered stays");
        assert_eq!(
            superfluous(&[(one, false), (other, false), (other, false)]),
            1,
            "the oldest of who has most"
        );
        assert_eq!(superfluous(&[(one, true), (other, true), (other, true)]), 1, "also if all are answered");
        assert_eq!(superfluous(&[(other, true), (other, true), (one, false)]), 2, "also if it has but one");
        let network = |address: &str| network(address.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::2"));
        assert_eq!(network("::ffff:192.0.2.1"), addresses[0]);
    }
}
