//! Writing requests into frames, each as another ping, and counting replies.
//!
//! Owns the layout of `REQUESTS`, which the bench fills, and what differs between two pings: the source, and with it the identifier; the
//! sequence number, the identification of the IPv4 packet, the bytes where a payload has its time stamp, and the checksums. Every program
//! that is compared gets its requests from here, so they all pay the same for them.

use aya_ebpf::{Global, btf_maps::PerCpuArray, helpers::generated::bpf_ktime_get_ns, macros::btf_map};
use icmp_common::checksum::Sum;
use icmp_common::frame::{Frame, field};
use icmp_common::wire::{ethernet, icmpv4, icmpv6, ipv4, ipv6};

/// Bytes that are written: all headers of an untagged frame.
pub(crate) const LEN: usize = 64;
/// They are written as words, in the machine's order: an array of bytes would be copied by a call.
type Words = [u64; LEN / 8];

/// A request, as this CPU is to write it. Layout: 17 words.
#[repr(C)]
struct Request {
    /// The start of the frame, zero where pings differ.
    start: Words,
    /// Ones' complement sums, in the machine's order, of what pings have in common: IPv4 header, message with its pseudo-header.
    header: u64,
    message: u64,
    /// The first source: an IPv4 address, or the third and fourth 16 bits of an IPv6 address.
    first: u64,
    /// How many there are, and how far apart.
    sources: u64,
    distance: u64,
    random: u64,
    sequence: u64,
    /// Between two requests that are paced, and when the next one is due.
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
/// The frame as it is: 1. A ping: 2 and 3.
const PING_V4: u32 = 2;
const PING_V6: u32 = 3;

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

/// Writes the next request over the start of the frame: each word by one store, so that nothing that is loaded from it later waits for
/// more than it would anyway.
#[inline(always)]
pub(crate) fn write<F: Frame>(frame: &mut F) -> Option<()> {
    let request = REQUESTS.get_ptr_mut(0)?;
    // SAFETY: the element is this CPU's own, and nothing else runs XDP programs on a CPU before this one returns.
    let request = unsafe { &mut *request };
    let changes = match UNDO.load() {
        PING_V4 => ping_v4(request),
        PING_V6 => ping_v6(request),
        _ => [0; LEN / 8],
    };
    let window = frame.window::<LEN>(0)?;
    write_word::<0>(window, &request.start, &changes);
    write_word::<1>(window, &request.start, &changes);
    write_word::<2>(window, &request.start, &changes);
    write_word::<3>(window, &request.start, &changes);
    write_word::<4>(window, &request.start, &changes);
    write_word::<5>(window, &request.start, &changes);
    write_word::<6>(window, &request.start, &changes);
    write_word::<7>(window, &request.start, &changes);
    Some(())
}

#[inline(always)]
fn write_word<const AT: usize>(window: &mut [u8; LEN], start: &Words, changes: &Words) {
    // Loaded in one piece by a volatile read, or the compiler finds that all eight are a copy and calls for it.
    // SAFETY: a reference to a word of an array, read as what it is.
    let word = unsafe { (&raw const start[AT]).read_volatile() } | changes[AT];
    // And stored in one piece, or the compiler stores the bytes of what it has made of several.
    let to = window.as_mut_ptr().wrapping_add(AT * 8).cast::<u64>();
    // SAFETY: the eight bytes from there are within the window, which this function alone refers to.
    unsafe { to.write_unaligned(word) };
}

/// What differs between pings, as numbers in the machine's order.
struct Ping {
    source: u32,
    identifier: u16,
    sequence: u16,
    /// Random bits, for all else that differs.
    noise: u64,
}

/// Identifiers of the bench's requests have it; replies to others, such as the pinger's, are not the bench's.
const MARK: u16 = u16::from_ne_bytes([MARK_BYTE, 0]);
const MARK_BYTE: u8 = 0x80;

impl Ping {
    #[inline(always)]
    fn next(request: &mut Request) -> Self {
        // Xorshift; its upper half, scaled, is the number of a source.
        let mut x = request.random;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        request.random = x;
        let number = ((x >> 32).wrapping_mul(request.sources) >> 32) as u32;
        let source = (request.first as u32).wrapping_add(number.wrapping_mul(request.distance as u32));
        request.sequence = request.sequence.wrapping_add(1);
        Self {
            source: source.to_be(),
            identifier: (source >> 16) as u16 ^ source as u16 | MARK,
            sequence: (request.sequence as u16).to_be(),
            noise: x,
        }
    }
}

#[inline(always)]
fn ping_v4(request: &mut Request) -> Words {
    const ICMP: usize = ethernet::LEN + ipv4::LEN;
    let ping = Ping::next(request);
    let identification = ping.noise as u16;
    let stamp = (ping.noise >> 16) as u32;
    let header = Sum::ZERO.add_u16(request.header as u16).add_u16(identification).add_u32(ping.source).fold();
    let message = Sum::ZERO
        .add_u16(request.message as u16)
        .add_u16(ping.identifier)
        .add_u16(ping.sequence)
        .add_u32(stamp)
        .fold();
    let mut changes = [0; LEN / 8];
    set::<{ ethernet::LEN + ipv4::IDENTIFICATION }>(&mut changes, identification as u64);
    set::<{ ethernet::LEN + ipv4::CHECKSUM }>(&mut changes, !header as u64);
    set::<{ ethernet::LEN + ipv4::SOURCE }>(&mut changes, ping.source as u64);
    set::<{ ICMP + icmpv4::CHECKSUM }>(&mut changes, !message as u64);
    set::<{ ICMP + IDENTIFIER }>(&mut changes, ping.identifier as u64);
    set::<{ ICMP + SEQUENCE }>(&mut changes, ping.sequence as u64);
    set::<{ ICMP + PAYLOAD }>(&mut changes, stamp as u64);
    changes
}

#[inline(always)]
fn ping_v6(request: &mut Request) -> Words {
    const ICMP: usize = ethernet::LEN + ipv6::LEN;
    const SUBNET: usize = ethernet::LEN + ipv6::SOURCE + 4;
    let ping = Ping::next(request);
    // Only two bytes of a payload begin within the words.
    let stamp = ping.noise as u16;
    let message = Sum::ZERO
        .add_u16(request.message as u16)
        .add_u16(ping.identifier)
        .add_u16(ping.sequence)
        .add_u16(stamp)
        .add_u32(ping.source)
        .fold();
    let mut changes = [0; LEN / 8];
    set::<SUBNET>(&mut changes, ping.source as u64);
    set::<{ ICMP + icmpv6::CHECKSUM }>(&mut changes, !message as u64);
    set::<{ ICMP + IDENTIFIER }>(&mut changes, ping.identifier as u64);
    set::<{ ICMP + SEQUENCE }>(&mut changes, ping.sequence as u64);
    set::<{ ICMP + PAYLOAD }>(&mut changes, stamp as u64);
    changes
}

/// Where an echo request has its fields, in both families (RFC 792, RFC 4443 section 4.1).
const IDENTIFIER: usize = 4;
const SEQUENCE: usize = 6;
const PAYLOAD: usize = 8;

/// Puts a number at this offset of the frame; it must not reach into the next word.
#[inline(always)]
const fn set<const AT: usize>(changes: &mut Words, value: u64) {
    changes[AT / 8] |= value << (AT % 8 * 8);
}

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
            (reply, window[V4_TYPE + IDENTIFIER])
        }
        ethernet::IPV6 => {
            let reply = window[ethernet::LEN + ipv6::NEXT_HEADER] == ipv6::ICMPV6
                && window[V6_TYPE] == icmpv6::ECHO_REPLY;
            (reply, window[V6_TYPE + IDENTIFIER])
        }
        _ => (false, 0),
    };
    let reply = reply && identifier & MARK_BYTE != 0;
    if reply && let Some(counter) = REPLIES.get_ptr_mut(0) {
        // SAFETY: as in `write`.
        let [packets, total] = unsafe { &mut *counter };
        *packets = packets.wrapping_add(1);
        *total = total.wrapping_add(bytes);
    }
    reply
}
