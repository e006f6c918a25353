//! The frame as the XDP context shows it: the one place with pointers into packet memory.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext as _, bindings::xdp_md, helpers::generated::bpf_xdp_get_buff_len, programs::XdpContext,
};
use icmp_common::frame::Frame;

/// How many buffers a frame may lie in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Buffers {
    /// One, as without jumbo frames.
    One,
    /// One or more, of which only the first is readable by address.
    Several,
}

/// A frame in the driver's memory.
pub struct XdpFrame<'a> {
    ctx: &'a XdpContext,
    start: usize,
    end: usize,
    buffers: Buffers,
}

impl<'a> XdpFrame<'a> {
    /// The frame that the kernel called the program with.
    #[inline(always)]
    pub fn new(ctx: &'a XdpContext, buffers: Buffers) -> Self {
        let (start, end) = extent(ctx);
        Self { ctx, start, end, buffers }
    }

    /// The context as the kernel handed it over.
    #[inline(always)]
    pub(crate) fn context(&self) -> *mut xdp_md {
        self.ctx.ctx
    }
}

/// Where the first buffer starts and ends.
#[inline(always)]
fn extent(ctx: &XdpContext) -> (usize, usize) {
    // SAFETY: the context is the one the kernel handed to this program.
    let (start, end) = unsafe {
        (
            (&raw const (*ctx.ctx).data).read_volatile() as usize,
            (&raw const (*ctx.ctx).data_end).read_volatile() as usize,
        )
    };
    // SAFETY: no frame lies at address zero. Otherwise every window at its start would be asked whether it does.
    unsafe { core::hint::assert_unchecked(start != 0) };
    (start, end)
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn linear_len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn opaque(value: usize) -> usize {
        unknown(value as u64) as usize
    }

    #[inline(always)]
    fn total_len(&self) -> usize {
        match self.buffers {
            Buffers::One => self.linear_len(),
            // SAFETY: the helper reads the context it is given, which is the one the kernel handed to this program.
            Buffers::Several => unsafe { bpf_xdp_get_buff_len(self.ctx.as_ptr().cast()) as usize },
        }
    }

    #[inline(always)]
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        let start = self.start + offset;
        // Pointers are compared, not lengths, and never with >=: that is the form every supported verifier follows.
        if start + N > self.end {
            return None;
        }
        // SAFETY: the comparison above proves that N bytes from start lie within the first buffer, which nothing else
        // refers to while this program runs; the verifier checks the same.
        Some(unsafe { &mut *(start as *mut [u8; N]) })
    }
}

/// The same value, of which the compiler knows as little as the verifier. It costs one instruction: with none, the line table would name
/// two lines for the one behind it, and the kernel refuses that.
#[inline(always)]
pub(crate) fn unknown(mut value: u64) -> u64 {
    // SAFETY: copies a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}

/// Index of the interface the frame came in on.
#[inline(always)]
pub(crate) fn ifindex(ctx: &XdpContext) -> u32 {
    ctx.ingress_ifindex() as u32
}
