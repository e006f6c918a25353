//! The measured programs: the packet path as it is shipped, the programs that it is compared with, and the two ends of a wire.
//!
//! Owns the wrapper that every measured program runs in: `BPF_PROG_TEST_RUN` gives each run the frame that the run before has left, so a
//! responder would see its own answer from the second run on. The wrapper makes it a request again, and costs are counted above an empty
//! program in the same wrapper. `comparators.rs` has the other programs; the packet path is the library of icmp-ebpf.
#![no_std]
#![no_main]

mod comparators;
mod request;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use icmp_common::frame::Frame as _;
use icmp_ebpf::{Buffers, Maps, XdpFrame, process};

/// Does nothing: what the loop and the wrapper cost.
#[xdp]
#[inline(always)]
pub fn empty(ctx: XdpContext) -> u32 {
    undone(&ctx, xdp_action::XDP_PASS)
}

/// The packet path, as `icmp_ctl` runs it.
#[xdp]
#[inline(always)]
pub fn full(ctx: XdpContext) -> u32 {
    undone(&ctx, process(&ctx, Buffers::One))
}

/// Swap, checksum, back out: nothing else.
#[xdp]
#[inline(always)]
pub fn bare(ctx: XdpContext) -> u32 {
    undone(&ctx, comparators::bare(&mut XdpFrame::new(&ctx, Buffers::One)))
}

/// Echo within the packet path's limits for source and prefix, without the rest of it.
#[xdp]
#[inline(always)]
pub fn limits(ctx: XdpContext) -> u32 {
    undone(&ctx, comparators::limits(&mut XdpFrame::new(&ctx, Buffers::One), &Maps))
}

/// Echo with a limit for each source, as it is usually written.
#[xdp]
#[inline(always)]
pub fn conventional(ctx: XdpContext) -> u32 {
    let frame = &mut XdpFrame::new(&ctx, Buffers::One);
    undone(&ctx, comparators::conventional(frame, comparators::helper_sum))
}

/// The same with the checksum updated in place, without a helper call.
#[xdp]
#[inline(always)]
pub fn conventional_tuned(ctx: XdpContext) -> u32 {
    let frame = &mut XdpFrame::new(&ctx, Buffers::One);
    undone(&ctx, comparators::conventional(frame, comparators::inline_sum))
}

/// Drops everything.
#[xdp]
#[inline(always)]
pub fn drop(ctx: XdpContext) -> u32 {
    undone(&ctx, xdp_action::XDP_DROP)
}

/// The sending end: every live frame becomes a request and is sent out of the interface it is said to have come in on.
#[xdp]
#[inline(always)]
pub fn generate(ctx: XdpContext) -> u32 {
    match request::write(&mut XdpFrame::new(&ctx, Buffers::One)) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_ABORTED,
    }
}

/// The same at a steady rate: frames whose time has not come are dropped.
#[xdp]
#[inline(always)]
pub fn generate_paced(ctx: XdpContext) -> u32 {
    if !request::is_due() {
        return xdp_action::XDP_DROP;
    }
    match request::write(&mut XdpFrame::new(&ctx, Buffers::One)) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_ABORTED,
    }
}

/// The receiving end: counts and drops echo replies, passes the rest, so that address resolution works.
#[xdp]
#[inline(always)]
pub fn collect(ctx: XdpContext) -> u32 {
    if request::count_reply(&mut XdpFrame::new(&ctx, Buffers::One)) {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

/// Has the next run begin with a request. Behind the program, not before it: a program that loads what has just been stored, but more of
/// it at once than one store wrote, waits for the store, which no received frame would have it do. And called with what the program
/// has said, not with the program: that would become a function, and a call costs as much as an answer, which the program as it is
/// shipped does not pay.
#[inline(always)]
fn undone(ctx: &XdpContext, action: u32) -> u32 {
    if request::UNDO.load() != request::KEEP {
        let frame = &mut XdpFrame::new(ctx, Buffers::One);
        // Without this the compiler would leave out the program's stores, which are about to be overwritten.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        if frame.linear_len() < request::LEN || request::write(frame).is_none() {
            return xdp_action::XDP_ABORTED;
        }
    }
    action
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
