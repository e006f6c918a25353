//! The alternatives, written fairly for this purpose: a bare echo, and an echo with a limit for each source. And a floor: an echo with the
//! packet path's limits and nothing else.
//!
//! Owns the three programs. The conventional one is what tutorials and most projects do: an LRU hash map of token buckets with the source as
//! key, the clock of `bpf_ktime_get_ns`, a counter per CPU, and the checksum by `bpf_csum_diff`; none of it is slower than it has to be. No
//! ownership, no header checksum, no fragments, no policy: it does less than the packet path.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::btf_maps::{LruHashMap, PerCpuArray};
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_ktime_get_ns};
use aya_ebpf::{Global, macros::btf_map};
use icmp_common::abi::SWITCH_SETTINGS;
use icmp_common::checksum::{Sum, echo_reply_v4, echo_reply_v6};
use icmp_common::frame::{Frame, field, set_field, swap_fields};
use icmp_common::limiter::{self, Admission, Pair, PairIndex, SharedWords as _, Table, hash4};
use icmp_common::tables::Tables;
use icmp_common::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

const V4: usize = ethernet::LEN + ipv4::LEN;
const V4_LEN: usize = V4 + icmpv4::LEN;
const V6: usize = ethernet::LEN + ipv6::LEN;
const V6_LEN: usize = V6 + icmpv6::LEN;

/// Sources that are kept at once.
const SOURCES: usize = 1 << 16;

/// The state of one source.
#[repr(C)]
struct Bucket {
    tokens: u64,
    refilled_ns: u64,
}

#[btf_map]
static BUCKETS4: LruHashMap<u32, Bucket, SOURCES> = LruHashMap::new();
#[btf_map]
static BUCKETS6: LruHashMap<[u64; 2], Bucket, SOURCES> = LruHashMap::new();
/// Answered, dropped.
#[btf_map]
static STATISTICS: PerCpuArray<u64, 2> = PerCpuArray::new();

/// Packets a second and at once that a source may send; set at load.
#[unsafe(no_mangle)]
static RATE: Global<u32> = Global::new(100);
#[unsafe(no_mangle)]
static BURST: Global<u32> = Global::new(200);

/// Which checksum a reply carries: from the one of its request, the first word of the request's message and the same of the reply.
type NewSum = fn(u16, u32, u32) -> u16;

/// By the helper.
#[inline(always)]
pub(crate) fn helper_sum(stored: u16, mut old: u32, mut new: u32) -> u16 {
    // SAFETY: both pointers are to four bytes of this function's own, and the helper reads no more.
    let difference = unsafe { bpf_csum_diff(&raw mut old, 4, &raw mut new, 4, !(stored as u32) & 0xffff) };
    !Sum::ZERO.add_u32(difference as u32).fold()
}

/// Without a call.
#[inline(always)]
pub(crate) fn inline_sum(stored: u16, old: u32, new: u32) -> u16 {
    icmp_common::checksum::update_u32(stored, old, new)
}

/// Answers an echo request of either family, and does nothing else.
#[inline(always)]
pub(crate) fn bare<F: Frame>(frame: &mut F) -> u32 {
    let Some(header) = frame.window::<V4_LEN>(0) else { return XDP_PASS };
    match u16::from_be_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(header)) {
        ethernet::IPV4 if is_request_v4(header) => {
            let sum = u16::from_ne_bytes(field::<{ V4 + icmpv4::CHECKSUM }, 2, _>(header));
            answer_v4(header, echo_reply_v4(sum));
            XDP_TX
        }
        ethernet::IPV6 => {
            let Some(header) = frame.window::<V6_LEN>(0) else { return XDP_PASS };
            if !is_request_v6(header) {
                return XDP_PASS;
            }
            let sum = u16::from_ne_bytes(field::<{ V6 + icmpv6::CHECKSUM }, 2, _>(header));
            answer_v6(header, echo_reply_v6(sum));
            XDP_TX
        }
        _ => XDP_PASS,
    }
}

/// Answers an IPv4 echo request that is within the limits of its source and its prefix, and asks nothing else: what the packet path's
/// limiter costs at least, exact over all CPUs, whatever is done about the rest of the path.
#[inline(always)]
pub(crate) fn limits<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> u32 {
    let Some(header) = frame.window::<V4_LEN>(0) else { return XDP_PASS };
    let ether_type = u16::from_be_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(header));
    if ether_type != ethernet::IPV4 || !is_request_v4(header) {
        return XDP_PASS;
    }
    let source = u32::from_be_bytes(field::<{ ethernet::LEN + ipv4::SOURCE }, 4, _>(header));
    let buffer = tables.switch().map(|switch| switch & SWITCH_SETTINGS);
    let Some(settings) = buffer.and_then(|buffer| tables.settings(buffer)) else { return XDP_PASS };
    let now = limiter::now(tables.ticks());
    let buckets = [(&settings.source, Table::Sources, 0), (&settings.prefix, Table::Prefixes, 1)].map(
        |(level, table, fewer)| {
            let hash = hash4([tables.secret(0), tables.secret(1)], source & level.mask.v4);
            tables.pair(table, PairIndex::new(hash, tables.source_shift() + fewer))
        },
    );
    let [Some(of_source), Some(of_prefix)] = buckets else { return XDP_PASS };
    let (of_source, of_prefix) = (Pair::read(of_source), Pair::read(of_prefix));
    if of_source.charge(&settings.source.limit, now) == Admission::Refused
        || of_prefix.charge(&settings.prefix.limit, now) == Admission::Refused
    {
        return XDP_DROP;
    }
    let sum = u16::from_ne_bytes(field::<{ V4 + icmpv4::CHECKSUM }, 2, _>(header));
    answer_v4(header, echo_reply_v4(sum));
    XDP_TX
}

