//! The packet path in the kernel: the XDP context as a frame, the maps as tables, icmp-common's verdict as an XDP action.
//!
//! Owns no decision about a packet (`icmp-common`), no entry points and no panic handler: those are in `main.rs`, and the bench has its own.
#![no_std]
#![feature(asm_experimental_arch)]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "core::sync::atomic has no compare-and-swap on this target, the intrinsic has"
)]

mod apart;
mod context;
mod maps;

use aya_ebpf::{bindings::xdp_action, programs::XdpContext};
use icmp_common::{path, reason::Verdict};

pub use context::{Buffers, XdpFrame};
pub use maps::Maps;

/// Runs the packet path on a frame and returns the XDP action. Inlined, or every frame would pay for a call.
#[inline(always)]
pub fn process(ctx: &XdpContext, buffers: Buffers) -> u32 {
    let outcome = path::process(&mut XdpFrame::new(ctx, buffers), &Maps, context::ifindex(ctx));
    #[cfg(feature = "trace")]
    aya_log_ebpf::trace!(ctx, "reason {} row {}", outcome.reason as u8, outcome.row);
    match outcome.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Answer => xdp_action::XDP_TX,
        Verdict::Drop | Verdict::Limit => xdp_action::XDP_DROP,
    }
}

/// As [`process`], in front of another program, which gets what is passed. The call is in the entry point itself: from a function of its own,
/// the kernel would allow it half of the stack.
#[inline(always)]
pub fn process_first(ctx: &XdpContext, buffers: Buffers) -> u32 {
    let action = process(ctx, buffers);
    if action == xdp_action::XDP_PASS {
        let slot = path::slot(&mut XdpFrame::new(ctx, buffers), &Maps, context::ifindex(ctx));
        Maps::hand_on(ctx, buffers, slot);
    }
    action
}
