//! What the program has counted, for people and for Prometheus.

pub mod metrics;
#[cfg(feature = "trace")]
pub(crate) mod trace;
