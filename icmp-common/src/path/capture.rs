//! Which frames are captured, and the record of each.
//!
//! Owns the filter after the reason, which runs for every frame (`path::process`): by reason, interface and rule, one frame in so many, so many
//! a second. It does not own how a frame is copied out: in the kernel to a ring buffer, on the host not at all.

use crate::abi::{CapturedAbout, NO_RULE, Tap};
use crate::limiter;
use crate::path;
use crate::path::apart::Apart;
use crate::reason::Reason;
use crate::tables::Tables;

/// Captures a frame that has ended in a reason that is captured for a tap, unless it is to be left out.
#[inline(always)]
pub(crate) fn capture<F: Apart, T: Tables>(frame: &mut F, tables: &T, ended: u64, ifindex: u32) -> u64 {
    let (reason, row) = (ended as u32 & 0xff, (ended >> 8) as u32 & 0xff);
    let tap = if ended >> 16 & 1 == 0 { Tap::Capture } else { Tap::Events };
    let Some(capture) = tables.capture(tap) else { return 0 };
    if capture.reasons >> (reason & 63) & 1 == 0 {
        return 0;
    }
    if capture.slots != u32::MAX && capture.slots >> (path::slot(frame, tables, ifindex) & 31) & 1 == 0 {
        return 0;
    }
    let rule = {
        let Some(mut cpu) = tables.capture_cpu(tap) else { return 0 };
        let cpu = &mut *cpu;
        if cpu.number != capture.number {
            (cpu.number, cpu.asked, cpu.over_limit, cpu.lost, cpu.left) = (capture.number, 0, 0, 0, 0);
        }
        let rule = if is_of_rules(reason) { cpu.rule } else { NO_RULE };
        if capture.rule != NO_RULE && capture.rule != rule {
            return 0;
        }
        if cpu.left > 1 {
            cpu.asked = cpu.asked.wrapping_add(1);
            cpu.left -= 1;
            return 0;
        }
        rule
    };
    // Asked for no sooner: in a flood most frames are between two that are taken, and the time costs more than all else here.
    let at = tables.monotonic_ns();
    if at >= capture.until {
        return 0;
    }
    if let Some(mut cpu) = tables.capture_cpu(tap) {
        cpu.asked = cpu.asked.wrapping_add(1);
        cpu.left = capture.every;
    }
    let limit = &capture.limit;
    let within = limit.is_unlimited()
        || tables
            .capture_bucket(tap)
            .is_some_and(|bucket| limiter::take(&bucket, limit, 1, limiter::now(tables.ticks())) != 0);
    let len = frame.total_len();
    let snap_len = capture.snap_len as usize;
    let captured = if len < snap_len { len } else { snap_len } as u32;
    let about = CapturedAbout { at, ifindex, len: len as u32, captured, rule, reason, row };
    let is_saved = within && frame.save(tap, &about);
    if !is_saved && let Some(mut cpu) = tables.capture_cpu(tap) {
        let count = if within { &mut cpu.lost } else { &mut cpu.over_limit };
        *count = count.wrapping_add(1);
    }
    0
}

