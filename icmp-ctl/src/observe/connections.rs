//! The connections of `serve`'s endpoints: how many there may be and for how long, so that a client with too many does not harm the others.
//!
//! Owns which connection is closed if there are too many: not one that is being answered while others are silent, and of the silent ones one of
//! the network that has most.

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
/// Of these, connections of one network or user: questions are answered one at a time, and others' are not to wait for more.
const MOST_OF_ONE: usize = 16;
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
    /// Listens at an address, and tells it: port 0 is whichever is free.
    ///
    /// # Errors
    /// It cannot be listened at.
    pub async fn tcp(address: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((Self::Tcp(listener), address))
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
        let is_answered = Arc::new(AtomicBool::new(false));
        let (task, peer) = match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                let task = tokio::spawn(serve(stream, Arc::clone(&is_answered), answering));
                (task, Peer::Network(network(address.ip())))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::User(stream.peer_cred()?.uid());
                (tokio::spawn(serve(stream, Arc::clone(&is_answered), answering)), peer)
            }
        };
        Ok(Connection { task: task.abort_handle(), peer, is_answered })
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
                let seen: Vec<_> = connections.iter().map(Connection::seen).collect();
                if let Some(superfluous) = superfluous(&seen) {
                    connections.remove(superfluous).task.abort();
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
    /// It is its turn to be answered.
    is_answered: Arc<AtomicBool>,
}

/// Who a connection is from, as far as that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Network(IpAddr),
    User(u32),
}

impl Connection {
    fn seen(&self) -> (Peer, bool) {
        (self.peer, self.is_answered.load(Ordering::Relaxed))
    }
}

/// Which of these has to go, if one has to; each who it is from and whether it is its turn, oldest first. Where the newest is one too many of
/// its peer's it is one of those, otherwise of who has most: the oldest whose turn has not come, or if all are answered the oldest.
fn superfluous(connections: &[(Peer, bool)]) -> Option<usize> {
    let (newest, _) = connections.last()?;
    let of = |peer: &Peer| connections.iter().filter(|(of, _)| of == peer).count();
    let is_of_one = of(newest) > MOST_OF_ONE;
    if !is_of_one && connections.len() <= MOST {
        return None;
    }
    let may_go: Vec<_> =
        connections.iter().enumerate().filter(|(_, (peer, _))| !is_of_one || peer == newest).collect();
    let all_are_answered = may_go.iter().all(|(_, (_, is_answered))| *is_answered);
    let mut of_peer: BTreeMap<Peer, usize> = BTreeMap::new();
    let candidates: Vec<_> =
        may_go.into_iter().filter(|(_, (_, is_answered))| all_are_answered || !is_answered).collect();
    for (_, (peer, _)) in &candidates {
        *of_peer.entry(*peer).or_default() += 1;
    }
    // The first of several that are alike is the oldest.
    candidates.iter().min_by_key(|(_, (peer, _))| usize::MAX - of_peer[peer]).map(|(oldest, _)| *oldest)
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
    is_answered: Arc<AtomicBool>,
    answering: Option<Answering>,
) {
    let respond = |request| respond(request, answering, Arc::clone(&is_answered));
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
    fn who_is_not_being_answered_goes_before_who_is_and_of_those_who_has_most() {
        let of = |user: u32, count: usize, is_answered| vec![(Peer::User(user), is_answered); count];
        let all = |parts: &[Vec<(Peer, bool)>]| superfluous(&parts.concat());
        let answered = |count| {
            let users = (0..count).flat_map(|user: u32| of(user, 8, true));
            users.collect::<Vec<_>>()
        };
        assert_eq!(all(&[answered(7), of(100, 8, false)]), None, "there is room");
        assert_eq!(all(&[answered(8), of(100, 1, false)]), Some(64), "who is answered stays");
        assert_eq!(
            all(&[of(100, 1, false), answered(7), of(101, 8, false)]),
            Some(57),
            "the oldest of who has most"
        );
        assert_eq!(all(&[answered(8), of(1, 1, true)]), Some(8), "also if all are answered");
    }

    #[test]
    fn one_peer_takes_no_more_than_its_part_and_none_of_anothers() {
        let own = Peer::User(1);
        let others = || vec![(Peer::User(2), false); 3];
        let most = [others(), vec![(own, false); MOST_OF_ONE]].concat();
        assert_eq!(superfluous(&most), None);
        assert_eq!(superfluous(&[&most[..], &[(own, false)]].concat()), Some(3), "its own oldest");
        assert_eq!(
            superfluous(&[&[(own, true)], &most[..]].concat()),
            Some(4),
            "not the one that is answered"
        );
    }

    #[test]
    fn a_host_is_one_peer_whatever_its_addresses() {
        let network = |address: &str| network(address.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::2"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
