//! `serve`: attaches what the configuration names, follows addresses and interfaces, serves metrics. The program goes on without it.

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Serve;
use crate::config::file::Config;
use crate::diagnostics::note;
use crate::follow::{Follower, run_on_thread};
use crate::host::netlink::event_loop;
use crate::kernel::netlink::Changes;
use crate::observe::connections::accept;
use crate::output::Output;

pub(super) fn run(args: &Serve, config: Config) -> Result<Output> {
    let events = event_loop()?;
    let ended = events.block_on(until_ended(args, config));
    // A thread that waits for a lock is no reason to stay.
    events.shutdown_background();
    ended.map(|()| Output::nothing())
}

/// Nothing that blocks is done on this thread, so that a signal ends it at once.
async fn until_ended(args: &Serve, config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    tokio::select! {
        failed = serve(args, config) => failed,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Ends with an error only, and with none once everything has worked for the first time.
async fn serve(args: &Serve, config: Config) -> Result<()> {
    // What can fail without touching the program comes first.
    let address = config.metrics.listen;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("listening on {address}, the `listen` of [metrics]; another may hold the port")
    })?;
    let changes = Changes::listen()?;
    let hangups = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    let follower = Follower::new(args.config.clone(), config);
    let (follower, started) = run_on_thread(follower, Follower::start).await?;
    started?;
    #[cfg(feature = "trace")]
    std::thread::spawn(|| {
        if let Err(error) = crate::observe::trace::print() {
            crate::diagnostics::warn(&format!("tracing: {error:#}"));
        }
    });
    note(&format!("serving metrics at http://{address}/metrics"));
    tokio::spawn(accept(listener));
    follower.follow(changes, hangups).await
}
