//! How the maps of an earlier version are carried over to this one, map by map.
//!
//! Owns the table of the maps that differ, [`from`], and how each kind is carried over while programs write: the old program until the links
//! run the new one, the new one from then on. Maps that are not in the table have the same layout and the same meaning: they stay.

use std::path::Path;

use anyhow::{Context as _, Result};
use icmp_common::abi::VERSION;

use crate::kernel::words::{Change, Words};

/// A map that is another one in this version than in the one before: in one of them it may not be there at all.
pub struct Different {
    /// Its name.
    pub map: &'static str,
    /// How it is carried over.
    pub carried: Carried,
}

/// How a map is carried over. Positions are those of words of 64 bits among those of all elements.
pub enum Carried {
    /// The controller alone writes it: all words of the new one, made of all of the old one.
    Written(fn(&[u64]) -> Vec<u64>),
    /// Numbers that only grow, in a per-CPU array: where each goes. They are added when the old program has counted its last.
    Counted(fn(usize) -> usize),
    /// Instants of which the later one holds, as buckets are: where each goes.
    Instants(fn(usize) -> usize),
    /// Not at all; and what is lost with it.
    Anew(&'static str),
}

/// The maps that differ from those of a version; `None` where nothing is known of that version, or nothing that this binary could do with it.
pub fn from(version: u32) -> Option<&'static [Different]> {
    match version {
        VERSION => Some(&[]),
        #[cfg(feature = "next-abi")]
        before if before + 1 == VERSION => Some(next::DIFFERENT),
        // Maps that there are since then begin empty; and version 7 had no entries of ports.
        #[cfg(not(feature = "next-abi"))]
        10 | 9 => Some(&version10::DIFFERENT),
        #[cfg(not(feature = "next-abi"))]
        8 | 7 => Some(&version8::DIFFERENT),
        #[cfg(not(feature = "next-abi"))]
        6 => Some(&version6::DIFFERENT),
        _ => None,
    }
}

/// Writes what the controller alone writes. Nobody else may change the old instance meanwhile.
///
/// # Errors
/// A map cannot be read or written.
pub(super) fn write(different: &[Different], from: &Path, to: &Path) -> Result<()> {
    for Different { map, carried } in different {
        if let Carried::Written(convert) = carried {
            let mut new = Words::open(&to.join(map))?;
            new.write(&convert(&Words::open(&from.join(map))?.read()?))
                .with_context(|| format!("writing {map}"))?;
        }
    }
    Ok(())
}

