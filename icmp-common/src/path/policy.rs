//! The action for a message to this host: by the checks of its type, the operator's rules, and the type table.
//!
//! Owns the order of the three, and what is charged to a rule's limit or to the budget of a type. It does not own the checks (`checks.rs`), how
//! rules are matched (`rules.rs`), or what an echo request is charged to (`limit.rs`). An echo request that no rule concerns and that the type
//! table answers is decided at once; everything else is evaluated apart.

use crate::abi::{BUDGETS, Decision, Limit, NO_RULE, Rule, SETTINGS_RULES, Settings, Tap, type_index};
use crate::budget::{self, Draw, rule_bucket};
use crate::frame::Frame;
use crate::limiter::{self, Admission, Pair, PairIndex, Table, hash6};
use crate::outcome::{Step, end};
use crate::path::Ingress;
use crate::path::apart::{About, Apart, BUDGET, PATH_MTU, POLICY};
use crate::path::checks::{self, Check, Failed, Mode, check_counter};
use crate::path::link::{self, Link};
use crate::path::mtu;
use crate::path::parse::{self, Headers, Ip};
use crate::path::unusual::Unusual;
use crate::reason::{Reason, Verdict};
use crate::rules::{self, Facts};
use crate::tables::Tables;
use crate::types::Family;
use crate::types::{Action, Budget};
use crate::wire::{icmpv4, icmpv6};

/// What the policy says of an echo request that is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Answer {
    /// Within all limits.
    Limited,
    /// Within the total reply budget: a rule exempts it from the limits of its source.
    Exempt,
    /// The rule's own limit stands for all others, and has admitted it.
    Charged,
}

/// Reasons come behind the answers in the number that [`evaluate`] returns.
const REASONS: u64 = 3;
/// Where in that number the counter row is.
const ROW_SHIFT: u32 = 32;
/// In that number: the message has failed a check, whatever its mode.
const FAILED: u64 = 1 << 40;

/// The type of a family's echo requests.
#[inline(always)]
pub(crate) const fn echo_request(family: Family) -> u8 {
    match family {
        Family::V4 => icmpv4::ECHO_REQUEST,
        Family::V6 => icmpv6::ECHO_REQUEST,
    }
}

/// Ends everything but an echo request that is to be answered.
#[inline(always)]
pub(crate) fn answer<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    ingress: &Ingress<'_>,
    link: &Link,
    headers: &Headers,
    family: Family,
) -> Step<Answer> {
    let settings = ingress.settings;
    // No code of an echo request has a row of its own in the type table (`types.rs` asserts that).
    let is_answered =
        settings.types[type_index(family, echo_request(family))].main.action == Action::Answer as u8;
    if headers.icmp_type == echo_request(family) && settings.flags & SETTINGS_RULES == 0 && is_answered {
        return Ok(Answer::Limited);
    }
    let about = ingress.about(link, headers, family);
    match frame.apart::<POLICY, T>(tables, about, [headers.unusual.0, 0]) {
        0 => Ok(Answer::Limited),
        1 => Ok(Answer::Exempt),
        2 => Ok(Answer::Charged),
        ended => {
            let reason = Reason::from_number((ended - REASONS) as u8);
            // A path MTU is believed where there is nothing against it, and only if the kernel gets to see it too.
            if headers.icmp_type == mtu_report(family)
                && ended & FAILED == 0
                && matches!(reason.verdict(), Verdict::Pass)
            {
                frame.apart::<PATH_MTU, T>(tables, about, [headers.unusual.0, 0]);
            }
            end(reason, (ended >> ROW_SHIFT) as u8)
        }
    }
}

/// A reason behind the answers, with a row.
#[inline(always)]
const fn ended(reason: Reason, row: u8) -> u64 {
    (REASONS + reason as u64) | (row as u64) << ROW_SHIFT
}

/// The type that reports a path MTU, in IPv4 with a code of its own.
#[inline(always)]
const fn mtu_report(family: Family) -> u8 {
    match family {
        Family::V4 => icmpv4::DESTINATION_UNREACHABLE,
        Family::V6 => icmpv6::PACKET_TOO_BIG,
    }
}

