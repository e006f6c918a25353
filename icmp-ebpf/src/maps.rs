//! The maps and the clock: the kernel's side of icmp-common's `Tables`.
//!
//! icmp-common's `abi` owns the layouts. The sizes here are those of a default load; the controller may set others for the limiter's tables, the
//! addresses and the peers. The comments of the maps are in docs/reference/maps.md.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::intrinsics::{AtomicOrdering, atomic_cxchg};
use core::ops::DerefMut;

use aya_ebpf::{
    Global,
    btf_maps::{Array, PerCpuArray, ProgramArray, RingBuf},
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns, bpf_xdp_load_bytes},
    macros::btf_map,
    programs::XdpContext,
};
use icmp_common::{
    abi::{
        ADDRESS_BUCKETS, AddressBucket4, AddressBucket6, CAPTURED_BYTES, CAPTURED_RING,
        COUNTERS as COUNTER_ENTRIES, Capture, CaptureCpu, Captured, CapturedAbout, Counter, Cpu, EVENT_RING,
        GATES as GATE_ENTRIES, GateState, HEAVY_HITTERS as HEAVY_HITTER_ENTRIES, HeavyHitter,
        INTERFACE_ENTRIES, Interface, LINE_WORDS, Line, OwnFirst, PEER_BUCKETS, PREFIX_BUCKETS4,
        PREFIX_BUCKETS6, PeerBucket, Peers, PrefixBucket4, PrefixBucket6,
        RULE_COUNTERS as RULE_COUNTER_ENTRIES, RuleCounter, Rules, SCOPE_SLOTS, SLOTS, SWITCH_BITS,
        SWITCH_ROLLBACK_AT, Settings, TAPS, Tap, counter_index,
    },
    budget, known_sources,
    limiter::{PairIndex, SECRETS, Shared, SharedWords, TRIES, Table},
    reason::Reason,
    tables::Tables,
};

use crate::context::{Buffers, XdpFrame, unknown};

/// Buffers of everything that is switched at once.
const BUFFERS: usize = 2;
/// Lines of sources of a default load; of prefixes and known sources there are half as many.
const DEFAULT_LINES: usize = 1 << 13;
/// Flag of an array whose values begin at a page (`BPF_F_MMAPABLE`, Linux 5.5), so that a line of a table is a cache line.
const MMAPABLE: usize = 1 << 10;

/// A value that only the controller writes, in a section of its own, which is a map of one entry. The program knows its address when it is
/// loaded: no lookup, and none of the registers that a call to one would cost.
#[repr(transparent)]
struct Fixed<T>(UnsafeCell<T>);

// SAFETY: this side only reads.
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

