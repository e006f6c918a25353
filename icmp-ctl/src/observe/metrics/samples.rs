//! A sample of a metric.
//!
//! Owns the kinds of numbers, and the form of each on the page.

use std::fmt::Error;
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;

/// The value of a sample.
pub(super) enum Number {
    /// Of a counter.
    Count(u64),
    /// Of a counter of seconds.
    Time(Duration),
    /// Of a gauge that counts, or says yes (1) or no (0).
    Whole(i64),
    /// Of a gauge.
    Real(f64),
    /// Of a histogram.
    Histogram(Histogram),
}

impl Number {
    pub(super) fn encode(self, encoder: MetricEncoder<'_>) -> Result<(), Error> {
        match self {
            Self::Count(count) => ConstCounter::new(count).encode(encoder),
            Self::Time(time) => ConstCounter::new(time.as_secs_f64()).encode(encoder),
            Self::Whole(value) => ConstGauge::new(value).encode(encoder),
            Self::Real(value) => ConstGauge::new(value).encode(encoder),
            Self::Histogram(histogram) => histogram.encode(encoder),
        }
    }
}

/// Values of the labels, in the order of their names, and the value.
pub(super) type Sample<'a> = (Vec<&'a str>, Number);
