//! `[serve]`: what concerns the daemon alone.

use serde::{Deserialize, Serialize};

use crate::config::words::{Named, Word};

/// `[serve]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Serve {
    /// What becomes of the program when `serve` is stopped; it stays where nothing is said.
    pub on_stop: Option<Word<OnStop>>,
}

impl Serve {
    /// What becomes of the program when `serve` is stopped.
    pub fn on_stop(&self) -> OnStop {
        self.on_stop.map_or(OnStop::Keep, |word| word.0)
    }
}

/// What becomes of the program when `serve` is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStop {
    /// It goes on.
    Keep,
    /// It is taken off all interfaces of the namespace.
    Detach,
}

impl Named for OnStop {
    const KIND: &'static str = "way to stop";
    const ALL: &'static [Self] = &[Self::Keep, Self::Detach];

    fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Detach => "detach",
        }
    }
}
