//! icmp-common's map layouts as aya's `Pod`.
//!
//! aya's maps take types that implement its `Pod`; icmp-common owns the layouts and forbids unsafe code, so the promise that they are plain
//! data is made here, once for each.

use icmp_common::abi::{
    AddressBucket4, AddressBucket6, Capture, CaptureCpu, Counter, Cpu, GateState, HeavyHitter, Interface,
    Line, OwnFirst, PeerBucket, PrefixBucket4, PrefixBucket6, RuleCounter, Rules, Settings,
};

/// A layout of the map ABI, as a map value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pod<T>(pub T);

impl<T> Pod<T> {
    /// A value where it is, for those that are too large to be moved about on a stack.
    pub fn of(value: &T) -> &Self {
        // SAFETY: the type is transparent, so both references are to the same bytes, for the same time.
        unsafe { &*std::ptr::from_ref(value).cast::<Self>() }
    }
}

macro_rules! plain {
    ($($layout:ty),+) => {
        $(
            // SAFETY: the layout is repr(C), without padding (asserted in icmp_common::abi), and every bit pattern is a value.
            unsafe impl aya::Pod for Pod<$layout> {}
        )+
    };
}

plain!(
    AddressBucket4,
    AddressBucket6,
    Capture,
    CaptureCpu,
    Counter,
    Cpu,
    GateState,
    Interface,
    Line,
    OwnFirst,
    PeerBucket,
    PrefixBucket4,
    PrefixBucket6,
    Rules,
    Settings,
    HeavyHitter,
    RuleCounter
);