/// Notes the path MTU that a message reports.
#[inline(always)]
pub(crate) fn note_mtu<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: &About,
    unusual: Unusual,
) -> u64 {
    if let Some(settings) = tables.settings(about.settings())
        && let Some(facts) = facts(frame, *about, unusual)
        && let Some(reported) = checks::reported_mtu(frame, unusual.start(*about), &facts)
    {
        mtu::note(tables, settings, mtu::at_least(reported));
    }
    0
}

/// Judges a message: an [`Answer`] as a number, or a [`Reason`] behind those, with the row that is counted.
#[inline(always)]
pub(crate) fn evaluate<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: &About,
    unusual: Unusual,
) -> u64 {
    let about = *about;
    let row = parse::row(about.family());
    let Some(settings) = tables.settings(about.settings()) else { return ended(Reason::Unconfigured, row) };
    let Some(facts) = facts(frame, about, unusual) else { return ended(Reason::Truncated, row) };
    note_rule(tables, NO_RULE);
    let Some(entry) = settings.types.get(type_index(facts.family, facts.icmp_type)) else {
        return ended(Reason::Unconfigured, row);
    };
    let decision = entry.decision(facts.code);
    let failed = if facts.icmp_type == echo_request(facts.family) {
        Failed::NONE
    } else {
        let mtu = checks::reported_mtu(frame, unusual.start(about), &facts);
        checks::failed(frame, tables, settings, about, unusual, &facts, mtu)
    };
    let has_failed = match is_counted(tables, failed.modes(settings.checks)) {
        Ok(has_failed) => has_failed,
        Err(reason) => return ended(reason, decision.row),
    };
    // In one word, for which the stack has room; opaque, or the compiler makes two of it again.
    let failures = F::opaque((failed != Failed::NONE) as usize | (has_failed as usize) << 1);
    // How long the whole message is nobody knows yet: rules take it for longer than any, or whoever fragments would get past an upper bound.
    let about = if unusual.goes_on() { about.with_len(u16::MAX as usize) } else { about };
    let ended = match by_all(frame, tables, settings, about, &facts, decision, failures & 2 != 0) {
        Ok(answer) => return answer as u64,
        Err(reason) => ended(reason, decision.row),
    };
    if failures & 1 != 0 { ended | FAILED } else { ended }
}

/// Rules and type table, in this order.
#[inline(always)]
fn by_all<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    settings: &Settings,
    about: About,
    facts: &Facts,
    decision: Decision,
    has_failed: bool,
) -> Result<Answer, Reason> {
    let is_echo = facts.icmp_type == echo_request(facts.family);
    if settings.flags & SETTINGS_RULES != 0
        && let Some(answer) = by_rules(frame, tables, settings, about, facts, is_echo)?
    {
        return Ok(answer);
    }
    by_type(frame, tables, about, facts, decision, is_echo, has_failed)
}

/// What rules ask about a message.
#[inline(always)]
fn facts<F: Apart>(frame: &mut F, about: About, unusual: Unusual) -> Option<Facts> {
    let Ip { source, destination, hop_limit } = parse::ip_again(frame, about)?;
    let [icmp_type, code] =
        if unusual.is_unreadable() { [0; 2] } else { *frame.window::<2>(unusual.start(about))? };
    Some(Facts {
        family: about.family(),
        icmp_type,
        code,
        hop_limit,
        vlan: about.vlan() & 0xfff,
        len: about.len(),
        source,
        destination,
    })
}

// --------------------------------------------------------------------------------------------------------------- checks

/// True where a message has failed checks that are only counted, false where it has failed none that is on; ends a message that one of them
/// drops. Takes the modes of those that it has failed.
#[inline(always)]
fn is_counted<T: Tables>(tables: &T, modes: u32) -> Result<bool, Reason> {
    let mut dropped = None;
    for check in Check::ALL {
        let mode = modes >> checks::mode_shift(*check) & 3;
        if mode == Mode::Off as u32 {
            continue;
        }
        if let Some(mut rule_counter) = tables.rule_counter(check_counter(*check)) {
            rule_counter.hits = rule_counter.hits.wrapping_add(1);
        }
        if mode == Mode::Drop as u32 && dropped.is_none() {
            dropped = Some(check.reason());
        }
    }
    dropped.map_or(Ok(modes != 0), Err)
}