/// Answers an echo request of either family whose source is within its limit, and drops one whose source is not.
#[inline(always)]
pub(crate) fn conventional<F: Frame>(frame: &mut F, new_sum: NewSum) -> u32 {
    let Some(header) = frame.window::<V4_LEN>(0) else { return XDP_PASS };
    match u16::from_be_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(header)) {
        ethernet::IPV4 if is_request_v4(header) => {
            let source = u32::from_ne_bytes(field::<{ ethernet::LEN + ipv4::SOURCE }, 4, _>(header));
            let admitted = match BUCKETS4.get_ptr_mut(source) {
                // SAFETY: an element of a preallocated map stays readable for as long as the program runs.
                Some(bucket) => take(unsafe { &mut *bucket }),
                None => BUCKETS4.insert(source, fresh(), 0).is_ok(),
            };
            if !counted(admitted) {
                return XDP_DROP;
            }
            let sum = u16::from_ne_bytes(field::<{ V4 + icmpv4::CHECKSUM }, 2, _>(header));
            answer_v4(header, new_sum(sum, icmpv4::ECHO_REQUEST as u32, icmpv4::ECHO_REPLY as u32));
            XDP_TX
        }
        ethernet::IPV6 => {
            let Some(header) = frame.window::<V6_LEN>(0) else { return XDP_PASS };
            if !is_request_v6(header) {
                return XDP_PASS;
            }
            let source = [
                u64::from_ne_bytes(field::<{ ethernet::LEN + ipv6::SOURCE }, 8, _>(header)),
                u64::from_ne_bytes(field::<{ ethernet::LEN + ipv6::SOURCE + 8 }, 8, _>(header)),
            ];
            let admitted = match BUCKETS6.get_ptr_mut(source) {
                // SAFETY: as above.
                Some(bucket) => take(unsafe { &mut *bucket }),
                None => BUCKETS6.insert(source, fresh(), 0).is_ok(),
            };
            if !counted(admitted) {
                return XDP_DROP;
            }
            let sum = u16::from_ne_bytes(field::<{ V6 + icmpv6::CHECKSUM }, 2, _>(header));
            answer_v6(header, new_sum(sum, icmpv6::ECHO_REQUEST as u32, icmpv6::ECHO_REPLY as u32));
            XDP_TX
        }
        _ => XDP_PASS,
    }
}

#[inline(always)]
fn fresh() -> Bucket {
    Bucket { tokens: BURST.load() as u64 - 1, refilled_ns: now_ns() }
}

/// Takes a token from a bucket, which is refilled first; not atomic, as usual.
#[inline(always)]
fn take(bucket: &mut Bucket) -> bool {
    let now = now_ns();
    let earned = now.wrapping_sub(bucket.refilled_ns).wrapping_mul(RATE.load() as u64) / 1_000_000_000;
    if earned > 0 {
        let burst = BURST.load() as u64;
        let tokens = bucket.tokens.wrapping_add(earned);
        bucket.tokens = if tokens > burst { burst } else { tokens };
        bucket.refilled_ns = now;
    }
    if bucket.tokens == 0 {
        return false;
    }
    bucket.tokens -= 1;
    true
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: takes nothing and touches nothing.
    unsafe { bpf_ktime_get_ns() }
}

#[inline(always)]
fn counted(admitted: bool) -> bool {
    if let Some(counter) = STATISTICS.get_ptr_mut(u32::from(!admitted)) {
        // SAFETY: the element is this CPU's own, and nothing else runs XDP programs on a CPU before this one returns.
        let counter = unsafe { &mut *counter };
        *counter = counter.wrapping_add(1);
    }
    admitted
}

#[inline(always)]
fn is_request_v4(header: &[u8; V4_LEN]) -> bool {
    header[ethernet::LEN + ipv4::VERSION_IHL] == ipv4::VERSION_4_IHL_5
        && header[ethernet::LEN + ipv4::PROTOCOL] == ipv4::ICMP
        && header[V4 + icmpv4::TYPE] == icmpv4::ECHO_REQUEST
}

#[inline(always)]
fn is_request_v6(header: &[u8; V6_LEN]) -> bool {
    header[ethernet::LEN + ipv6::NEXT_HEADER] == ipv6::ICMPV6
        && header[V6 + icmpv6::TYPE] == icmpv6::ECHO_REQUEST
}

#[inline(always)]
fn answer_v4(header: &mut [u8; V4_LEN], checksum: u16) {
    swap_fields::<{ ethernet::LEN + ipv4::SOURCE }, { ethernet::LEN + ipv4::DESTINATION }, 4, _>(header);
    swap_fields::<{ ethernet::DESTINATION }, { ethernet::SOURCE }, 6, _>(header);
    header[V4 + icmpv4::TYPE] = icmpv4::ECHO_REPLY;
    set_field::<{ V4 + icmpv4::CHECKSUM }, 2, _>(header, checksum.to_ne_bytes());
}

#[inline(always)]
fn answer_v6(header: &mut [u8; V6_LEN], checksum: u16) {
    swap_fields::<{ ethernet::LEN + ipv6::SOURCE }, { ethernet::LEN + ipv6::DESTINATION }, 16, _>(header);
    swap_fields::<{ ethernet::DESTINATION }, { ethernet::SOURCE }, 6, _>(header);
    header[V6 + icmpv6::TYPE] = icmpv6::ECHO_REPLY;
    set_field::<{ V6 + icmpv6::CHECKSUM }, 2, _>(header, checksum.to_ne_bytes());
}