/// True for the reasons that a rule can lead to.
#[inline(always)]
const fn is_of_rules(reason: u32) -> bool {
    const OF_RULES: u64 = 1 << Reason::Answered as u64
        | 1 << Reason::RulePass as u64
        | 1 << Reason::RuleDrop as u64
        | 1 << Reason::LimitedRule as u64;
    OF_RULES >> (reason & 63) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{Capture, CaptureCpu, LENGTHS, Limit, Rule};
    use crate::host_tables::HostTables;
    use crate::limiter::UNITS_PER_TICK;
    use crate::path::testing::{self, SLOT, echo4, send};
    use crate::policy::Preset;
    use crate::types::Action;

    /// All that is answered.
    fn answers() -> Capture {
        Capture {
            reasons: 1 << Reason::Answered as u64,
            until: 1,
            rule: NO_RULE,
            slots: u32::MAX,
            number: 1,
            ..Capture::default()
        }
    }

    /// What is counted of ten pings and one that is passed.
    fn counted(capture: Capture) -> CaptureCpu {
        let mut tables = testing::tables(testing::settings(Preset::Host), testing::rules());
        tables.set_capture(Tap::Capture, capture);
        ten_and_one(&tables);
        tables.captured(Tap::Capture)
    }

    fn ten_and_one(tables: &HostTables) {
        for source in 0..10 {
            assert_eq!(send(tables, &mut echo4(0xc633_6401 + source, 64)), Reason::Answered);
        }
        let mut with_code = testing::message(crate::types::Family::V4, 0xc633_6401, 8, 1, 64);
        assert_eq!(send(tables, &mut with_code), Reason::EchoCode);
    }

    #[test]
    fn frames_of_other_reasons_other_interfaces_and_later_times_are_left_alone() {
        assert_eq!(counted(answers()).asked, 10);
        assert_eq!(counted(Capture { reasons: 1 << Reason::EchoCode as u64, ..answers() }).asked, 1);
        assert_eq!(counted(Capture { reasons: u64::MAX, ..answers() }).asked, 11);
        assert_eq!(counted(Capture { until: 0, ..answers() }).asked, 0);
        assert_eq!(counted(Capture { slots: !(1 << SLOT), ..answers() }), CaptureCpu::default());
        assert_eq!(counted(Capture { rule: 3, ..answers() }).asked, 0, "no rule has decided");
    }

    #[test]
    fn those_over_the_limit_are_counted_and_those_between_are_not() {
        let two = Limit { interval: UNITS_PER_TICK << 20, capacity: (2 * UNITS_PER_TICK) << 20 };
        assert_eq!(counted(Capture { limit: two, ..answers() }).over_limit, 8);
        let every = Capture { limit: Limit::NOTHING, every: 5, ..answers() };
        let CaptureCpu { asked, over_limit, lost, .. } = counted(every);
        assert_eq!((asked, over_limit, lost), (10, 2, 0), "the first, and the sixth");
    }

    #[test]
    fn the_rule_of_a_frame_is_the_one_that_decided_about_this_frame() {
        let rule = Rule { action: Action::Answer as u32, slot: 7, ..Rule::default() };
        let (settings, rules) = testing::rule_for_lengths(100..LENGTHS, rule);
        let mut tables = testing::tables(settings, rules);
        tables.set_capture(Tap::Capture, Capture { rule: 7, ..answers() });
        for (len, asked) in [(64, 0), (100, 1), (64, 1), (200, 2)] {
            assert_eq!(send(&tables, &mut echo4(0xc633_6401, len)), Reason::Answered);
            assert_eq!(tables.captured(Tap::Capture).asked, asked, "{len} bytes");
        }
    }

    #[test]
    fn each_tap_has_its_own_frames_and_counts_for_itself() {
        let mut tables = testing::tables(testing::settings(Preset::Host), testing::rules());
        tables.set_capture(Tap::Events, Capture { reasons: 1 << Reason::EchoCode as u64, ..answers() });
        ten_and_one(&tables);
        assert_eq!([Tap::Capture, Tap::Events].map(|tap| tables.captured(tap).asked), [0, 1]);
        tables.set_capture(Tap::Capture, answers());
        ten_and_one(&tables);
        assert_eq!([Tap::Capture, Tap::Events].map(|tap| tables.captured(tap).asked), [10, 2]);
        tables.set_capture(Tap::Events, Capture { number: 2, reasons: u64::MAX, ..answers() });
        ten_and_one(&tables);
        assert_eq!([Tap::Capture, Tap::Events].map(|tap| tables.captured(tap).asked), [20, 11]);
    }

    #[test]
    fn another_capture_begins_to_count_anew() {
        let mut tables = testing::tables(testing::settings(Preset::Host), testing::rules());
        for number in [1, 2] {
            tables.set_capture(Tap::Capture, Capture { number, ..answers() });
            ten_and_one(&tables);
            assert_eq!(tables.captured(Tap::Capture).asked, 10);
        }
    }
}
