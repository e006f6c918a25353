//! The state of an instance, and the changes between two states.
//!
//! Owns the comparison. [`super::watch`] reads the states.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::instance::changed::{Became, Change};
use crate::observe::events::{Addresses, Author, Interface, Vip, What};

/// How it is; by default nothing is loaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// What is attached, by the index of the interface.
    pub interfaces: BTreeMap<u32, Interface>,
    /// What is answered.
    pub addresses: BTreeSet<IpAddr>,
    /// The last change of the policy.
    pub change: Option<Change>,
    /// The policy awaits confirmation.
    pub awaits: bool,
    /// The reply budget is exhausted; `None` where that cannot be known now.
    pub under_pressure: Option<bool>,
    /// VIPs with a check, and whether they are healthy.
    pub vips: BTreeMap<Vip, bool>,
}

impl State {
    /// With what cannot be known now as it was before.
    pub fn or_as(self, before: &Self) -> Self {
        Self { under_pressure: self.under_pressure.or(before.under_pressure), ..self }
    }

    /// With a confirmation as awaited for one look more, where it was and nobody has noted why it is not: who puts another policy in the place of
    /// one that awaits it notes so a moment later. `is_late` is whether that was so at the look before.
    pub fn or_awaiting(self, before: &Self, is_late: &mut bool) -> Self {
        let is_unexplained = before.awaits && !self.awaits && self.change == before.change;
        let awaits = self.awaits || (is_unexplained && !*is_late);
        *is_late = is_unexplained;
        Self { awaits, ..self }
    }

    /// What has happened since it was as `before`.
    pub fn since(&self, before: &Self) -> Vec<What> {
        let mut happened = Vec::new();
        for (index, interface) in &before.interfaces {
            if !self.interfaces.contains_key(index) {
                happened.push(What::Detached(interface.clone()));
            }
        }
        happened.extend(self.policy(before));
        for (index, interface) in &self.interfaces {
            match before.interfaces.get(index) {
                None => happened.push(What::Attached(interface.clone())),
                Some(was) if was.behind != interface.behind => {
                    happened.push(What::ChainChanged(interface.clone()));
                }
                Some(_) => {}
            }
        }
        happened.extend(self.addresses(before));
        for (vip, is_healthy) in &self.vips {
            // One that is new is unhealthy until its check has succeeded.
            if before.vips.get(vip).copied().unwrap_or(false) != *is_healthy {
                let became = if *is_healthy { What::VipHealthy } else { What::VipUnhealthy };
                happened.push(became(vip.clone()));
            }
        }
        match (before.under_pressure, self.under_pressure) {
            (Some(false) | None, Some(true)) => happened.push(What::PressureStarted),
            (Some(true), Some(false)) => happened.push(What::PressureEnded),
            _ => {}
        }
        happened
    }

    fn policy(&self, before: &Self) -> Option<What> {
        match &self.change {
            // It is not there for a moment when another one takes its place.
            Some(change) if before.change.as_ref() != Some(change) => {
                let author = Author { user: change.user(), uid: change.uid, command: change.command.clone() };
                Some(match change.became {
                    Became::Applied => What::PolicyApplied(author),
                    Became::Confirmed => What::PolicyConfirmed(author),
                    Became::RolledBack => What::PolicyRolledBack(author),
                })
            }
            Some(_) if before.awaits && !self.awaits => Some(What::PolicyTimedOut),
            _ => None,
        }
    }

    fn addresses(&self, before: &Self) -> Option<What> {
        let listed = |new: &BTreeSet<IpAddr>, old: &BTreeSet<IpAddr>| -> Vec<String> {
            new.difference(old).map(ToString::to_string).collect()
        };
        let (mut added, mut removed) =
            (listed(&self.addresses, &before.addresses), listed(&before.addresses, &self.addresses));
        let all = added.len() + removed.len();
        added.truncate(Addresses::LISTED);
        removed.truncate(Addresses::LISTED);
        let unlisted = all - added.len() - removed.len();
        (all > 0).then_some(What::AddressesChanged(Addresses { added, removed, unlisted }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(behind: Option<&str>) -> Interface {
        Interface {
            interface: "eth0".to_owned(),
            mode: "native".to_owned(),
            behind: behind.map(str::to_owned),
        }
    }

    fn vip(is_healthy: bool) -> BTreeMap<Vip, bool> {
        BTreeMap::from([(Vip { vip: "192.0.2.9/32".to_owned(), check: "file:/up".to_owned() }, is_healthy)])
    }

    /// What happens from each state to the next.
    fn happened(states: &[State]) -> Vec<String> {
        states.windows(2).flat_map(|two| two[1].since(&two[0])).map(|what| what.name()).collect()
    }

    #[test]
    fn what_is_as_before_has_not_happened_and_what_is_not_has_once() {
        let attached = State { interfaces: BTreeMap::from([(7, interface(None))]), ..State::default() };
        let chained =
            State { interfaces: BTreeMap::from([(7, interface(Some("in front of a")))]), ..State::default() };
        let states =
            [State::default(), attached.clone(), attached, chained.clone(), chained, State::default()];
        assert_eq!(happened(&states), ["attached", "chain-changed", "detached"]);
        let under = |under_pressure| State { under_pressure: Some(under_pressure), ..State::default() };
        assert_eq!(
            happened(&[under(false), under(true), under(true), under(false)]),
            ["pressure-started", "pressure-ended"]
        );
        // What could not be read in between has not ended.
        let unknown = State::default().or_as(&under(true));
        assert_eq!(happened(&[under(true), unknown.clone()]), [""; 0]);
        assert_eq!(happened(&[unknown, under(false)]), ["pressure-ended"]);
        let health = |is_healthy| State { vips: vip(is_healthy), ..State::default() };
        let states =
            [State::default(), health(false), health(true), health(true), health(false), State::default()];
        assert_eq!(happened(&states), ["vip-healthy", "vip-unhealthy"]);
    }

    #[test]
    fn a_confirmation_that_ended_by_a_change_that_is_noted_later_has_not_timed_out() {
        let changes = [Change::now(Became::Applied), Change::now(Became::Applied)];
        let noted = |change: usize, awaits| State {
            change: Some(changes[change].clone()),
            awaits,
            ..State::default()
        };
        let mut before = noted(0, true);
        let (mut is_late, mut happened) = (false, Vec::new());
        // Another policy is in the place of one that awaits confirmation, and is noted; of the next one nothing is.
        for state in [noted(0, false), noted(1, false), noted(1, true), noted(1, false), noted(1, false)] {
            let state = state.or_awaiting(&before, &mut is_late);
            happened.extend(state.since(&before).into_iter().map(|what| what.name()));
            before = state;
        }
        assert_eq!(happened, ["policy-applied", "policy-timed-out"]);
    }

    #[test]
    fn addresses_that_come_and_go_together_are_one_event_whose_list_has_an_end() {
        let all = |range: std::ops::Range<u32>| State {
            addresses: range.map(|i| IpAddr::V4(i.into())).collect(),
            ..State::default()
        };
        let What::AddressesChanged(changed) = &all(90..100).since(&all(0..100))[0] else {
            panic!("addresses")
        };
        assert_eq!(
            (changed.added.len(), changed.removed.len(), changed.unlisted),
            (0, Addresses::LISTED, 74)
        );
        let What::AddressesChanged(changed) = &all(1..3).since(&all(0..2))[0] else { panic!("addresses") };
        assert_eq!((&*changed.added[0], &*changed.removed[0], changed.unlisted), ("0.0.0.2", "0.0.0.0", 0));
    }
}
