//! The maps and the clock: the kernel's side of icmp-common's `Tables`. Layouts are icmp-common's `abi`.
//!
//! Sizes given here are those of a default load; the controller may set others for `CELLS`.

use core::cell::UnsafeCell;
use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use core::ops::DerefMut;

use aya_ebpf::{
    Global,
    btf_maps::{Array, PerCpuArray},
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::btf_map,
};
use icmp_common::{
    abi::{
        ADDRESS_BUCKETS, Bucket4, Bucket6, COUNTERS as COUNTER_ENTRIES, Cluster, Counter, INTERFACE_ENTRIES,
        Interface, Leases, SWITCH_BITS, SWITCH_ROLLBACK_AT, Settings, TALLIES as TALLY_ENTRIES,
        counter_index,
    },
    budget, familiar,
    limiter::{self, Cells, Shared},
    prefixes::{PREFIX_BUCKETS4, PREFIX_BUCKETS6, PrefixBucket4, PrefixBucket6},
    reason::Reason,
    rules::{Rules, Tally},
    tables::Tables,
    talkers::{TALKERS as TALKER_ENTRIES, Talker},
};

/// Banks of everything that is switched at once.
const BANKS: usize = 2;
/// Places in the limiter's table of a default load.
const DEFAULT_CELLS: usize = 1 << 15;

/// What only the controller writes, in a section of its own, which is a map with one value. The program knows its address when it is
/// loaded: no lookup, and none of the registers that a call to one would cost.
#[repr(transparent)]
struct Fixed<T>(UnsafeCell<T>);

// SAFETY: this side only reads, as it reads elements of a map.
unsafe impl<T> Sync for Fixed<T> {}

impl<T> Fixed<T> {
    /// All zero.
    const ZERO: Self = {
        // SAFETY: only used below, with layouts of the map ABI, for which every bit pattern is a value.
        Self(UnsafeCell::new(unsafe { core::mem::zeroed() }))
    };
}

impl<T, const N: usize> Fixed<[T; N]> {
    /// An element; `N` is a power of two, and what is beyond it wraps around.
    #[inline(always)]
    fn get(&self, index: u32) -> &T {
        const { assert!(N.is_power_of_two()) };
        // SAFETY: the controller changes nothing that is in use but single bytes (docs/map-abi.md), as in a map.
        unsafe { &(*self.0.get())[index as usize & (N - 1)] }
    }
}

#[used]
#[unsafe(link_section = ".data.SWITCH")]
static SWITCH: Fixed<[u64; 2]> = Fixed::ZERO;
#[used]
#[unsafe(link_section = ".data.SETTINGS")]
static SETTINGS: Fixed<[Settings; BANKS]> = Fixed::ZERO;
#[used]
#[unsafe(link_section = ".data.IFACES")]
static INTERFACES: Fixed<[Interface; INTERFACE_ENTRIES as usize]> = Fixed::ZERO;
#[used]
#[unsafe(link_section = ".data.ADDRS4_0")]
static ADDRESSES4_0: Fixed<[Bucket4; ADDRESS_BUCKETS as usize]> = Fixed::ZERO;
#[used]
#[unsafe(link_section = ".data.ADDRS4_1")]
static ADDRESSES4_1: Fixed<[Bucket4; ADDRESS_BUCKETS as usize]> = Fixed::ZERO;
#[used]
#[unsafe(link_section = ".data.ADDRS6_0")]
static ADDRESSES6_0: Fixed<[Bucket6; ADDRESS_BUCKETS as usize]> = Fixed::ZERO;
#[used]
#[unsafe(link_section = ".data.ADDRS6_1")]
static ADDRESSES6_1: Fixed<[Bucket6; ADDRESS_BUCKETS as usize]> = Fixed::ZERO;
#[btf_map]
static RULES: Array<Rules, BANKS> = Array::new();
#[btf_map]
static PREFIXES4: Array<PrefixBucket4, { BANKS * PREFIX_BUCKETS4 as usize }> = Array::new();
#[btf_map]
static PREFIXES6: Array<PrefixBucket6, { BANKS * PREFIX_BUCKETS6 as usize }> = Array::new();
#[btf_map]
static TALLIES: PerCpuArray<Tally, { TALLY_ENTRIES as usize }> = PerCpuArray::new();
#[btf_map]
static BUDGETS: Array<u64, { budget::CELLS as usize }> = Array::new();
#[btf_map]
static CELLS: Array<Cluster, DEFAULT_CELLS> = Array::new();
#[btf_map]
static FAMILIAR: Array<u64, { familiar::PLACES as usize }> = Array::new();
#[btf_map]
static LEASES: PerCpuArray<Leases, 1> = PerCpuArray::new();
#[btf_map]
static TALKERS: PerCpuArray<Talker, { TALKER_ENTRIES as usize }> = PerCpuArray::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counter, { COUNTER_ENTRIES as usize }> = PerCpuArray::new();

/// 64 less log2 of the places in `CELLS`; set at load together with their number.
#[unsafe(no_mangle)]
static CELL_SHIFT: Global<u32> = Global::new(64 - DEFAULT_CELLS.ilog2());
/// The secret of the limiter's hash; set at load, from the kernel's random numbers.
#[unsafe(no_mangle)]
static SECRET: Global<[u64; 4]> = Global::new([0; 4]);

/// The instance's maps, as the CPU running this program sees them.
pub struct Maps;

/// A word of `BUDGETS`, `CELLS` or `FAMILIAR`.
struct MapCell(*mut u64);

