//! The connections of the metrics' endpoint: how many there may be and for how long, so that whoever opens too many is no harm to the rest.
//!
//! Owns who has to go where there are too many: not who is being answered while others say nothing, and of these one of the network that has
//! most.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::diagnostics::warn_about;
use crate::observe::http::respond;

/// Connections at a time. One more, and one has to go.
const MOST: usize = 64;
/// Time from the beginning of a connection to the end of the request's header.
const FOR_HEADER: Duration = Duration::from_secs(5);
/// Time for all of it: one request and its answer.
const FOR_ALL: Duration = Duration::from_secs(30);
/// How long no connection is accepted after one could not be: at once it would fail again.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts connections for ever.
pub async fn accept(listener: TcpListener) {
    // Oldest first.
    let mut connections: Vec<Connection> = Vec::new();
    let mut failed = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failed = false;
                connections.retain(|connection| !connection.task.is_finished());
                let has_asked = Arc::new(AtomicBool::new(false));
                let task = tokio::spawn(serve(stream, Arc::clone(&has_asked))).abort_handle();
                connections.push(Connection { task, network: network(peer.ip()), has_asked });
                if connections.len() > MOST {
                    let seen: Vec<_> = connections.iter().map(Connection::seen).collect();
                    connections.remove(superfluous(&seen)).task.abort();
                }
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

/// A connection that has come.
struct Connection {
    task: AbortHandle,
    network: IpAddr,
    /// Its request has come, and is being answered.
    has_asked: Arc<AtomicBool>,
}

impl Connection {
    fn seen(&self) -> (IpAddr, bool) {
        (self.network, self.has_asked.load(Ordering::Relaxed))
    }
}

/// Which of these has to go, each the network that it comes from and whether it has asked, oldest first: the oldest that has not asked, of the
/// network that has most of those; if all have, the oldest of the network that has most.
fn superfluous(connections: &[(IpAddr, bool)]) -> usize {
    let all_have_asked = connections.iter().all(|(_, has_asked)| *has_asked);
    let candidates =
        || connections.iter().enumerate().filter(move |(_, (_, has_asked))| all_have_asked || !has_asked);
    let mut of_network: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (_, (network, _)) in candidates() {
        *of_network.entry(*network).or_default() += 1;
    }
    // The first of several that are alike is the oldest.
    candidates()
        .min_by_key(|(_, (network, _))| usize::MAX - of_network[network])
        .map_or(0, |(oldest, _)| oldest)
}

/// Who an address belongs to: a host of IPv6 has a whole /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

async fn serve(stream: TcpStream, has_asked: Arc<AtomicBool>) {
    let respond = |request| {
        has_asked.store(true, Ordering::Relaxed);
        respond(request)
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
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().expect("an address"));
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
        assert_eq!(network("::ffff:192.0.2.1"), one);
    }
}
