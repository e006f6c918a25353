//! How long a confirmation is waited for, as it is typed.

use std::time::Duration;

use crate::config::span::Span;

/// How long to wait for a confirmation, as it is typed: `60s`, `5min`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmTimeout(pub Duration);

impl std::str::FromStr for ConfirmTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Span(within) = text.parse()?;
        if within > Self::LONGEST {
            return Err(format!("{text:?} is too long: a confirmation is waited for up to 24h"));
        }
        Ok(Self(within))
    }
}

impl ConfirmTimeout {
    const LONGEST: Duration = Duration::from_secs(86_400);
}
