//! The XDP program: entry points, panic handler and licence around the library of this crate. Nothing else.
//!
//! Two entry points, because the kernel fixes at load whether a program takes frames in several buffers; the controller attaches
//! the one the interface needs.
#![no_std]
#![no_main]

use aya_ebpf::{macros::xdp, programs::XdpContext};
use icmp_ebpf::{Buffers, process};

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

// A panic that could be reached makes an endless loop, which the verifier refuses at load.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel reads this to know that GPL-only helpers may be called.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
