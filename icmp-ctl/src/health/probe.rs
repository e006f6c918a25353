//! One check of a VIP's service.
//!
//! Owns what each kind of check does, and what counts as success. `mod.rs` owns the schedule and the consequences.

use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config::vip::{Check, Kind};
use crate::failure::sentence;
use crate::kernel::command::ask;
use crate::kernel::http;
use crate::kernel::threads::on_thread;

/// A check, which does not end by itself after `timeout`. What blocks has a thread, which goes on where nobody waits for it any more.
pub(super) fn begin(check: &Check, timeout: Duration) -> BoxFuture<'static, Result<(), String>> {
    match check.kind.clone() {
        Kind::File(path) => Box::pin(blocking(move || file(&path))),
        Kind::Systemd(unit) => Box::pin(blocking(move || systemd(&unit, timeout))),
        Kind::Tcp(address) => Box::pin(async move { http::connect(address).await.map(|_| ()) }),
        Kind::Http { address, host, path } => {
            Box::pin(async move { http::ask(address, &host, &path, None).await })
        }
    }
}

async fn blocking(check: impl FnOnce() -> Result<(), String> + Send + 'static) -> Result<(), String> {
    on_thread(check).await.unwrap_or_else(|error| Err(sentence(&error)))
}

fn file(path: &Path) -> Result<(), String> {
    path.metadata().map(|_| ()).map_err(|error| error.to_string())
}

fn systemd(unit: &str, timeout: Duration) -> Result<(), String> {
    let state = ask("systemctl", &["show", "--property=ActiveState", "--value", "--", unit], timeout)?;
    match state.as_deref().map(str::trim) {
        Some("active") => Ok(()),
        Some(state) => Err(format!("{unit} is {state}")),
        None => Err("there is no systemctl to ask; checks of units need systemd".to_owned()),
    }
}
