//! How long a confirmation is waited for, as it is typed.

use std::time::Duration;

/// How long to wait for a confirmation, as it is typed: `60s`, `5min`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmTimeout(pub Duration);

impl std::str::FromStr for ConfirmTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let units = [("ms", 1e-3), ("min", 60.0), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let seconds = units.iter().find_map(|(suffix, unit)| {
            Some(text.strip_suffix(suffix)?.trim_end().parse::<f64>().ok()? * unit)
        });
        seconds
            .filter(|seconds| *seconds > 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|within| *within <= Self::LONGEST)
            .map(Self)
            .ok_or_else(|| {
                format!("{text:?} is no time to wait: write it like 60s, 5min or 250ms, up to 24h")
            })
    }
}

impl ConfirmTimeout {
    const LONGEST: Duration = Duration::from_secs(86_400);
}
