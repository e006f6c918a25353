//! The figures of one moment for the live view.
//!
//! Owns what is read, from maps and host. `rates.rs` owns the difference between two moments, `top` the screen.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::host::netlink::Network;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::View;
use crate::kernel::clock::{Tick, ticks};
use crate::observe::levels::levels;
use crate::observe::rates::Reading;
use crate::observe::sources::{Sources, sources};

/// What there is to see.
#[derive(Deserialize, Serialize)]
pub struct Look {
    /// What was counted so far.
    pub reading: Reading,
    /// How the program is attached, by interface.
    pub modes: BTreeMap<String, String>,
    /// What is left of each budget, from 0 to 1; `None` where there is no limit.
    pub budgets: Vec<(String, Option<f64>)>,
    /// Who sends.
    pub sources: Sources,
    /// Whether the reply budget is exhausted; `None` where that cannot be known.
    pub under_pressure: Option<bool>,
    /// How long until a policy that awaits confirmation is taken back.
    pub pending: Option<Duration>,
}

impl Look {
    /// Looks at it now.
    ///
    /// # Errors
    /// A map or the clock cannot be read.
    pub fn of(instance: &View, network: &Network) -> Result<Self> {
        let settings = instance.read(InstanceMaps::settings)?.context("the program has no settings")?;
        let tick = Tick::of_this_kernel()?;
        let heavy_hitters = instance.maps.heavy_hitters()?;
        let reading = Reading::of(instance, network)?;
        // Asked last, so that no entry is of a window to come.
        let now = ticks()?;
        let modes =
            network.links.iter().filter_map(|link| Some((link.name.clone(), link.xdp?.mode.to_owned())));
        let budgets = levels(&instance.maps, &settings, now)?;
        Ok(Self {
            reading,
            modes: modes.collect(),
            budgets: budgets.into_iter().map(|(name, left)| (name.name().to_owned(), left)).collect(),
            sources: sources(&heavy_hitters, &settings, tick, now),
            under_pressure: instance.maps.pressure(),
            pending: instance.maps.pending()?,
        })
    }
}
