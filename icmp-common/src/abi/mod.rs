//! The map ABI: the layouts that the program and the controller share.
//!
//! Owns names, layouts and sizes; docs/reference/maps.md is made from the comments here and from the object, docs/map-abi.md says how the maps
//! work together. A change here needs a new [`VERSION`], and so a new pin directory. All values are in the machine's byte order; no layout has
//! padding, flags are `u32`, sizes are asserted below.

mod addresses;
mod capture;
mod counters;
mod cpu;
mod gates;
mod interfaces;
mod limiter;
mod peers;
mod prefixes;
mod rules;
mod settings;
mod switch;

pub use addresses::*;
pub use capture::*;
pub use counters::*;
pub use cpu::*;
pub use gates::*;
pub use interfaces::*;
pub use limiter::*;
pub use peers::*;
pub use prefixes::*;
pub use rules::*;
pub use settings::*;
pub use switch::*;

/// Version of everything in this file; names the pin directory. What a new one does with the maps of the one before is said in icmp-ctl's
/// `instance/migration.rs`.
pub const VERSION: u32 = 11 + NEXT;

/// 1 in a build for tests, whose maps are those of a next version: some are laid out differently, by as little as that takes.
pub(crate) const NEXT: u32 = cfg!(feature = "next-abi") as u32;

const _: () = {
    assert!(size_of::<Interface>() == 24);
    assert!(size_of::<Level>() == 40);
    assert!(size_of::<AddressBucket4>() == 32 && size_of::<AddressBucket6>() == 96);
    assert!(size_of::<Counter>() == 16 && size_of::<HeavyHitter>() == 56);
    assert!(size_of::<Cpu>() == 112 && size_of::<Batches>() == 80 && size_of::<Line>() == 64);
    assert!(size_of::<OwnFirst>() == 128 && core::mem::offset_of!(Settings, budgets) == 112);
    assert!(size_of::<TypeEntry>() == 8);
    assert!(size_of::<Settings>() == 112 + BUDGETS * 20 + 8 + TYPE_ENTRIES * 8 + PEER_PREFIXES * 32);
    assert!(size_of::<TypeRules>() == 16 && size_of::<Rule>() == 24 && size_of::<RuleCounter>() == 32);
    assert!(
        size_of::<Rules>()
            == 32
                + TYPE_ENTRIES * 16
                + (CODE_BLOCKS * 256 + 256 + LENGTHS + VLANS) * 8
                + MAX_RULES * (24 + NAME_LEN)
                + ROUTERS * 16
                + size_of::<Search>()
                + PREFIX_VALUES * 8
                + GATES * size_of::<Gate>()
    );
    assert!(size_of::<Gate>() == 256 && size_of::<GateState>() == 16 && (2 * GATES).is_power_of_two());
    assert!(size_of::<PrefixBucket4>() == 64 && size_of::<PrefixBucket6>() == 64 && size_of::<Step6>() == 24);
    assert!(size_of::<Search4>() == LENGTHS4 * 8 + 8 && size_of::<Search6>() == LENGTHS6 * 24 + 8);
    assert!(size_of::<Search>() == 24 + 3 * (size_of::<Search4>() + size_of::<Search6>()));
    assert!(PREFIX_BUCKETS4.is_power_of_two() && PREFIX_BUCKETS6.is_power_of_two());
    assert!(size_of::<Capture>() == 56 && size_of::<CaptureCpu>() == 48);
    assert!(size_of::<CapturedAbout>() == 32 && size_of::<Captured>() == 2048);
    assert!(size_of::<Peer>() == 112 && size_of::<PeerBucket>() == 512 && PEER_WAYS.is_power_of_two());
    assert!(core::mem::offset_of!(Peers, places) == 64 - 8);
    assert!(INTERFACE_ENTRIES.is_power_of_two() && SCOPE_SLOTS >= SLOTS);
};