impl Cells for Maps {
    #[inline(always)]
    fn cell(&self, index: u32) -> Option<impl Shared> {
        BUDGETS.get_ptr_mut(index).map(MapCell)
    }

    #[inline(always)]
    fn cluster(&self, place: u32) -> Option<limiter::Cluster<impl Shared>> {
        let cluster = CELLS.get_ptr_mut(place)?;
        // SAFETY: `cluster` is a valid element, and only addresses within it are taken.
        unsafe {
            Some(limiter::Cluster {
                source: MapCell(&raw mut (*cluster).source),
                familiar: [
                    MapCell(&raw mut (*cluster).familiar[0]),
                    MapCell(&raw mut (*cluster).familiar[1]),
                ],
                source_second: MapCell(&raw mut (*cluster).source_second),
                prefix: MapCell(&raw mut (*cluster).prefix),
                prefix_second: MapCell(&raw mut (*cluster).prefix_second),
            })
        }
    }

    #[inline(always)]
    fn familiar(&self, place: u32) -> Option<impl Shared> {
        FAMILIAR.get_ptr_mut(place).map(MapCell)
    }
}

impl Shared for MapCell {
    #[inline(always)]
    fn load(&self) -> u64 {
        // A volatile read is one 8-byte load; LLVM has no atomic load for this instruction set.
        // SAFETY: an element of an array map stays where it is for as long as the program runs, and is aligned to 8.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn swap(&self, old: u64, new: u64) -> bool {
        // SAFETY: as in `load`; every other access to a cell while the program is loaded is atomic too.
        let (found, _) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(self.0, old, new)
        };
        found == old
    }

    #[inline(always)]
    fn store(&self, value: u64) {
        // SAFETY: as in `load`; one 8-byte store, so that no reader sees half of it.
        unsafe { self.0.write_volatile(value) };
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn switch(&self) -> Option<u32> {
        // Its one byte, the lowest, which needs no widening.
        let byte: *const u8 = (&raw const *SWITCH.get(SWITCH_BITS)).cast();
        // SAFETY: from a reference to eight bytes; volatile, so that a frame sees one value.
        Some(unsafe { byte.read_volatile() } as u32)
    }

    #[inline(always)]
    fn settings(&self, bank: u32) -> Option<&Settings> {
        Some(SETTINGS.get(bank))
    }

    #[inline(always)]
    fn interface_entry(&self, index: u32) -> Option<&Interface> {
        Some(INTERFACES.get(index))
    }

    #[inline(always)]
    fn addresses4(&self, index: u32) -> Option<&Bucket4> {
        Some(if index & ADDRESS_BUCKETS == 0 { ADDRESSES4_0.get(index) } else { ADDRESSES4_1.get(index) })
    }

    #[inline(always)]
    fn addresses6(&self, index: u32) -> Option<&Bucket6> {
        Some(if index & ADDRESS_BUCKETS == 0 { ADDRESSES6_0.get(index) } else { ADDRESSES6_1.get(index) })
    }

    #[inline(always)]
    fn rules(&self, bank: u32) -> Option<&Rules> {
        RULES.get(bank)
    }

    #[inline(always)]
    fn prefixes4(&self, index: u32) -> Option<&PrefixBucket4> {
        PREFIXES4.get(index)
    }

    #[inline(always)]
    fn prefixes6(&self, index: u32) -> Option<&PrefixBucket6> {
        PREFIXES6.get(index)
    }

    #[inline(always)]
    fn tally(&self, index: u32) -> Option<impl DerefMut<Target = Tally>> {
        let tally = TALLIES.get_ptr_mut(index)?;
        // SAFETY: the element is this CPU's own, as in `leases`.
        Some(unsafe { &mut *tally })
    }

    #[inline(always)]
    fn rollback_at(&self) -> Option<u64> {
        Some(*SWITCH.get(SWITCH_ROLLBACK_AT))
    }

    #[inline(always)]
    fn monotonic_ns(&self) -> u64 {
        // SAFETY: takes nothing and touches nothing.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn leases(&self) -> Option<impl DerefMut<Target = Leases>> {
        let leases = LEASES.get_ptr_mut(0)?;
        // SAFETY: the element is this CPU's own, nothing else runs XDP programs on a CPU before this one returns, and the packet path
        // lets go of it before it asks again.
        Some(unsafe { &mut *leases })
    }

    #[inline(always)]
    fn talker(&self, index: u32) -> Option<impl DerefMut<Target = Talker>> {
        let talker = TALKERS.get_ptr_mut(index)?;
        // SAFETY: the element is this CPU's own, as in `leases`.
        Some(unsafe { &mut *talker })
    }

    #[inline(always)]
    fn cell_shift(&self) -> u32 {
        CELL_SHIFT.load()
    }

    #[inline(always)]
    fn secret(&self) -> [u64; 4] {
        SECRET.load()
    }

    #[inline(always)]
    fn ticks(&self) -> u64 {
        // SAFETY: takes nothing and touches nothing; the verifier turns it into a load.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn opaque(&self, leases: &mut Leases, value: usize) -> usize {
        let scratch = &raw mut leases.scratch;
        // SAFETY: from a reference; volatile, or the compiler would see through it.
        unsafe { scratch.write_volatile(value as u64) };
        // SAFETY: as above.
        unsafe { scratch.read_volatile() as usize }
    }

    #[inline(always)]
    fn count(&self, slot: u32, row: u8, reason: Reason, bytes: u64) {
        if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(slot, row as u32, reason as u32)) {
            // SAFETY: the element is this CPU's own, as in `leases`.
            unsafe { (*counter).count(bytes) };
        }
    }
}
