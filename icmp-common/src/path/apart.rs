//! Steps that few frames need, or that many branches lead to: each is a function that the verifier checks by itself.
//!
//! Owns the list of these steps and their arguments. It does not own what they do. In the kernel such a step is a call (9 ns), and the verifier
//! follows it once, whatever state the branches that lead to it have; on the host it is the function itself.

use crate::abi::{CapturedAbout, PrefixKind, Tap};
use crate::frame::Frame;
use crate::path::unusual::{self, Unusual};
use crate::path::{capture, limit, link, own, peers, policy, reply};
use crate::prefixes::{self};
use crate::tables::{self, Tables};
use crate::types::Family;
use crate::wire::ethernet;

/// Finds the ICMP message of a packet that is not the usual one, or the reason why there is none ([`unusual::unusual`]).
pub const UNUSUAL: u32 = 0;
/// Looks up whom a packet is addressed to and where it comes from ([`own::look_up`]).
pub const OWN: u32 = 1;
/// Evaluates a message by checks, rules and the type table ([`policy::evaluate`]).
pub const POLICY: u32 = 2;
/// The longest prefix around an address ([`prefixes::longest`]).
pub const LONGEST: u32 = 3;
/// Stops at a token batch or a sample ([`limit::stop`]).
pub const STOP: u32 = 4;
/// Notes what became of a sender ([`limit::note`]).
pub const NOTE: u32 = 5;
/// Sums a message ([`reply::sum`]).
pub const SUM: u32 = 6;
/// The place of an interface's entry, where it is not the first one ([`tables::interface_place`]).
pub const INTERFACE: u32 = 7;
/// Notes a path MTU that was reported ([`policy::note_mtu`]).
pub const PATH_MTU: u32 = 8;
/// Charges a message to the budget of its kind ([`policy::charge`]).
pub const BUDGET: u32 = 9;
/// Reads the tags of a frame that has more than one ([`link::tags`]).
pub const TAGS: u32 = 10;
/// Captures a frame that has ended, for one tap ([`capture::capture`]).
pub const CAPTURE: u32 = 11;
/// Notes who was answered ([`peers::track`]).
pub const PEERS: u32 = 12;
/// How many steps there are.
pub const STEPS: u32 = 13;

/// A frame on whose behalf steps run apart.
pub trait Apart: Frame + Sized {
    /// Runs a step.
    #[inline(always)]
    fn apart<const STEP: u32, T: Tables>(&mut self, tables: &T, about: About, more: [u64; 2]) -> u64 {
        run::<STEP, Self, T>(self, tables, about, more)
    }

    /// Copies the frame to who captures; false where there is no room. On the host nobody does.
    #[inline(always)]
    fn save(&mut self, _tap: Tap, _about: &CapturedAbout) -> bool {
        true
    }
}

/// The step itself.
#[inline(always)]
pub fn run<const STEP: u32, F: Apart, T: Tables>(
    frame: &mut F,
    tables: &T,
    about: About,
    more: [u64; 2],
) -> u64 {
    const { assert!(STEP < STEPS) };
    match STEP {
        UNUSUAL => unusual::unusual(frame, tables, &about),
        OWN => own::look_up(frame, tables, &about, more[0], more[1] as u32),
        POLICY => policy::evaluate(frame, tables, &about, Unusual(more[0])),
        LONGEST => prefixes::longest::<F, T>(tables, &about, (more[0], more[1])) as u64,
        STOP => limit::stop(frame, tables, &about),
        NOTE => limit::note(frame, tables, &about, more[0]),
        PATH_MTU => policy::note_mtu(frame, tables, &about, Unusual(more[0])),
        BUDGET => policy::charge(frame, tables, &about, more[0]),
        TAGS => link::tags(frame),
        CAPTURE => capture::capture(frame, tables, more[0], more[1] as u32),
        PEERS => peers::track(frame, tables, &about),
        INTERFACE => tables::interface_place::<F, T>(tables, more[0] as u32) as u64,
        _ => reply::sum(frame, more[0] as usize, more[1] as usize),
    }
}

