//! Which frames are captured, as the program reads it.

use anyhow::{Result, anyhow};
use icmp_common::abi::{Capture, NO_RULE};
use icmp_common::reason::{Reason, Verdict};

use crate::cli::packets::Capture as Args;
use crate::commands::table::only;
use crate::config::suggestions::did_you_mean;
use crate::config::units::Rate;
use crate::host::netlink::Network;
use crate::instance::addresses::slots;
use crate::instance::pins::Pins;
use crate::kernel::clock::Tick;

/// Without its number and its time. Interfaces and rules have other slots when they are taken away and come again.
pub(super) fn of(args: &Args, instance: &Pins) -> Result<Capture> {
    let slots = if args.interfaces.is_empty() {
        u32::MAX
    } else {
        let network = Network::read_once()?;
        let named = only(slots(instance, &network)?, &args.interfaces, &network, |(_, name)| name)?;
        named.iter().fold(0, |mask, (slot, _)| mask | 1 << slot)
    };
    let burst = match args.rate {
        Rate::PerSecond(rate) => rate.ceil() as u64,
        Rate::Unlimited => 0,
    };
    Ok(Capture {
        reasons: reasons(args).fold(0, |mask, reason| mask | 1 << reason as u64),
        limit: Tick::of_this_kernel()?.limit("--rate", args.rate, burst)?,
        every: args.every,
        rule: args.rule.as_deref().map_or(Ok(NO_RULE), |name| slot_of(name, instance))?,
        snap_len: args.snapshot_length,
        slots,
        ..Capture::default()
    })
}

/// Those that are named, or of the verdicts that are; and without either, what is about ICMP.
fn reasons(args: &Args) -> impl Iterator<Item = Reason> {
    let is_named = |reason: Reason| args.reasons.iter().any(|named| named.0 == reason);
    let is_of_verdict = |verdict: Verdict| args.verdicts.iter().any(|named| named.0 == verdict);
    let is_icmp = |reason: Reason| !matches!(reason, Reason::NotIcmp | Reason::NotIp);
    Reason::ALL.iter().copied().filter(move |reason| {
        is_named(*reason)
            || is_of_verdict(reason.verdict()) && is_icmp(*reason)
            || args.reasons.is_empty() && args.verdicts.is_empty() && is_icmp(*reason)
    })
}

fn slot_of(name: &str, instance: &Pins) -> Result<u32> {
    let rules = instance.maps.rule_slots()?;
    let slot = rules.iter().find(|(rule, _)| rule == name).map(|(_, slot)| *slot);
    slot.ok_or_else(|| {
        anyhow!(
            "there is no rule {name}{}; `icmp-ctl rule list` shows them",
            did_you_mean(name, rules.iter().map(|(rule, _)| rule.as_str()))
        )
    })
}