/// Which buffers are active, and when a change that awaits confirmation is rolled back. Written by the controller, read by both.
#[used]
#[unsafe(link_section = ".data.SWITCH")]
static SWITCH: Fixed<[u64; 2]> = Fixed::ZERO;
/// Limits, budgets and the type table, in two buffers. Written by the controller, read by both.
#[used]
#[unsafe(link_section = ".data.SETTINGS")]
static SETTINGS: Fixed<[Settings; BUFFERS]> = Fixed::ZERO;
/// The attached interfaces and their ports. Written by the controller, read by both.
#[used]
#[unsafe(link_section = ".data.IFACES")]
static INTERFACES: Fixed<[Interface; INTERFACE_ENTRIES as usize]> = Fixed::ZERO;
/// The addresses that are compared first, by 32 × buffer + slot. Written by the controller, read by both.
#[used]
#[unsafe(link_section = ".data.OWN")]
static OWN_FIRST: Fixed<[OwnFirst; BUFFERS * SCOPE_SLOTS as usize]> = Fixed::ZERO;
/// Whether VIPs with a check are healthy, by 32 × buffer of the rules + gate. Written by the controller, read by both.
#[used]
#[unsafe(link_section = ".data.GATES")]
static GATES: Fixed<[GateState; BUFFERS * GATE_ENTRIES]> = Fixed::ZERO;
/// What `icmp-ctl capture` captures. Written by the controller, read by both.
#[used]
#[unsafe(link_section = ".data.CAPTURE")]
static CAPTURE: Fixed<[Capture; 1]> = Fixed::ZERO;
/// Which frames are copied for events. Written by the controller, read by both.
#[used]
#[unsafe(link_section = ".data.EVENTS")]
static EVENTS: Fixed<[Capture; 1]> = Fixed::ZERO;
/// Random words, drawn at load and never changed: 0 and 1 for the hash of IPv4 sources that gives their buckets, 2 to 5 for that of IPv6, 6 and
/// 7 and 8 to 11 for the hashes of everything else about a source; the other four are zero. Written by the controller, at load, read by the
/// program.
#[used]
#[unsafe(link_section = ".data.SECRET")]
static SECRET: Fixed<[u64; SECRETS.next_power_of_two()]> = Fixed::ZERO;
/// IPv4 addresses, by buffer × buckets + bucket; buckets are set at load. Written by the controller, read by both.
#[btf_map]
static ADDRESSES4: Array<AddressBucket4, { BUFFERS * ADDRESS_BUCKETS as usize }> = Array::new();
/// IPv6 addresses and MAC addresses, by buffer × buckets + bucket; buckets are set at load. Written by the controller, read by both.
#[btf_map]
static ADDRESSES6: Array<AddressBucket6, { BUFFERS * ADDRESS_BUCKETS as usize }> = Array::new();
/// Compiled rules, by buffer. Written by the controller, read by both.
#[btf_map]
static RULES: Array<Rules, BUFFERS> = Array::new();
/// IPv4 prefixes, by buffer × 32,768 + bucket. Written by the controller, read by both.
#[btf_map]
static PREFIXES4: Array<PrefixBucket4, { BUFFERS * PREFIX_BUCKETS4 as usize }> = Array::new();
/// IPv6 prefixes, by buffer × 65,536 + bucket. Written by the controller, read by both.
#[btf_map]
static PREFIXES6: Array<PrefixBucket6, { BUFFERS * PREFIX_BUCKETS6 as usize }> = Array::new();
/// Counters of rules and checks, by slot. Written by the program, and cleared by the controller for a new rule; read by both.
#[btf_map]
static RULE_COUNTERS: PerCpuArray<RuleCounter, { RULE_COUNTER_ENTRIES as usize }> = PerCpuArray::new();
/// Buckets: of the 16 budgets at 8 × budget, each in a cache line of its own, and from 128 on of the 128 slots of rules. Written by the
/// program, and cleared by the controller for a new rule; read by the program.
#[btf_map]
static BUDGETS: Array<u64, { budget::BUCKETS as usize }> = Array::new();
/// Buckets of sources; lines are set at load by `memory`. Written and read by the program.
#[btf_map]
static SOURCES: Array<Line, DEFAULT_LINES, MMAPABLE> = Array::new();
/// Buckets of prefixes of sources; half as many lines as `SOURCES`. Written and read by the program.
#[btf_map]
static PREFIXES: Array<Line, { DEFAULT_LINES / 2 }, MMAPABLE> = Array::new();
/// Reputation entries of known sources; half as many lines as `SOURCES`. Written and read by the program.
#[btf_map]
static REPUTATIONS: Array<Line, { DEFAULT_LINES / 2 }, MMAPABLE> = Array::new();
/// The last epoch in which a known source was served, by the highest 12 bits of its second hash. Written and read by the program.
#[btf_map]
static LAST_SERVED: Array<u64, { known_sources::LAST_SERVED_ENTRIES as usize }> = Array::new();
/// The smallest path MTU of late: the MTU in bits 0 to 15, the tick at which it expires in 16 to 63. Written and read by the program.
#[btf_map]
static PATH_MTU: Array<u64, 1> = Array::new();
/// State of each CPU. Written by the program, read by both.
#[btf_map]
static CPU: PerCpuArray<Cpu, 1> = PerCpuArray::new();
/// Sources that send most echo requests. Written by the program, read by both.
#[btf_map]
static HEAVY_HITTERS: PerCpuArray<HeavyHitter, { HEAVY_HITTER_ENTRIES as usize }> = PerCpuArray::new();
/// Frames by interface, type and reason. Written by the program, cleared by the controller, read by both.
#[btf_map]
static COUNTERS: PerCpuArray<Counter, { COUNTER_ENTRIES as usize }> = PerCpuArray::new();
/// The bucket of the rate of captures (0) and of events (1). Written and read by the program.
#[btf_map]
static TAP_BUCKETS: Array<u64, { TAPS as usize }> = Array::new();
/// Counters of captures (0) and of events (1). Written by the program, read by both.
#[btf_map]
static TAP_CPU: PerCpuArray<CaptureCpu, { TAPS as usize }> = PerCpuArray::new();
/// Captured frames. libbpf takes no ring buffer whose records have a declared size. Written by the program, read by the controller.
#[btf_map]
static CAPTURED: RingBuf<(), CAPTURED_RING> = RingBuf::new();
/// Frames that are copied for events. Written by the program, read by the controller.
#[btf_map]
static EVENT_FRAMES: RingBuf<(), EVENT_RING> = RingBuf::new();
/// Tracked peers, by the highest bits of the sum of two hashes: of the source, with the words of `SECRET` for buckets, and of the destination,
/// with the others, mixed by the finalizer of MurmurHash3. Buckets are set at load by `track`. Written by the program, read by both.
#[btf_map]
static PEERS: Array<PeerBucket, { PEER_BUCKETS as usize }, MMAPABLE> = Array::new();
/// Programs behind `icmp_ctl_chain`, by the slot of the interface; in an empty slot the frame is passed. The kernel admits only programs of one
/// kind to an array, the calling one included, so `icmp_ctl_chain_frags` has an array of its own. Written by the controller, read by the
/// program.
#[btf_map]
static CHAIN: ProgramArray<{ SLOTS as usize }> = ProgramArray::new();
/// As [`CHAIN`], behind `icmp_ctl_chain_frags`. Written by the controller, read by the program.
#[btf_map]
static CHAIN_FRAGS: ProgramArray<{ SLOTS as usize }> = ProgramArray::new();

