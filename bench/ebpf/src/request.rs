//! Writing requests into frames, with one source or with another one each time, and counting replies.
//!
//! Owns the layout of `REQUESTS`, which the bench fills: the start of the frame, then a random state, the number of sources, and the time
//! between two requests and of the next one where they are paced. Every program that is compared gets its requests from here, so they all pay the same for them.

use aya_ebpf::{Global, btf_maps::PerCpuArray, helpers::generated::bpf_ktime_get_ns, macros::btf_map};
use icmp_common::checksum::Sum;
use icmp_common::frame::{Frame, field, set_field};
use icmp_common::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

/// Bytes that are written: all headers of an untagged frame.
pub(crate) const LEN: usize = 64;

/// A request, as this CPU is to write it.
#[repr(C)]
struct Request {
    /// As words, in the machine's order: an array of bytes would be copied by a call.
    start: [u64; LEN / 8],
    random: u64,
    sources: u64,
    interval_ns: u64,
    next_ns: u64,
}

#[btf_map]
static REQUESTS: PerCpuArray<Request, 1> = PerCpuArray::new();
/// Replies and their bytes.
#[btf_map]
static REPLIES: PerCpuArray<[u64; 2], 1> = PerCpuArray::new();

/// What is written; set at load, so that what is not asked for is no part of the loaded program.
#[unsafe(no_mangle)]
pub(crate) static UNDO: Global<u32> = Global::new(KEEP);
/// Nothing: the program is as it would be attached.
pub(crate) const KEEP: u32 = 0;
/// The request as it is: 1. With a source of its own each time: 2 and 3.
const RANDOM_V4: u32 = 2;
const RANDOM_V6: u32 = 3;

/// First source and number of sources in IPv4 at most: 1.0.0.0 to 126.255.255.255, all of them unicast.
const FIRST_V4: u32 = 1 << 24;

/// True where the time for the next request has come.
#[inline(always)]
pub(crate) fn is_due() -> bool {
    let Some(request) = REQUESTS.get_ptr_mut(0) else { return false };
    // SAFETY: as in `write`.
    let request = unsafe { &mut *request };
    // SAFETY: takes nothing and touches nothing.
    let now = unsafe { bpf_ktime_get_ns() };
    if now < request.next_ns {
        return false;
    }
    request.next_ns = now.wrapping_add(request.interval_ns);
    true
}

/// Writes the next request over the start of the frame.
#[inline(always)]
pub(crate) fn write<F: Frame>(frame: &mut F) -> Option<()> {
    let request = REQUESTS.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own, and nothing else runs XDP programs on a CPU before this one returns.
    let request = unsafe { &mut *request };
    let window = frame.window::<LEN>(0)?;
    write_word::<0>(window, &request.start);
    write_word::<1>(window, &request.start);
    write_word::<2>(window, &request.start);
    write_word::<3>(window, &request.start);
    write_word::<4>(window, &request.start);
    write_word::<5>(window, &request.start);
    write_word::<6>(window, &request.start);
    write_word::<7>(window, &request.start);
    match UNDO.load() {
        RANDOM_V4 => {
            const SOURCE: usize = ethernet::LEN + ipv4::SOURCE;
            const CHECKSUM: usize = ethernet::LEN + ipv4::CHECKSUM;
            let source = FIRST_V4.wrapping_add(draw(request)).to_be();
            // The checksum in the map is that of a header without a source.
            let without = u16::from_ne_bytes(field::<CHECKSUM, 2, _>(window));
            let checksum = !Sum::ZERO.add_u16(!without).add_u32(source).fold();
            set_field::<SOURCE, 4, _>(window, source.to_ne_bytes());
            set_field::<CHECKSUM, 2, _>(window, checksum.to_ne_bytes());
        }
        RANDOM_V6 => {
            const SUBNET: usize = ethernet::LEN + ipv6::SOURCE + 4;
            const LAST: usize = ethernet::LEN + ipv6::SOURCE + 14;
            // Another /64 each time, and an interface identifier that keeps the sum over the address.
            let subnet = draw(request).to_be();
            let last = u16::from_ne_bytes(field::<LAST, 2, _>(window));
            let last = Sum::ZERO.add_u16(last).add_u32(!subnet).fold();
            set_field::<SUBNET, 4, _>(window, subnet.to_ne_bytes());
            set_field::<LAST, 2, _>(window, last.to_ne_bytes());
        }
        _ => {}
    }
    Some(())
}

#[inline(always)]
fn write_word<const AT: usize>(window: &mut [u8; LEN], words: &[u64; LEN / 8]) {
    // Loaded in one piece by a volatile read, or the compiler finds that all eight are a copy and calls for it.
    // SAFETY: a reference to a word of an array, read as what it is.
    let word = unsafe { (&raw const words[AT]).read_volatile() };
    for (byte, to) in word.to_ne_bytes().into_iter().zip(&mut window[AT * 8..]) {
        *to = byte;
    }
}

/// A number below the number of sources: xorshift, scaled.
#[inline(always)]
fn draw(request: &mut Request) -> u32 {
    let mut x = request.random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    request.random = x;
    ((x >> 32).wrapping_mul(request.sources) >> 32) as u32
}

/// Identifier of the bench's requests; replies to others, such as ping's, are not the bench's.
const IDENTIFIER: u16 = 0xf00d;

/// Counts the frame if it is an echo reply to a request of the bench.
#[inline(always)]
pub(crate) fn count_reply<F: Frame>(frame: &mut F) -> bool {
    const V4_TYPE: usize = ethernet::LEN + ipv4::LEN + icmpv4::TYPE;
    const V6_TYPE: usize = ethernet::LEN + ipv6::LEN + icmpv6::TYPE;
    let bytes = frame.linear_len() as u64;
    let Some(window) = frame.window::<LEN>(0) else { return false };
    let (reply, identifier) = match u16::from_be_bytes(field::<{ ethernet::ETHER_TYPE }, 2, _>(window)) {
        ethernet::IPV4 => {
            let reply =
                window[ethernet::LEN + ipv4::PROTOCOL] == ipv4::ICMP && window[V4_TYPE] == icmpv4::ECHO_REPLY;
            (reply, field::<{ V4_TYPE + 4 }, 2, _>(window))
        }
        ethernet::IPV6 => {
            let reply = window[ethernet::LEN + ipv6::NEXT_HEADER] == ipv6::ICMPV6
                && window[V6_TYPE] == icmpv6::ECHO_REPLY;
            (reply, field::<{ V6_TYPE + 4 }, 2, _>(window))
        }
        _ => (false, [0; 2]),
    };
    let reply = reply && u16::from_be_bytes(identifier) == IDENTIFIER;
    if reply && let Some(counter) = REPLIES.get_ptr_mut(0) {
        // SAFETY: as in `write`.
        let [packets, total] = unsafe { &mut *counter };
        *packets = packets.wrapping_add(1);
        *total = total.wrapping_add(bytes);
    }
    reply
}
