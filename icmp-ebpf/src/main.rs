//! The XDP program: entry points, panic handler and licence around the library of this crate. Nothing else.
//!
//! There are two entry points, because the kernel fixes at load whether a program takes frames in several buffers; and the same two for use in
//! front of another program, so that the first two stay free of that cost. The controller loads and attaches the one that the interface needs.
#![no_std]
#![no_main]

use aya_ebpf::{macros::xdp, programs::XdpContext};
use icmp_ebpf::{Buffers, process, process_first};

/// For frames in one buffer.
#[xdp]
#[inline(always)]
pub fn icmp_ctl(ctx: XdpContext) -> u32 {
    process(&ctx, Buffers::One)
}

/// For interfaces that may deliver frames in several buffers.
#[xdp(frags)]
#[inline(always)]
pub fn icmp_ctl_frags(ctx: XdpContext) -> u32 {
    process(&ctx, Buffers::Several)
}

/// For frames in one buffer, in front of another program.
#[xdp]
#[inline(always)]
pub fn icmp_ctl_chain(ctx: XdpContext) -> u32 {
    process_first(&ctx, Buffers::One)
}

/// For interfaces that may deliver frames in several buffers, in front of another program.
#[xdp(frags)]
#[inline(always)]
pub fn icmp_ctl_chain_frags(ctx: XdpContext) -> u32 {
    process_first(&ctx, Buffers::Several)
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