/// 64 less log2 of the lines in `SOURCES`; set at load together with their number.
#[unsafe(no_mangle)]
static SOURCE_SHIFT: Global<u32> = Global::new(64 - DEFAULT_LINES.ilog2());
/// 64 less log2 of the buckets in one buffer of `ADDRESSES4` and of `ADDRESSES6`; set at load together with their number.
#[unsafe(no_mangle)]
static ADDRESS_SHIFT: Global<u32> = Global::new(64 - ADDRESS_BUCKETS.ilog2());
/// 64 less log2 of the buckets in `PEERS`; set at load together with their number.
#[unsafe(no_mangle)]
static PEER_SHIFT: Global<u32> = Global::new(64 - PEER_BUCKETS.ilog2());
/// The instance's maps, as the CPU running this program sees them.
pub struct Maps;

impl Maps {
    /// Continues in the other program of an interface; returns if there is none.
    #[inline(always)]
    pub(crate) fn hand_on(ctx: &XdpContext, buffers: Buffers, slot: u32) {
        let chain = match buffers {
            Buffers::One => &CHAIN,
            Buffers::Several => &CHAIN_FRAGS,
        };
        // SAFETY: nothing here is left to be done or to be dropped.
        unsafe { chain.tail_call(ctx, slot) };
    }
}

/// The set-up of a receiver of captured frames.
#[inline(always)]
fn told(tap: Tap) -> &'static Fixed<[Capture; 1]> {
    match tap {
        Tap::Capture => &CAPTURE,
        Tap::Events => &EVENTS,
    }
}

