//! The steps of the packet path that are functions of their own in the kernel.
//!
//! Owns one function for each of icmp-common's `path::apart` steps, and the calls to them. They are global functions with BTF (Linux 5.6): the
//! verifier checks each by itself, knowing only the types of its arguments, and treats a call to one like a call to a helper.

use core::arch::asm;

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use icmp_common::abi::{CapturedAbout, Tap};
use icmp_common::path::apart::{self, About, Apart};
use icmp_common::tables::Tables;

use crate::context::{Buffers, XdpFrame, unknown};
use crate::maps::{self, Maps};

macro_rules! steps {
    ($($step:ident $function:ident)+) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $function(ctx: *mut xdp_md, about: u64, first: u64, second: u64) -> u64 {
                // SAFETY: no instruction. The compiler is to take every argument for used, or it would leave some of them undefined in the
                // calls, which the verifier refuses.
                unsafe { asm!("", in("r2") about, in("r3") first, in("r4") second, options(nomem, nostack, preserves_flags)) };
                // Where a frame lies in one buffer, its whole length is that of the first, whatever the program takes.
                let context = XdpContext::new(ctx);
                let frame = &mut XdpFrame::new(&context, Buffers::Several);
                apart::run::<{ apart::$step }, _, _>(frame, &Maps, About(about), [first, second])
            }
        )+

        impl Apart for XdpFrame<'_> {
            #[inline(always)]
            fn apart<const STEP: u32, T: Tables>(&mut self, _tables: &T, about: About, more: [u64; 2]) -> u64 {
                match STEP {
                    // The compiler would look into the function, and leave out a bound of the result that the verifier needs.
                    $(apart::$step => unknown($function(self.context(), about.0, more[0], more[1])),)+
                    // `run` refuses a step that is not in the list, and there is a test that each has its function.
                    _ => apart::run::<STEP, _, _>(self, &Maps, about, more),
                }
            }

            #[inline(always)]
            fn save(&mut self, tap: Tap, about: &CapturedAbout) -> bool {
                maps::save(self, tap, about)
            }
        }
    };
}

steps! {
    UNUSUAL icmp_unusual
    OWN icmp_own
    POLICY icmp_policy
    LONGEST icmp_longest
    STOP icmp_stop
    NOTE icmp_note
    SUM icmp_sum
    INTERFACE icmp_interface
    PATH_MTU icmp_path_mtu
    BUDGET icmp_budget
    TAGS icmp_tags
    CAPTURE icmp_capture
    PEERS icmp_peers
}