/// Carries over instants: those that are later than what the new map has. Once before the links run the new program, so that nobody finds a
/// full bucket, and once more when the old program has ended, for what it has written since.
///
/// # Errors
/// A map cannot be read or changed.
pub(super) fn raise_instants(different: &[Different], from: &Path, to: &Path) -> Result<()> {
    for Different { map, carried } in different {
        if let Carried::Instants(position) = carried {
            let new = Words::open(&to.join(map))?;
            let (before, now) = (Words::open(&from.join(map))?.read()?, new.read()?);
            let changer = new.changer(Change::Raise)?;
            for (old, instant) in before.into_iter().enumerate() {
                if now.get(position(old)).is_none_or(|now| *now < instant) {
                    changer.apply(position(old), instant).with_context(|| format!("carrying over {map}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Adds what the old program has counted, which has ended, to what the new one has counted so far. Once, or it is counted twice.
///
/// # Errors
/// A map cannot be read or changed.
pub(super) fn add_counters(different: &[Different], from: &Path, to: &Path) -> Result<()> {
    for Different { map, carried } in different {
        if let Carried::Counted(position) = carried {
            let changer = Words::open(&to.join(map))?.changer(Change::Add)?;
            for (old, count) in Words::open(&from.join(map))?.read()?.into_iter().enumerate() {
                if count != 0 {
                    changer.apply(position(old), count).with_context(|| format!("carrying over {map}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Version 10, whose settings ended before the sources that are tracked.
#[cfg(not(feature = "next-abi"))]
mod version10 {
    use icmp_common::abi::Settings;

    use super::{Carried, Different};

    pub(super) const SETTINGS: Different = Different { map: "SETTINGS", carried: Carried::Written(settings) };
    pub(super) static DIFFERENT: [Different; 1] = [SETTINGS];

    /// Both buffers become longer; nobody is tracked.
    pub(super) fn settings(old: &[u64]) -> Vec<u64> {
        super::longer(old, size_of::<Settings>() / size_of::<u64>())
    }
}

/// Two buffers of words, each in one of so many words, zeroes behind it.
#[cfg(not(feature = "next-abi"))]
fn longer(old: &[u64], words: usize) -> Vec<u64> {
    let mut new = vec![0; 2 * words];
    for (new, old) in new.chunks_mut(words).zip(old.chunks(old.len() / 2)) {
        new[..old.len()].copy_from_slice(old);
    }
    new
}

/// Version 8, in which VIPs had no checks: rules ended before their gates, and there were no reasons for what is unhealthy.
#[cfg(not(feature = "next-abi"))]
mod version8 {
    use icmp_common::abi::Rules;
    use icmp_common::reason::{REASONS, Reason};

    use super::{Carried, Different};

    pub(super) const RULES: Different = Different { map: "RULES", carried: Carried::Written(rules) };
    pub(super) const COUNTERS: Different = Different { map: "COUNTERS", carried: Carried::Counted(counter) };
    pub(super) static DIFFERENT: [Different; 3] = [super::version10::SETTINGS, RULES, COUNTERS];

    /// Both buffers become longer; without a gate a VIP is answered always.
    fn rules(old: &[u64]) -> Vec<u64> {
        super::longer(old, size_of::<Rules>() / size_of::<u64>())
    }

    /// A counter is two words, and reasons behind the new ones have another number.
    fn counter(old: usize) -> usize {
        let (counter, word) = (old / 2, old % 2);
        let (place, mut reason) = (counter / (REASONS - 2), counter % (REASONS - 2));
        for new in [Reason::UnhealthyVip, Reason::UnhealthyVipDrop] {
            reason += usize::from(reason >= new as usize);
        }
        (place * REASONS + reason) * 2 + word
    }

    #[cfg(test)]
    mod tests {
        use icmp_common::abi::SLOTS;
        use icmp_common::types::COUNTER_ROWS;

        use super::*;

        #[test]
        fn counters_go_to_the_same_row_and_reason_and_none_to_the_new_ones() {
            // By what they were called.
            let old: Vec<_> =
                Reason::ALL.iter().filter(|reason| !reason.name().starts_with("unhealthy")).collect();
            for place in [0, 7, COUNTER_ROWS * SLOTS as usize - 1] {
                for (number, reason) in old.iter().enumerate() {
                    for word in [0, 1] {
                        let from = (place * old.len() + number) * 2 + word;
                        let to = (place * REASONS + **reason as usize) * 2 + word;
                        assert_eq!(counter(from), to, "{} in place {place}", reason.name());
                    }
                }
            }
        }

        #[test]
        fn rules_stay_in_their_buffer_and_get_no_gate() {
            const OLD: usize = 187_880 / 8;
            let old: Vec<u64> = (1..=2 * OLD as u64).collect();
            let new = rules(&old);
            let (first, second) = new.split_at(size_of::<Rules>() / 8);
            for (new, old) in [(first, &old[..OLD]), (second, &old[OLD..])] {
                assert_eq!(&new[..OLD], old);
                assert!(new[OLD..].iter().all(|word| *word == 0));
            }
        }
    }
}

/// Version 6, in which addresses of other interfaces were answered nowhere: kinds 4 and 5 were the other way round, and the bit of today's
/// [`SETTINGS_OWN_HOST`](icmp_common::abi::SETTINGS_OWN_HOST) was that of today's [`SETTINGS_OBSERVE`](icmp_common::abi::SETTINGS_OBSERVE).
#[cfg(not(feature = "next-abi"))]
mod version6 {
    use icmp_common::abi::{AddressKind, Entry6, SETTINGS_OBSERVE, SETTINGS_OWN_HOST, Scope, Settings};

    use super::version8::{COUNTERS, RULES};
    use super::{Carried, Different};

    pub(super) static DIFFERENT: [Different; 5] = [
        Different { map: "SETTINGS", carried: Carried::Written(settings) },
        Different { map: "ADDRESSES4", carried: Carried::Written(addresses4) },
        Different { map: "ADDRESSES6", carried: Carried::Written(addresses6) },
        RULES,
        COUNTERS,
    ];

    /// The flags are the low half of the first word of each buffer.
    fn settings(old: &[u64]) -> Vec<u64> {
        let (observe, was_observe) = (u64::from(SETTINGS_OBSERVE), u64::from(SETTINGS_OWN_HOST));
        let mut new = super::version10::settings(old);
        for flags in new.iter_mut().step_by(size_of::<Settings>() / size_of::<u64>()) {
            *flags = *flags & !was_observe | if *flags & was_observe == 0 { 0 } else { observe };
        }
        new
    }

    /// The scope is the high half of each word.
    fn addresses4(old: &[u64]) -> Vec<u64> {
        old.iter().map(|entry| u64::from(scope((entry >> 32) as u32)) << 32 | entry & 0xffff_ffff).collect()
    }

    /// The scope is the low half of the last word of each entry.
    fn addresses6(old: &[u64]) -> Vec<u64> {
        const WORDS: usize = size_of::<Entry6>() / size_of::<u64>();
        let mut new = old.to_vec();
        for last in new.iter_mut().skip(WORDS - 1).step_by(WORDS) {
            *last = u64::from(scope(*last as u32));
        }
        new
    }

    /// The kind is no part of what says in which bucket an entry is.
    fn scope(old: u32) -> u32 {
        let kind = match (old & Scope::KIND_MASK) >> 5 {
            4 => AddressKind::Anywhere as u32,
            5 => AddressKind::Somewhere as u32,
            kind => kind,
        };
        old & !Scope::KIND_MASK | kind << 5
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_bit_of_observe_moves_in_both_buffers_and_the_others_stay() {
            // As they were.
            let words = 4536 / size_of::<u64>();
            let mut old = vec![u64::from(SETTINGS_OWN_HOST); 2 * words];
            (old[0], old[words]) = (64 << 32 | 0b11_1111, 255 << 32 | 0b01_1111);
            let mut expected = crate::instance::migration::version10::settings(&old);
            expected[0] = 64 << 32 | 0b101_1111;
            assert_eq!(settings(&old), expected);
        }

        #[test]
        fn kinds_4_and_5_change_places_in_each_entry_and_nothing_else_changes() {
            const { assert!(AddressKind::Somewhere as u32 == 4 && AddressKind::Anywhere as u32 == 5) };
            let scope = |kind: u64| 0x12_3456 << 8 | kind << 5 | 0x1f;
            let kinds = [(1, 1), (2, 2), (3, 3), (4, 5), (5, 4)];
            let v4 = |kind| scope(kind) << 32 | 0xc000_0205;
            assert_eq!(addresses4(&kinds.map(|(old, _)| v4(old))), kinds.map(|(_, new)| v4(new)));
            assert_eq!(addresses4(&[0; 4]), [0; 4]);
            // The halves of an address look like scopes here.
            let v6 = |kind| [scope(4), scope(5), scope(kind)];
            assert_eq!(
                addresses6(&kinds.map(|(old, _)| v6(old)).concat()),
                kinds.map(|(_, new)| v6(new)).concat()
            );
            assert_eq!(addresses6(&[0; 3]), [0; 3]);
        }
    }
}

/// A next version for tests, each of whose differences is of another kind.
#[cfg(feature = "next-abi")]
mod next {
    use icmp_common::abi::{BUDGETS, INTERFACE_ENTRIES, Interface};
    use icmp_common::reason::REASONS;
    use icmp_common::types::COUNTER_ROWS;

    use super::{Carried, Different};

    pub(super) const DIFFERENT: &[Different] = &[
        Different { map: "INTERFACES", carried: Carried::Written(interfaces) },
        Different { map: "COUNTERS", carried: Carried::Counted(counter) },
        Different { map: "BUDGETS", carried: Carried::Instants(bucket) },
        Different { map: "HEAVY_HITTERS", carried: Carried::Anew("which sources `show sources` has seen") },
    ];

    /// Twice as many places, found in the same way.
    fn interfaces(old: &[u64]) -> Vec<u64> {
        const WORDS: usize = size_of::<Interface>() / size_of::<u64>();
        let mut new = vec![0; INTERFACE_ENTRIES as usize * WORDS];
        for entry in old.chunks(WORDS).filter(|entry| entry[0] as u32 != 0) {
            let mut place = entry[0] as usize % INTERFACE_ENTRIES as usize;
            while new[place * WORDS] != 0 {
                place = (place + 1) % INTERFACE_ENTRIES as usize;
            }
            new[place * WORDS..][..WORDS].copy_from_slice(entry);
        }
        new
    }

    /// Each slot has one row more, the last.
    fn counter(old: usize) -> usize {
        const WORDS: usize = 2;
        const SLOT: usize = WORDS * COUNTER_ROWS * REASONS;
        old / SLOT * (SLOT + WORDS * REASONS) + old % SLOT
    }

    /// Each budget has two cache lines.
    fn bucket(old: usize) -> usize {
        const LINE: usize = 8;
        if old < BUDGETS * LINE { old / LINE * 2 * LINE + old % LINE } else { old + BUDGETS * LINE }
    }
}