/// Copies a frame to its receiver; false if there is no room left.
#[inline(always)]
pub(crate) fn save(frame: &XdpFrame<'_>, tap: Tap, about: &CapturedAbout) -> bool {
    let entry = match tap {
        Tap::Capture => CAPTURED.reserve_untyped::<Captured>(0),
        Tap::Events => EVENT_FRAMES.reserve_untyped::<Captured>(0),
    };
    let Some(mut entry) = entry else { return false };
    let captured: *mut Captured = entry.as_mut_ptr();
    // SAFETY: the entry has room for one, and nobody else sees it before it is submitted.
    unsafe { (&raw mut (*captured).about).write(*about) };
    // Less by one, because Linux 6.1 does not learn from a comparison with zero that a number is at least one.
    let last = unknown((about.captured as u64).wrapping_sub(1));
    if last >= CAPTURED_BYTES as u64 {
        entry.discard(0);
        return false;
    }
    // SAFETY: of the entry, as above.
    let to = unsafe { &raw mut (*captured).frame };
    // SAFETY: the helper writes as many bytes as the comparison above allows, or fails.
    let read = unsafe { bpf_xdp_load_bytes(frame.context(), 0, to.cast(), last as u32 + 1) };
    if read != 0 {
        entry.discard(0);
        return false;
    }
    entry.submit(0);
    true
}

/// A word that CPUs share.
struct MapWord(*mut u64);

impl SharedWords for Maps {
    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<impl Shared> {
        BUDGETS.get_ptr_mut(index).map(MapWord)
    }

    #[inline(always)]
    fn pair(&self, table: Table, place: PairIndex) -> Option<[impl Shared; 2]> {
        let line = match table {
            Table::Sources => SOURCES.get_ptr_mut(place.line),
            Table::Prefixes => PREFIXES.get_ptr_mut(place.line),
            Table::Reputations => REPUTATIONS.get_ptr_mut(place.line),
        }?;
        let words: *mut u64 = line.cast();
        let [first, second] = place.words;
        // SAFETY: `line` is a valid element, and the mask keeps the position within it.
        let first = unsafe { words.add(first & (LINE_WORDS - 1)) };
        // SAFETY: as above.
        let second = unsafe { words.add(second & (LINE_WORDS - 1)) };
        Some([MapWord(first), MapWord(second)])
    }

    #[inline(always)]
    fn last_served(&self, place: u32) -> Option<impl Shared> {
        LAST_SERVED.get_ptr_mut(place).map(MapWord)
    }
}

impl Shared for MapWord {
    #[inline(always)]
    fn load(&self) -> u64 {
        // A volatile read is one 8-byte load; LLVM has no atomic load for this instruction set.
        // SAFETY: an element of an array map stays where it is for as long as the program runs, and is aligned to 8.
        unsafe { self.0.read_volatile() }
    }