// ---------------------------------------------------------------------------------------------------------------- rules

/// What the first rule that matches says; `None` where none does.
#[inline(always)]
fn by_rules<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    settings: &Settings,
    about: About,
    facts: &Facts,
    is_echo: bool,
) -> Result<Option<Answer>, Reason> {
    let Some(rules) = tables.rules(settings.rules) else { return Ok(None) };
    let matching = rules::matching(frame, tables, rules, about, facts);
    let now = limiter::now(tables.ticks());
    if let Some(rule) = rules::first(rules, matching & rules.audited & matching.wrapping_neg()) {
        let over = is_over(tables, rule, now);
        if let Some(mut rule_counter) = tables.rule_counter(rule.slot) {
            rule_counter.would_hit = rule_counter.would_hit.wrapping_add(1);
            rule_counter.would_limit = rule_counter.would_limit.wrapping_add(over as u64);
        }
    }
    let Some(rule) = rules::first(rules, matching & !rules.audited) else { return Ok(None) };
    let over = is_over(tables, rule, now);
    if let Some(mut rule_counter) = tables.rule_counter(rule.slot) {
        rule_counter.hits = rule_counter.hits.wrapping_add(1);
        rule_counter.limited = rule_counter.limited.wrapping_add(over as u64);
    }
    note_rule(tables, rule.slot);
    if over {
        return Err(Reason::LimitedRule);
    }
    if rule.action == Action::Drop as u32 {
        return Err(Reason::RuleDrop);
    }
    if rule.action != Action::Answer as u32 || !is_echo {
        return Err(Reason::RulePass);
    }
    Ok(Some(if !rule.limit.is_unlimited() {
        Answer::Charged
    } else if rule.limit == Limit::EXEMPT {
        Answer::Exempt
    } else {
        Answer::Limited
    }))
}

/// Notes for who captures which rule has decided.
#[inline(always)]
fn note_rule<T: Tables>(tables: &T, slot: u32) {
    if tables.captured_reasons(Tap::Capture) != 0
        && let Some(mut cpu) = tables.capture_cpu(Tap::Capture)
    {
        cpu.rule = slot;
    }
}

/// Charges a message to the limit of its rule; true where that has nothing left. A fault of ours refuses nothing.
#[inline(always)]
fn is_over<T: Tables>(tables: &T, rule: &Rule, now: u64) -> bool {
    if rule.limit.is_unlimited() {
        return false;
    }
    tables
        .bucket(rule_bucket(rule.slot))
        .is_some_and(|bucket| limiter::take(&bucket, &rule.limit, 1, now) == 0)
}

// ----------------------------------------------------------------------------------------------------------- type table

#[inline(always)]
fn by_type<F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: About,
    facts: &Facts,
    decision: Decision,
    is_echo: bool,
    has_failed: bool,
) -> Result<Answer, Reason> {
    let Decision { action, budget, .. } = decision;
    if action == Action::Answer as u8 && is_echo {
        return Ok(Answer::Limited);
    }
    if action == Action::Drop as u8 {
        return Err(Reason::PolicyDrop);
    }
    if action != Action::Limit as u8 {
        return Err(Reason::PolicyPass);
    }
    // What fails a check, or is ignored without one, spends nothing that a message that is in order needs.
    let is_ignored = budget == Budget::MulticastListener as u8 && !checks::is_listener_message(facts);
    let budget = if has_failed || is_ignored { Budget::Unverified as u8 } else { budget };
    match frame.apart::<BUDGET, T>(tables, about, [budget as u64, 0]) {
        0 => Err(Reason::WithinLimit),
        _ => Err(Reason::LimitedBudget),
    }
}

