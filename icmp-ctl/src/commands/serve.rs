//! `serve`: attaches what the configuration names, follows addresses, serves metrics. The program goes on without it.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::file::Config;
use crate::diagnostics::{note, warn};
use crate::host::netlink::{self, Network};
use crate::instance::addresses::refresh;
use crate::instance::attach::AttachMode;
use crate::instance::pins::Instance;
use crate::observe::http::respond;
use crate::output::Output;
use crate::policy::transaction::{attach_all, check};

/// How long no connection is accepted after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn run(config: &Config, reconfigure: bool) -> Result<Output> {
    if !config.interfaces.is_empty() {
        // Attaching reads the network on an event loop of its own, which must not be nested in this one.
        let (names, config) = (config.interfaces.clone(), config.clone());
        tokio::task::spawn_blocking(move || {
            let checked = check(&config, &[], names.first())?;
            attach_all(&names, AttachMode::Auto, false, reconfigure, &config, &checked)
        })
        .await??;
    }
    let address = config.metrics.listen;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("listening on {address}, the `listen` of [metrics]; another may hold the port")
    })?;
    let mut changes = netlink::changes()?;
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
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
            _ = terminate.recv() => return Ok(Output::nothing()),
            _ = interrupt.recv() => return Ok(Output::nothing()),
        }
    }
}

/// Brings the tables in line with the host; what cannot be done now is said, and tried again at the next change.
async fn follow() {
    // It waits for whoever else changes the instance, and this thread has others to serve.
    let refreshed = tokio::task::spawn_blocking(|| match Instance::find()? {
        Some(mut instance) => refresh(&mut instance, &Network::read_once()?),
        None => Ok(Vec::new()),
    });
    match refreshed.await.map_err(anyhow::Error::from).flatten() {
        Ok(left_out) if left_out.is_empty() => {}
        Ok(left_out) => warn(&format!("{} addresses do not fit the address table", left_out.len())),
        Err(error) => warn(&format!("following the host's addresses: {error:#}")),
    }
}