    #[inline(always)]
    fn swap(&self, old: u64, new: u64) -> bool {
        // SAFETY: as in `load`; every other access to a bucket while the program is loaded is atomic too.
        let (_, swapped) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(self.0, old, new)
        };
        swapped
    }

    #[inline(always)]
    fn tries() -> u32 {
        unknown(TRIES as u64) as u32
    }

    #[inline(always)]
    fn negative(difference: u64) -> u64 {
        let mut sign = difference;
        // SAFETY: an arithmetic shift of a register. In a form that the compiler sees through, it would become a branch.
        unsafe { asm!("{0} s>>= 63", inout(reg) sign, options(pure, nomem, nostack)) };
        difference & sign
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
    fn settings(&self, buffer: u32) -> Option<&Settings> {
        Some(SETTINGS.get(buffer))
    }

    #[inline(always)]
    fn interface_entry(&self, index: u32) -> Option<&Interface> {
        Some(INTERFACES.get(index))
    }

    #[inline(always)]
    fn own_first(&self, buffer: u32, slot: u32) -> Option<&OwnFirst> {
        // The compiler is not to drop the mask of `get` because it knows both parts: Linux 6.1 forgets what it knows of an OR of them.
        let index = unknown((buffer * SCOPE_SLOTS + slot) as u64) as u32;
        Some(OWN_FIRST.get(index))
    }

    #[inline(always)]
    fn addresses4(&self, index: u32) -> Option<&AddressBucket4> {
        ADDRESSES4.get(index)
    }

    #[inline(always)]
    fn addresses6(&self, index: u32) -> Option<&AddressBucket6> {
        ADDRESSES6.get(index)
    }

    #[inline(always)]
    fn address_shift(&self) -> u32 {
        ADDRESS_SHIFT.load()
    }

    #[inline(always)]
    fn rules(&self, buffer: u32) -> Option<&Rules> {
        RULES.get(buffer)
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
    fn gate(&self, position: u32) -> Option<u64> {
        // As in `own_first`.
        let word: *const u64 = &raw const GATES.get(unknown(position as u64) as u32).word;
        // SAFETY: from a reference; volatile, so that a frame sees one value.
        Some(unsafe { word.read_volatile() })
    }

    #[inline(always)]
    fn rule_counter(&self, index: u32) -> Option<impl DerefMut<Target = RuleCounter>> {
        let rule_counter = RULE_COUNTERS.get_ptr_mut(index)?;
        // SAFETY: the element is this CPU's own, as in `cpu`.
        Some(unsafe { &mut *rule_counter })
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
    fn cpu(&self) -> Option<impl DerefMut<Target = Cpu>> {
        let cpu = CPU.get_ptr_mut(0)?;
        // SAFETY: the element is this CPU's own, nothing else runs XDP programs on a CPU before this one returns, and the packet path
        // lets go of it before it asks again.
        Some(unsafe { &mut *cpu })
    }

    #[inline(always)]
    fn heavy_hitter(&self, index: u32) -> Option<impl DerefMut<Target = HeavyHitter>> {
        let heavy_hitter = HEAVY_HITTERS.get_ptr_mut(index)?;
        // SAFETY: the element is this CPU's own, as in `cpu`.
        Some(unsafe { &mut *heavy_hitter })
    }

    #[inline(always)]
    fn source_shift(&self) -> u32 {
        SOURCE_SHIFT.load()
    }

    #[inline(always)]
    fn secret(&self, index: usize) -> u64 {
        *SECRET.get(index as u32)
    }

    #[inline(always)]
    fn path_mtu(&self) -> Option<impl Shared> {
        PATH_MTU.get_ptr_mut(0).map(MapWord)
    }

    #[inline(always)]
    fn ticks(&self) -> u64 {
        // SAFETY: takes nothing and touches nothing; the verifier turns it into a load.
        unsafe { bpf_jiffies64() }
    }

    #[inline(always)]
    fn captured_reasons(&self, tap: Tap) -> u64 {
        let reasons = &raw const told(tap).get(0).reasons;
        // SAFETY: from a reference; volatile, so that a frame sees one value.
        unsafe { reasons.read_volatile() }
    }

    #[inline(always)]
    fn capture(&self, tap: Tap) -> Option<&Capture> {
        Some(told(tap).get(0))
    }

    #[inline(always)]
    fn capture_cpu(&self, tap: Tap) -> Option<impl DerefMut<Target = CaptureCpu>> {
        let cpu = TAP_CPU.get_ptr_mut(tap as u32)?;
        // SAFETY: the element is this CPU's own, as in `cpu`.
        Some(unsafe { &mut *cpu })
    }

    #[inline(always)]
    fn capture_bucket(&self, tap: Tap) -> Option<impl Shared> {
        TAP_BUCKETS.get_ptr_mut(tap as u32).map(MapWord)
    }

    #[inline(always)]
    fn peer_shift(&self) -> u32 {
        PEER_SHIFT.load()
    }

    #[inline(always)]
    fn peer_bucket(&self, index: u32) -> Option<(impl Shared, impl DerefMut<Target = Peers>)> {
        let bucket: *mut PeerBucket = PEERS.get_ptr_mut(index)?;
        // SAFETY: from a valid element; it is written by who holds the lock, which is the other part, and by nobody else.
        Some(unsafe { (MapWord(&raw mut (*bucket).version), &mut (*bucket).peers) })
    }

    #[inline(always)]
    fn count(&self, slot: u32, row: u8, reason: Reason, bytes: u64) {
        if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(slot, row as u32, reason as u32)) {
            // SAFETY: the element is this CPU's own, as in `cpu`.
            unsafe { (*counter).count(bytes) };
        }
    }
}
