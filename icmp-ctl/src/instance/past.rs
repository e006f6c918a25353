//! Attachments that frames bypass: the link counts frames, and the program none.
//!
//! Owns finding that out by two looks, one second apart, without any stored state. A driver that does not count answered or dropped frames
//! hides nothing, because the program counts those; and one frame that the program has counted is enough.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::diagnostics::shell_word;
use crate::finding::{Finding, State};
use crate::host::received::received_once;
use crate::instance::links::{LinkPin, Whereabouts};
use crate::instance::pins::View;

/// Time between the two looks.
const SPAN: Duration = Duration::from_secs(1);

/// Which attachments are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those that have not seen a frame since they were attached, although the link has at some time: mostly none, and then nothing is waited
    /// for.
    Unused,
}

/// What became of the frames that came in between the looks, for each attachment here.
///
/// # Errors
/// A map cannot be read, or the kernel does not tell what its interfaces have received.
pub fn frames(view: &View, pins: &[LinkPin], which: Which) -> Result<Vec<Finding>> {
    let here: Vec<_> = pins.iter().filter(|pin| pin.whereabouts == Whereabouts::Here).collect();
    let (before, counted) = (received_once()?, counted(view, &here)?);
    let is_looked_at = |pin: &&&LinkPin| {
        which == Which::All
            || counted.get(&pin.ifindex) == Some(&0)
                && before.get(&pin.ifindex).is_some_and(|number| *number > 0)
    };
    let looked_at: Vec<_> = here.iter().filter(is_looked_at).copied().collect();
    if looked_at.is_empty() {
        return Ok(Vec::new());
    }
    std::thread::sleep(SPAN);
    let after = received_once()?;
    // Read last: a frame that the link has counted by now, the program has had the time to count.
    let counted_since = self::counted(view, &looked_at)?;
    let since = |of: &BTreeMap<u32, u64>, from: &BTreeMap<u32, u64>, index: u32| {
        of.get(&index).zip(from.get(&index)).map_or(0, |(now, then)| now.saturating_sub(*then))
    };
    let finding = |pin: &LinkPin| {
        let seen = since(&counted_since, &counted, pin.ifindex);
        finding(&pin.name, since(&after, &before, pin.ifindex), seen)
    };
    Ok(looked_at.into_iter().map(finding).collect())
}

fn finding(name: &str, received: u64, seen: u64) -> Finding {
    let what = match (received, seen) {
        (0, 0) => return Finding::fine("frames", "none came in within a second").on(name),
        (_, 1..) => return Finding::fine("frames", "the program sees what comes in").on(name),
        (1, 0) => "one frame came in within a second, and the program has not seen it".to_owned(),
        (more, 0) => format!("{more} frames came in within a second, and the program has seen none of them"),
    };
    let why = "nothing is answered or limited here: frames go another way than past this program, and one in generic mode may see them";
    let again = format!("icmp-ctl detach {0} && icmp-ctl attach {0} --mode generic", shell_word(name));
    Finding::new("frames", State::Broken, what, why).on(name).fixed_by(again)
}

/// Frames that were counted so far, by the index of the interface.
fn counted(view: &View, pins: &[&LinkPin]) -> Result<BTreeMap<u32, u64>> {
    let entries = view.maps.interfaces()?;
    let mut counted = BTreeMap::new();
    for pin in pins {
        let slot = entries.iter().find(|entry| entry.is_attached() && entry.ifindex == pin.ifindex);
        // One that is in no entry counts nothing.
        let counters = slot.map(|entry| view.maps.counters_of(entry.slot)).transpose()?.unwrap_or_default();
        counted.insert(pin.ifindex, counters.values().map(|counter| counter.packets).sum());
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_the_link_counts_and_the_program_does_not_are_what_is_wrong() {
        for (received, seen, state) in [
            (0, 0, State::Fine),
            (7, 7, State::Fine),
            (0, 7, State::Fine),
            (7, 1, State::Fine),
            (7, 0, State::Broken),
        ] {
            assert_eq!(finding("eth0", received, seen).state, state, "{received} {seen}");
        }
        let text = finding("eth0", 7, 0).text();
        assert!(text.contains("7 frames") && text.contains("icmp-ctl attach eth0"), "{text}");
    }
}
