//! The program's counters, for people and for Prometheus.

pub mod connections;
pub mod events;
mod front;
pub mod http;
pub mod levels;
mod look;
pub mod metrics;
pub mod peers;
pub mod rates;
pub mod readers;
pub mod sources;
#[cfg(feature = "trace")]
pub(crate) mod trace;
