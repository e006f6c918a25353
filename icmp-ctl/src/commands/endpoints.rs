//! The endpoints of `serve`: metrics over HTTP, and the sockets for members of the group.

use std::io::ErrorKind;

use anyhow::{Context as _, Result};

use super::look::answer;
use crate::config::service::Listen;
use crate::diagnostics::{note_about, warn_about};
use crate::failure::sentence;
use crate::kernel::sockets;
use crate::observe::connections::{Listener, accept};
use crate::observe::readers;

/// What is listened at.
pub(super) struct Endpoints {
    /// With the port that was got.
    listen: Listen,
    metrics: Listener,
    readers: Option<Listener>,
}

impl Endpoints {
    /// Listens, and answers nobody so far.
    ///
    /// # Errors
    /// The metrics' address or socket cannot be had.
    pub(super) async fn listen(listen: &Listen) -> Result<Self> {
        let (metrics, listen) = match listen {
            Listen::Tcp(address) => Listener::tcp(*address)
                .await
                .map(|(listener, got)| (listener, Listen::Tcp(got)))
                .map_err(|error| {
                    let reason = match error.kind() {
                        ErrorKind::PermissionDenied if address.port() < 1024 => {
                            "; `serve` has no CAP_NET_BIND_SERVICE, and listens on ports from 1024 on"
                        }
                        ErrorKind::AddrInUse => "; another holds the port",
                        ErrorKind::AddrNotAvailable => "; no interface that is up has that address here",
                        _ => "",
                    };
                    anyhow::Error::from(error)
                        .context(format!("listening on {listen}, the `listen` of [metrics]{reason}"))
                }),
            Listen::Unix(path) => Listener::unix(path)
                .map(|listener| (listener, listen.clone()))
                .with_context(|| format!("listening on {listen}, the `listen` of [metrics]")),
        }?;
        Ok(Self { listen, metrics, readers: for_readers() })
    }

    /// Answers from now on.
    pub(super) fn open(self) {
        tokio::spawn(accept(self.metrics, None));
        if let Some(readers) = self.readers {
            tokio::spawn(accept(readers, Some(answer)));
        }
        match self.listen {
            Listen::Unix(_) => note_about("metrics", None, &format!("serving metrics at {}", self.listen)),
            Listen::Tcp(address) => {
                note_about("metrics", None, &format!("serving metrics at http://{address}/metrics"));
                if !address.ip().is_loopback() {
                    let text = format!(
                        "every client that reaches {address} may read the metrics: `listen` of [metrics] is not only for this host"
                    );
                    warn_about("metrics", None, &text);
                }
            }
        }
    }
}

/// For who may not open the maps; `None` where no group may ask, or where that cannot be: it is no reason not to follow the host.
fn for_readers() -> Option<Listener> {
    let listener = sockets::group()
        .and_then(|group| group.map(|group| Ok((group, Listener::unix(&readers::socket()?)?))).transpose());
    match listener {
        Ok(Some((group, listener))) => {
            note_about("readers", None, &format!("members of group {group} may look without root"));
            Some(listener)
        }
        Ok(None) => None,
        Err(error) => {
            let text = match readers::socket().ok().and_then(|path| sockets::listener(&path)) {
                Some(process) => format!(
                    "another `serve` runs in this network namespace, process {process}, and is asked by who looks without root; one is enough"
                ),
                None => format!("no user may look without root: {}", sentence(&error)),
            };
            warn_about("readers", None, &text);
            None
        }
    }
}