/// Charges a message to a budget: 1 where that has nothing left, otherwise 0. A fault of ours refuses nothing.
#[inline(always)]
pub(crate) fn charge<F: Frame, T: Tables>(frame: &mut F, tables: &T, about: &About, budget: u64) -> u64 {
    let Some(settings) = tables.settings(about.settings()) else { return 0 };
    let ticks = tables.ticks();
    let now = limiter::now(ticks);
    if budget == Budget::NeighbourDiscovery as u64 && !is_sender_within(frame, tables, settings, now) {
        return 1;
    }
    let Some(mut cpu) = tables.cpu() else { return 0 };
    let cpu = &mut *cpu;
    // The switch as the frame met it: what is taken under one limit is never spent under the next.
    let unspent = budget::renew(&mut cpu.batches, budget::generation(about.switch(), ticks));
    cpu.sampling.left = cpu.sampling.left.wrapping_add(unspent);
    let draw = budget::draw(tables, &mut cpu.batches, settings, budget as usize & (BUDGETS - 1), now);
    (draw == Draw::Exhausted) as u64
}

/// The share of the neighbour discovery budget that one sender may take: one in this many.
pub const SENDER_SHARE: u64 = 8;

/// Charges neighbour discovery to its sender on the link, by MAC address, so that one sender cannot take what all others need.
#[inline(always)]
fn is_sender_within<F: Frame, T: Tables>(frame: &mut F, tables: &T, settings: &Settings, now: u64) -> bool {
    let Some(Limit { interval, capacity }) = settings.budgets.get(Budget::NeighbourDiscovery as usize) else {
        return true;
    };
    // A larger cost out of the same capacity: rate and burst are both divided.
    let limit = Limit { interval: interval.wrapping_mul(SENDER_SHARE), capacity: *capacity };
    let Some(sender) = link::source_mac(frame) else { return true };
    if limit.is_unlimited() || limit.capacity < limit.interval {
        return true;
    }
    let secret = [tables.secret(8), tables.secret(9), tables.secret(10), tables.secret(11)];
    let place = PairIndex::new(hash6(secret, (u64::MAX, sender)), tables.source_shift());
    let Some(buckets) = tables.pair(Table::Sources, place) else { return true };
    Pair::read(buckets).charge(&limit, now) != Admission::Refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{LENGTHS, SWITCH_CHANGE, TypeRules};
    use crate::frame::SliceFrame;
    use crate::host_tables::HostTables;
    use crate::path::testing::{self, interface};
    use crate::policy::Preset;

    /// The policy's answer about a message, and that of [`evaluate`].
    fn both(tables: &HostTables, family: Family, message: &mut [u8]) -> [Step<Answer>; 2] {
        let frame = &mut SliceFrame::new(message);
        let interface = interface();
        let ingress = Ingress::find(tables, Some(&interface), family).expect("settings");
        let link = link::link(frame, tables).expect("a link");
        let headers = parse::headers(frame, tables, &link, family).expect("headers");
        let quick = answer(frame, tables, &ingress, &link, &headers, family);
        let number = evaluate(frame, tables, &ingress.about(&link, &headers, family), headers.unusual);
        let evaluated = match number {
            0 => Ok(Answer::Limited),
            1 => Ok(Answer::Exempt),
            2 => Ok(Answer::Charged),
            _ => end(Reason::from_number((number - REASONS) as u8), (number >> ROW_SHIFT) as u8),
        };
        [quick, evaluated]
    }

    #[test]
    fn tokens_that_a_frame_takes_while_the_settings_change_are_not_spent_under_the_new_ones() {
        let never = Limit { interval: 1 << 40, capacity: 64 << 40 };
        let mut settings = testing::settings(Preset::Host);
        settings.budgets = [never; BUDGETS];
        settings.batches = [64; BUDGETS];
        for (family, icmp_type) in [(Family::V4, icmpv4::ECHO_REPLY), (Family::V6, icmpv6::ECHO_REPLY)] {
            let tables = testing::tables(settings, testing::rules());
            let mut message = testing::message(family, 0xc633_6405, icmp_type, 0, 16);
            let frame = &mut SliceFrame::new(&mut message);
            let interface = interface();
            let ingress = Ingress::find(&tables, Some(&interface), family).expect("settings");
            let link = link::link(frame, &tables).expect("a link");
            let headers = parse::headers(frame, &tables, &link, family).expect("headers");
            tables.set_switch(SWITCH_CHANGE);
            // All that there is, as a batch.
            let ended = answer(frame, &tables, &ingress, &link, &headers, family);
            assert_eq!(ended.expect_err("no echo request").reason, Reason::WithinLimit, "{family:?}");
            assert_eq!(testing::send(&tables, &mut message), Reason::LimitedBudget, "{family:?}");
        }
    }

    fn assert_agreed(tables: &HostTables, what: &str) {
        for (family, icmp) in [(Family::V4, 34), (Family::V6, 54)] {
            let mut message = testing::message(family, 0xc633_6405, 0, 0, 64);
            for icmp_type in 0..=u8::MAX {
                for code in 0..=u8::MAX {
                    message[icmp..icmp + 2].copy_from_slice(&[icmp_type, code]);
                    let [quick, evaluated] = both(tables, family, &mut message);
                    assert_eq!(quick, evaluated, "{family:?} type {icmp_type} code {code} {what}");
                }
            }
        }
    }

    #[test]
    fn the_quick_answer_is_what_the_whole_policy_says_of_every_type_and_code_under_every_preset() {
        for preset in Preset::ALL {
            let tables = testing::tables(testing::settings(*preset), testing::rules());
            assert_agreed(&tables, preset.name());
        }
    }

    #[test]
    fn a_rule_takes_a_message_that_goes_on_in_other_fragments_for_longer_than_any() {
        let (alone, first) = ([44, 0, 0, 0], [44, 0, 0, 1]);
        // What is done to a frame, and whether a rule for a length of 64 and one for more than that match it.
        for (family, fragment, [exact, above]) in [
            (Family::V4, None, [true, false]),
            (Family::V4, Some([0x20, 0, 0, 0]), [false, true]),
            (Family::V6, Some(alone), [true, false]),
            (Family::V6, Some(first), [false, true]),
        ] {
            for (lengths, matches) in [(64..65, exact), (65..LENGTHS, above)] {
                let rule = Rule { action: Action::Drop as u32, ..Rule::default() };
                let (settings, rules) = testing::rule_for_lengths(lengths.clone(), rule);
                let mut frame = testing::message(family, 0xc633_6405, echo_request(family), 0, 64);
                match (family, fragment) {
                    (Family::V4, Some(flags)) => {
                        frame[20..22].copy_from_slice(&flags[..2]);
                        testing::repair4(&mut frame);
                    }
                    (Family::V6, Some([kind, _, high, low])) => {
                        frame[19] += 8;
                        frame[20] = kind;
                        frame.splice(54..54, [58, 0, high, low, 0, 0, 0, 9]);
                    }
                    _ => (),
                }
                let dropped =
                    testing::send(&testing::tables(settings, rules), &mut frame) == Reason::RuleDrop;
                assert_eq!(dropped, matches, "{family:?} {fragment:?}, a rule for {lengths:?}");
            }
        }
    }

    #[test]
    fn the_quick_answer_follows_the_type_table_and_the_rules() {
        for action in [Action::Pass, Action::Answer, Action::Limit, Action::Drop] {
            let mut settings = testing::settings(Preset::Host);
            for entry in &mut settings.types {
                entry.main.action = action as u8;
            }
            assert_agreed(&testing::tables(settings, testing::rules()), action.name());
            // A rule for every message, where the type table answers.
            let mut settings = testing::settings(Preset::Host);
            settings.flags |= SETTINGS_RULES;
            let mut rules = testing::rules();
            (rules.count, rules.any_source, rules.any_destination) = (1, 1, 1);
            rules.types.fill(TypeRules { rules: 1, block: 0, reserved: 0 });
            rules.rules[0].action = action as u32;
            let tables = testing::tables(settings, rules);
            assert_agreed(&tables, action.name());
            let [echo, _] = both(&tables, Family::V4, &mut testing::echo4(0xc633_6405, 64));
            assert_eq!(echo.is_ok(), action == Action::Answer, "a rule says {}", action.name());
        }
    }
}