/// What a step that runs apart is told, in one word: bits 0 to 7 how many tags the frame has, 8 the family, 9 `settings`, 10 `addresses`, 11 to 15 `slot`, 16 to 31 `len`,
/// 32 to 55 `vlan`, 56 to 63 `switch` or, for a search of prefixes, `kind`.
#[derive(Clone, Copy)]
pub struct About(pub u64);

impl About {
    /// No frame.
    pub(crate) const NOTHING: Self = Self(0);

    /// A frame whose IP header starts at `l3`.
    #[inline(always)]
    pub(crate) const fn new(family: Family, l3: usize, vlan: u32) -> Self {
        let tags = (l3 - ethernet::LEN) / ethernet::TAG_LEN;
        Self((tags & MAX_TAGS) as u64 | (family as u64) << 8 | (vlan as u64) << 32)
    }

    /// No frame, but an address of this family: what a search for prefixes is told.
    pub const fn of_kind(family: Family, kind: PrefixKind) -> Self {
        Self::new(family, ethernet::LEN, 0).with_kind(kind as u8)
    }

    /// The same frame, with where it came in and what was in force then: the steps are to go by the same.
    #[inline(always)]
    pub(crate) const fn with_ingress(self, switch: u32, settings: u32, addresses: u32, slot: u32) -> Self {
        Self(
            self.0
                | (settings as u64) << 9
                | (addresses as u64) << 10
                | (slot as u64) << 11
                | (switch as u64) << 56,
        )
    }

    /// The switch as the frame met it (`abi::SWITCH_*`).
    #[inline(always)]
    pub(crate) const fn switch(self) -> u32 {
        (self.0 >> 56) as u32
    }

    /// The same frame, with the length of its ICMP message.
    #[inline(always)]
    pub(crate) const fn with_len(self, len: usize) -> Self {
        Self(self.0 | (len as u64) << 16)
    }

    /// The same, about one of the [`crate::abi::PrefixKind`]s.
    #[inline(always)]
    pub(crate) const fn with_kind(self, kind: u8) -> Self {
        Self(self.0 & !(0xff << 56) | (kind as u64) << 56)
    }

    /// Where the IP header starts.
    #[inline(always)]
    pub(crate) const fn l3(self) -> usize {
        ethernet::LEN + (self.0 as usize & MAX_TAGS) * ethernet::TAG_LEN
    }

    /// IPv4 or IPv6.
    #[inline(always)]
    pub(crate) const fn family(self) -> Family {
        if self.0 >> 8 & 1 == 0 { Family::V4 } else { Family::V6 }
    }

    /// Buffer of the settings in force.
    #[inline(always)]
    pub(crate) const fn settings(self) -> u32 {
        (self.0 >> 9) as u32 & 1
    }

    /// Buffer of the addresses in force.
    #[inline(always)]
    pub(crate) const fn addresses(self) -> u32 {
        (self.0 >> 10) as u32 & 1
    }

    /// Slot of the interface.
    #[inline(always)]
    pub(crate) const fn slot(self) -> u32 {
        (self.0 >> 11) as u32 & 0x1f
    }

    /// Length of the ICMP message.
    #[inline(always)]
    pub(crate) const fn len(self) -> usize {
        (self.0 >> 16) as usize & 0xffff
    }

    /// VLAN as [`crate::abi::Scope`] counts it.
    #[inline(always)]
    pub(crate) const fn vlan(self) -> u32 {
        (self.0 >> 32) as u32 & 0xff_ffff
    }

    /// Which of the [`crate::abi::PrefixKind`]s.
    #[inline(always)]
    pub(crate) const fn kind(self) -> u8 {
        (self.0 >> 56) as u8
    }
}

/// How many tags a frame can have before its IP header, as a mask.
pub(crate) const MAX_TAGS: usize = 63;
/// Where something that is looked for in a frame can start at most, as a mask: in the first page, which is the usual size of a buffer.
pub(crate) const MAX_START: usize = 4095;
