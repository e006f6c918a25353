//! The XDP program: wraps the context, runs icmp-common's pipeline, turns a verdict into an XDP action. Nothing else.
//!
//! Two entry points, because the kernel fixes at load whether a program takes frames in several buffers; the controller attaches
//! the one the interface needs. Inlined into what the macro makes, or every frame would pay for a call.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "core::sync::atomic has no compare-and-swap on this target, the intrinsic has"
)]

mod context;
mod maps;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use icmp_common::{pipeline, reason::Verdict};

/// For frames in one buffer.
#[xdp]
#[inline(always)]
pub fn icmp_ctl(ctx: XdpContext) -> u32 {
    action(&ctx, context::Buffers::One)
}

/// For interfaces that may deliver frames in several buffers.
#[xdp(frags)]
#[inline(always)]
pub fn icmp_ctl_frags(ctx: XdpContext) -> u32 {
    action(&ctx, context::Buffers::Several)
}

#[inline(always)]
fn action(ctx: &XdpContext, buffers: context::Buffers) -> u32 {
    let outcome =
        pipeline::process(&mut context::XdpFrame::new(ctx, buffers), &maps::Maps, context::ifindex(ctx));
    #[cfg(feature = "trace")]
    aya_log_ebpf::trace!(ctx, "reason {} row {}", outcome.reason as u8, outcome.row);
    match outcome.verdict() {
        Verdict::Pass => xdp_action::XDP_PASS,
        Verdict::Answer => xdp_action::XDP_TX,
        Verdict::Drop | Verdict::Limit => xdp_action::XDP_DROP,
    }
}

// A panic that could be reached makes an endless loop, which the verifier refuses at load.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel reads this to know that GPL-only helpers may be called.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
