//! `serve`: attaches the interfaces of the configuration, follows addresses and interfaces, serves metrics. The program works without it,
//! unless the configuration says otherwise.

use std::time::Duration;

use anyhow::{Context as _, Result};
use icmp_common::abi::Tap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::endpoints::Endpoints;
use super::{detach, upgrade};
use crate::cli::{Serve, change::Detach};
use crate::config::file::Config;
use crate::config::service::OnStop;
use crate::failure::{Exit, exit_of};
use crate::follow::Following;
use crate::health;
use crate::host::netlink::event_loop;
use crate::instance::capture::give_up;
use crate::kernel::confine::{confine, give_up_connecting};
use crate::kernel::memory::share_one_heap;
use crate::kernel::netlink::Changes;
use crate::observe::events::receivers::Receivers;
use crate::observe::events::told::{self, Watching};
use crate::output::Output;
use crate::service_manager;

/// How long another process that changes the instance is waited for before the program is taken off.
const FOR_DETACHING: Duration = Duration::from_secs(10);

pub(super) fn run(args: &Serve) -> Result<Output> {
    if args.reload_on_change {
        let _can_be_read_again = Config::text_again(args.config.as_deref())?;
    }
    if args.upgrade {
        upgrade::of_another_build()?;
    }
    confine()?;
    // With what is left, so that what cannot be read at a reload cannot be read now.
    let config = Config::load(args.config.as_deref())?;
    let webhook = config.events.webhook.iter().map(|webhook| webhook.address.port());
    give_up_connecting(&health::ports(&config).into_iter().chain(webhook).collect::<Vec<_>>())?;
    share_one_heap();
    let ended = event_loop()?.block_on(until_ended(args, config));
    crate::kernel::command::end_all();
    ended.map(|()| Output::nothing())
}

/// Nothing that blocks is done on this thread, so that a signal ends it at once.
async fn until_ended(args: &Serve, config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let following = Following::new(args.config.clone(), &config, args.reload_on_change);
    tokio::select! {
        failed = serve(&following, config) => return failed,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service_manager::stopping();
    give_up(Tap::Events);
    match following.on_stop() {
        OnStop::Keep => Ok(()),
        OnStop::Detach => timeout(FOR_DETACHING, following.end(detach_all)).await.with_context(|| {
            format!(
                "waited {} s to take the program off, as `on-stop` of [serve] says; it stays: `icmp-ctl detach --all` takes it off",
                FOR_DETACHING.as_secs()
            )
        })??,
    }
}

fn detach_all() -> Result<()> {
    match detach::run(&Detach { interfaces: Vec::new(), all: true }) {
        Err(error) if exit_of(&error) != Exit::NothingLoaded => Err(error),
        _ => Ok(()),
    }
}

/// Ends with an error only, and with none once everything has worked for the first time.
async fn serve(following: &Following, config: Config) -> Result<()> {
    // What can fail without touching the program comes first.
    let endpoints = Endpoints::listen(&config.metrics.listen).await?;
    let changes = Changes::listen()?;
    let hangups = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    let (watching, receivers) = (Watching::begin().await?, Receivers::start(following.events()));
    following.start(config).await?;
    #[cfg(feature = "trace")]
    crate::kernel::threads::start(|| {
        if let Err(error) = crate::observe::trace::print() {
            crate::diagnostics::warn(&format!("tracing: {}", crate::failure::sentence(&error)));
        }
    })?;
    endpoints.open();
    tokio::select! {
        followed = following.follow(changes, hangups) => followed,
        checked = health::keep() => match checked? {},
        told = told::keep(watching, receivers) => match told? {},
    }
}
