//! The decision about a frame, as the words of a comment in a capture.

use icmp_common::abi::CapturedAbout;
use icmp_common::reason::{Reason, Verdict};

use crate::capture::write::Decided;

/// Verdict, reason and rule; the XDP actions are those of `enum xdp_action` in include/uapi/linux/bpf.h.
pub(super) fn decided(about: &CapturedAbout, rule: Option<&str>) -> Decided {
    let reason = Reason::from_number(about.reason as u8);
    let verdict = reason.verdict();
    let action = match verdict {
        Verdict::Drop | Verdict::Limit => 1,
        Verdict::Pass => 2,
        Verdict::Answer => 3,
    };
    let rule = rule.map(|name| format!(" (rule {name})")).unwrap_or_default();
    let comment = format!("{}: {}{rule}. {}", verdict.name(), reason.name(), reason.description().trim());
    Decided { action, is_sent: verdict == Verdict::Answer, comment }
}
