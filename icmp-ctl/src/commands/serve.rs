//! `serve`: attaches what the configuration names, follows addresses, serves metrics. The program goes on without it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Serve;
use crate::config::file::Config;
use crate::diagnostics::{note, warn};
use crate::host::netlink;
use crate::instance::addresses::follow;
use crate::instance::attach::AttachMode;
use crate::observe::http::respond;
use crate::output::Output;
use crate::policy::start::{Wanted, start};
use crate::policy::transaction::{Allowed, Proposal};

/// How long no connection is accepted after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn run(args: &Serve, config: Config) -> Result<Output> {
    // What can fail without touching the program comes first.
    let address = config.metrics.listen;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("listening on {address}, the `listen` of [metrics]; another may hold the port")
    })?;
    let mut changes = netlink::changes()?;
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    put_in_force(config, args.config.is_some()).await?;
    follow().await;
    #[cfg(feature = "trace")]
    std::thread::spawn(|| {
        if let Err(error) = crate::observe::trace::print() {
            warn(&format!("tracing: {error:#}"));
        }
    });
    note(&format!("serving metrics at http://{address}/metrics"));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    // Out of descriptors, mostly: at once it would fail again.
                    Err(error) => {
                        warn(&format!("accepting a connection on {address}: {error}"));
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(respond);
                    // A scraper that goes away in the middle is its own affair.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
            changed = changes.next() => {
                changed.context("rtnetlink has ended the stream of address changes")?;
                follow().await;
            }
            _ = hangup.recv() => reload(args, address).await,
            _ = terminate.recv() => return Ok(Output::nothing()),
            _ = interrupt.recv() => return Ok(Output::nothing()),
        }
    }
}

/// Attaches what the configuration names, and puts it in force where nothing is or where it is to take the place of what is.
async fn put_in_force(config: Config, reconfigure: bool) -> Result<()> {
    // Attaching reads the network on an event loop of its own, which must not be nested in this one.
    tokio::task::spawn_blocking(move || {
        let proposal = Proposal::of_file(&config, Allowed::default(), config.interfaces.first())?;
        let wanted =
            Wanted { interfaces: &config.interfaces, mode: AttachMode::Auto, keep_tags: false, reconfigure };
        start(wanted, &config, proposal).map(drop)
    })
    .await?
}

/// Reads the configuration again; one that is refused changes nothing.
async fn reload(args: &Serve, address: SocketAddr) {
    let reloaded = async {
        let config = Config::load(args.config.as_deref())?;
        if config.metrics.listen != address {
            warn("`listen` of [metrics] has changed, which takes a restart of `serve`");
        }
        put_in_force(config, true).await
    };
    match reloaded.await {
        Ok(()) => note("the configuration was read again and is in force"),
        Err(error) => warn(&format!("reading the configuration again, nothing has changed: {error:#}")),
    }
}
