//! The result of a frame on both sides, and whether they agree. `stages.rs` words it.

use icmp_common::host_tables::Memory;
use icmp_common::outcome::Outcome;
use icmp_common::reason::{Reason, Verdict};

use crate::explain::watched::Run;

/// What became of a frame.
pub struct Explanation {
    pub(super) given: Vec<u8>,
    /// What was remembered before.
    pub(super) memory: Memory,
    /// The tick.
    pub(super) now: u64,
    /// On the host.
    pub(super) run: Run,
    /// Whether the sender is known; `None` where nobody asks.
    pub(super) known: Option<bool>,
    /// In the kernel; `None` where that was not asked.
    pub(super) in_kernel: Option<Judged>,
    /// The CPU that this is about.
    pub(super) cpu: usize,
}

/// What became of a frame in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// How it ended.
    pub(super) outcome: Outcome,
    /// The frame as the program has left it.
    pub(super) frame: Vec<u8>,
}

impl Judged {
    pub(super) fn is_of(&self, run: &Run) -> bool {
        self.outcome == run.outcome && self.frame == run.frame
    }
}

impl Explanation {
    /// Why the frame ended.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.run.outcome.reason
    }

    /// The frame as it comes back; `None` where it is not answered.
    #[must_use]
    pub fn reply(&self) -> Option<&[u8]> {
        (self.reason().verdict() == Verdict::Answer).then_some(self.run.frame.as_slice())
    }

    /// What kernel and host disagree about; `None` where they agree, or where the kernel was not asked.
    #[must_use]
    pub fn disagreement(&self) -> Option<String> {
        let judged = self.in_kernel.as_ref().filter(|judged| !judged.is_of(&self.run))?;
        let told = |reason: Reason| format!("{} ({})", reason.verdict().name(), reason.name());
        let (kernel, host) = (judged.outcome.reason, self.reason());
        Some(if kernel != host {
            format!("the kernel says {}, the same code on the host says {}", told(kernel), told(host))
        } else if judged.outcome.row != self.run.outcome.row {
            "kernel and host count the frame in different rows".to_owned()
        } else {
            "kernel and host leave the frame with different bytes".to_owned()
        })
    }
}
