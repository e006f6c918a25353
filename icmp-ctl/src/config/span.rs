//! Spans of time, as users write them.
//!
//! Owns the grammar (`250ms`, `60s`, `5min`, `1h`). Each key has its own bounds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// Units in seconds; a name that ends in another one's comes before it.
const UNITS: [(&str, f64); 5] = [("ms", 1e-3), ("min", 60.0), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        UNITS
            .iter()
            .find_map(|(unit, seconds)| {
                Some(text.strip_suffix(unit)?.trim_end().parse::<f64>().ok()? * seconds)
            })
            .filter(|seconds| *seconds > 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no span of time: write it like 250ms, 60s, 5min or 1h"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_nanos() {
            0 => write!(f, "{}s", self.0.as_secs()),
            _ => write!(f, "{}ms", self.0.as_secs_f64() * 1e3),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read_and_nonsense_is_refused_with_the_forms_that_work() {
        for (text, milliseconds) in
            [("250ms", 250), ("60s", 60_000), ("1.5 s", 1500), ("5min", 300_000), ("1h", 3_600_000)]
        {
            let span = Span(Duration::from_millis(milliseconds));
            assert_eq!(text.parse(), Ok(span), "{text}");
            assert_eq!(span.to_string().parse(), Ok(span), "{text} is written as {span}");
        }
        for text in ["", "60", "s", "0s", "-1s", "nans", "1e999s", "1 day"] {
            assert!(text.parse::<Span>().expect_err(text).contains("5min"), "{text}");
        }
    }
}
