//! Owns random frames: from a seed, biased to what is nearly an echo request.
//!
//! A frame of random bytes ends at the first check. So each starts as a valid request and is then changed in a few
//! places, and mostly its checksums are set right again, to reach the checks behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::netns::SECOND_MAC;
use crate::packet::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Echo, Layers, Tag, put16};

/// Random numbers that are the same on every machine and in every version: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Starts the sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.bits() % bound as u64).expect("below a usize")
    }

    /// A random byte.
    pub fn byte(&mut self) -> u8 {
        self.bits().to_be_bytes()[0]
    }

    /// Sixteen random bits.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// One of several, or now and then any.
    pub fn byte_or(&mut self, from: &[u8]) -> u8 {
        if self.once_in(6) { self.byte() } else { self.pick(from) }
    }

    /// One of several, or now and then any.
    pub fn word_or(&mut self, from: &[u16]) -> u16 {
        if self.once_in(6) { self.word() } else { self.pick(from) }
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// So many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }
}

/// The seed of this run: `ICMP_TESTS_SEED` from the environment, or a new one. Prints it, so that a failure can be had
/// again.
///
/// # Panics
/// If the environment's is not a number.
#[must_use]
pub fn seed() -> u64 {
    let seed = match std::env::var("ICMP_TESTS_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("ICMP_TESTS_SEED={text}: {e}")),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| u64::from(now.subsec_nanos()) ^ now.as_secs() << 20),
    };
    println!("ICMP_TESTS_SEED={seed}");
    seed
}

/// A frame that the host of the vectors might receive.
pub fn frame(random: &mut Random) -> Vec<u8> {
    let mut echo = request(random);
    let changes = random.pick(&[0, 0, 0, 1, 1, 1, 1, 2, 2, 3]);
    for _ in 0..changes {
        change_meaning(&mut echo, random);
    }
    let mut frame = echo.frame();
    if random.once_in(3) {
        for _ in 0..=random.below(2) {
            change_bytes(&mut frame, random);
        }
    }
    if !random.once_in(3) {
        repair(&mut frame);
    }
    if random.once_in(40) {
        frame.truncate(random.below(frame.len() + 1).max(14));
    }
    if random.once_in(10) {
        let count = random.pick(&[1, 2, 3, 18, 40]);
        frame.extend(random.bytes(count));
    }
    frame
}

fn request(random: &mut Random) -> Echo {
    let length = match random.below(10) {
        0 => 0,
        1..=6 => random.below(70),
        7 | 8 => random.below(300),
        _ => random.below(1453),
    };
    let data = match random.below(4) {
        0 => vec![0xff; length],
        1 => vec![0; length],
        _ => random.bytes(length),
    };
    let (from, to) = if random.once_in(2) {
        (IpAddr::V4(random.pick(&FROM_V4)), IpAddr::V4(random.pick(&OWN_V4)))
    } else {
        (IpAddr::V6(random.pick(&FROM_V6)), IpAddr::V6(random.pick(&OWN_V6)))
    };
    let mut echo = Echo::new(from, to, data);
    echo.second_word = u32::from(random.word()) << 16 | u32::from(random.word());
    echo.ttl = random.pick(&[0, 1, 2, 63, 64, 128, 255]);
    echo.tos = if random.once_in(4) { random.byte() } else { 0 };
    echo.id = u32::from(random.word()) << 4 | 5;
    echo.fragment = random.pick(&[0, 0x4000]);
    if random.once_in(8) {
        // The reply's checksum, then, is a zero, in one of its forms or nearly.
        aim_checksum(
            &mut echo,
            random.pick(&[0x0000, 0xffff, 0xf7ff, 0xf7fe, 0xf800, 0xfeff, 0x0800, 0x0100, 0xff00]),
        );
    }
    echo
}

/// Chooses the sequence number so that the checksum comes out as `wanted`.
fn aim_checksum(echo: &mut Echo, wanted: u16) {
    let high = echo.second_word & 0xffff_0000;
    echo.second_word = high;
    let frame = echo.frame();
    let at = frame.len() - echo.data.len() - 6;
    // With a sequence number s the sum grows by s, so the checksum shrinks by it, in ones' complement.
    let difference = u32::from(packet::be16(&frame, at)) + u32::from(!wanted);
    echo.second_word = high | (((difference & 0xffff) + (difference >> 16)) & 0xffff);
}

fn change_meaning(echo: &mut Echo, random: &mut Random) {
    match random.below(14) {
        0 => echo.kind = Some(random.byte()),
        1 => {
            // A message that the stack needs, with something quoted.
            echo.kind =
                Some(random.pick(&[0, 1, 2, 3, 4, 5, 11, 12, 13, 129, 130, 133, 134, 135, 136, 137, 143]));
            echo.code = random.pick(&[0, 0, 1, 3, 4]);
            echo.ttl = random.pick(&[1, 64, 255]);
            let quoted = Echo::new(echo.to, echo.from, random.bytes(8)).frame();
            echo.data = quoted[14..].to_vec();
            let keep = random.pick(&[quoted.len(), 48, 28, 27, 20, 8]);
            echo.data.truncate(keep);
        }
        2 => echo.code = random.pick(&[1, 9, 255]),
        3 => {
            let tag = |random: &mut Random| Tag {
                tpid: random.pick(&[0x8100, 0x8100, 0x88a8]),
                tci: random.word_or(&[0, 0xe000, 1, 100, 4095]),
            };
            echo.tags = (0..random.pick(&[1, 1, 1, 2, 2, 3])).map(|_| tag(random)).collect();
            if random.once_in(3) {
                // Among tags of VLAN 0, which count for none.
                let priority = Tag { tpid: 0x8100, tci: random.pick(&[0, 0x2000]) };
                for _ in 0..random.pick(&[1, 2, 9, 62, 64]) {
                    echo.tags.insert(random.below(echo.tags.len() + 1), priority);
                }
            }
        }
        4 => {
            let count = random.pick(&[1, 4, 8, 39, 40]);
            echo.options = match random.below(3) {
                0 => vec![1; count],
                1 => [&[7, u8::try_from(count).expect("at most 40"), 4][..], &[0; 40]].concat()[..count]
                    .to_vec(),
                _ => random.bytes(count),
            };
        }
        5 => {
            for _ in 0..random.pick(&[1, 1, 2, 3, 8, 9]) {
                let kind = random.byte_or(&[0, 0, 43, 44, 44, 60, 60, 60, 51, 135, 50, 59, 6, 17, 1]);
                let units = random.pick(&[0, 0, 0, 1, 7]);
                let mut content = random.bytes(if kind == 44 { 7 } else { 7 + 8 * usize::from(units) });
                content[0] = units;
                if kind == 44 && !random.once_in(3) {
                    // The first fragment, or all there is.
                    put16(&mut content, 1, random.pick(&[0, 1]));
                }
                echo.extensions.push((kind, content));
            }
        }
        6 => echo.fragment = random.word_or(&[0x2000, 0x6000, 0x0001, 0x8000, 0xc000, 0x1fff]),
        7 | 8 => match &mut echo.from {
            IpAddr::V4(from) => *from = random.pick(&ODD_V4),
            IpAddr::V6(from) => *from = random.pick(&ODD_V6),
        },
        9 | 10 => match &mut echo.to {
            IpAddr::V4(to) => *to = random.pick(&ODD_V4),
            IpAddr::V6(to) => *to = random.pick(&ODD_V6),
        },
        11 => echo.to_mac = random.pick(&ODD_MACS),
        12 => echo.from_mac = random.pick(&ODD_MACS),
        _ => {
            // Any address at all, for the hashes.
            match &mut echo.from {
                IpAddr::V4(from) => {
                    *from = Ipv4Addr::from_bits(u32::try_from(random.bits() >> 32).expect("32 bits"));
                }
                IpAddr::V6(from) => {
                    *from = Ipv6Addr::from_bits(u128::from(random.bits()) << 64 | u128::from(random.bits()));
                }
            }
        }
    }
}

fn change_bytes(frame: &mut [u8], random: &mut Random) {
    let headers = frame.len().min(70);
    match random.below(6) {
        0 | 1 => {
            let at = random.below(headers);
            frame[at] ^= 1 << random.below(8);
        }
        2 => {
            let at = random.below(headers);
            frame[at] = random.byte_or(&[0, 1, 0x7f, 0x80, 0xff]);
        }
        3 => {
            // The length of the IP packet, a little or much off.
            let at = if random.once_in(2) { 16 } else { 18 };
            let length = packet::be16(frame, at);
            let off = random.word_or(&[1, 2, 7, 8, 9, 20, 28, 0x8000, length]);
            put16(
                frame,
                at,
                if random.once_in(2) { length.wrapping_add(off) } else { length.wrapping_sub(off) },
            );
        }
        4 => {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        _ => {
            let ethertype = random.pick(&[0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806, 0x88e5, 0x0040, 0x9100]);
            put16(frame, 12, ethertype);
        }
    }
}

/// Makes the checksums right where there is a header to have them, whatever else is wrong.
pub fn repair(frame: &mut [u8]) {
    let Some(layers) = Layers::of(frame) else { return };
    let (ethertype, ip) = (layers.ethertype, frame.len() - layers.payload.len());
    let room = frame.len() - ip;
    match ethertype {
        ETHERTYPE_IPV4 if room >= 28 => {
            let header = usize::from(frame[ip] & 0x0f) * 4;
            let length = usize::from(packet::be16(frame, ip + 2)).min(room);
            if header < 20 || header > length {
                return;
            }
            put16(frame, ip + 10, 0);
            let sum = packet::checksum(&frame[ip..ip + header]);
            put16(frame, ip + 10, sum);
            if length < header + 4 {
                return;
            }
            put16(frame, ip + header + 2, 0);
            let sum = packet::checksum(&frame[ip + header..ip + length]);
            put16(frame, ip + header + 2, sum);
        }
        ETHERTYPE_IPV6 if room >= 44 => {
            let length = (40 + usize::from(packet::be16(frame, ip + 4))).min(room);
            if length < 44 {
                return;
            }
            put16(frame, ip + 42, 0);
            let sum = !packet::icmpv6_sum(&frame[ip..ip + length]);
            put16(frame, ip + 42, sum);
        }
        _ => {}
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

const fn v6(head: u64, tail: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits((head as u128) << 64 | tail as u128)
}

const OWN_V4: [Ipv4Addr; 3] = [v4(192, 0, 2, 2), v4(192, 0, 2, 77), v4(198, 51, 100, 2)];
const OWN_V6: [Ipv6Addr; 3] =
    [v6(0x2001_0db8_0000_0000, 2), v6(0x2001_0db8_0000_0001, 2), v6(0xfe80 << 48, 0x0000_00ff_fe00_0002)];
const FROM_V4: [Ipv4Addr; 4] =
    [v4(192, 0, 2, 1), v4(203, 0, 113, 9), v4(10, 255, 255, 255), v4(223, 255, 255, 0)];
const FROM_V6: [Ipv6Addr; 3] =
    [v6(0x2001_0db8_0000_0000, 1), v6(0x2001_0db8_ffff_0000, 0x99), v6(0xfe80 << 48, 0x0000_00ff_fe00_0001)];
/// Own, other, martian, multicast, broadcast, and what only looks like one of these.
const ODD_V4: [Ipv4Addr; 20] = [
    v4(192, 0, 2, 2),
    v4(192, 0, 2, 77),
    v4(198, 51, 100, 2),
    v4(192, 0, 2, 3),
    v4(192, 0, 2, 0),
    v4(192, 0, 2, 255),
    v4(198, 51, 100, 3),
    v4(0, 0, 0, 0),
    v4(0, 1, 2, 3),
    v4(127, 0, 0, 1),
    v4(126, 255, 255, 255),
    v4(128, 0, 0, 0),
    v4(223, 255, 255, 255),
    v4(224, 0, 0, 1),
    v4(239, 255, 255, 255),
    v4(240, 0, 0, 1),
    v4(255, 255, 255, 255),
    v4(1, 0, 0, 0),
    v4(169, 254, 1, 1),
    v4(8, 8, 8, 8),
];
const ODD_V6: [Ipv6Addr; 20] = [
    v6(0x2001_0db8_0000_0000, 2),
    v6(0x2001_0db8_0000_0001, 2),
    v6(0xfe80 << 48, 0x0000_00ff_fe00_0002),
    v6(0xfe80 << 48, 0x0000_00ff_fe00_0003),
    v6(0xfe80_0000_0000_0001, 0x0000_00ff_fe00_0002),
    v6(0xfec0 << 48, 1),
    v6(0x2001_0db8_0000_0000, 0),
    v6(0x2001_0db8_0000_0000, 3),
    v6(0, 0),
    v6(0, 1),
    v6(0, 0x0000_0000_c000_0202),
    v6(0, 0x0000_ffff_c000_0202),
    v6(0, 0x0000_ffff_c000_0201),
    v6(0xff02 << 48, 1),
    v6(0xff02 << 48, 0x0000_0001_ff00_0002),
    v6(0xff01 << 48, 1),
    v6(0xff00 << 48, 1),
    v6(0xff0e << 48, 1),
    v6(0xfd00 << 48, 1),
    v6(0x0064_ff9b << 32, 0x0808_0808),
];
const ODD_MACS: [[u8; 6]; 8] = [
    [2, 0, 0, 0, 0, 2],
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 9],
    SECOND_MAC,
    [0xff; 6],
    [0; 6],
    [0x01, 0x00, 0x5e, 0, 0, 1],
    [0x33, 0x33, 0, 0, 0, 1],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_frames_every_time() {
        let frames = |seed| {
            let mut random = Random::new(seed);
            (0..50).map(|_| frame(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(frames(7), frames(7));
        assert_ne!(frames(7), frames(8));
    }

    #[test]
    fn the_frames_are_biased_to_the_interesting() {
        let mut random = Random::new(1);
        let frames: Vec<_> = (0..2000).map(|_| frame(&mut random)).collect();
        let share = |wanted: fn(&Layers) -> bool| {
            frames.iter().filter_map(|f| Layers::of(f)).filter(|l| wanted(l)).count()
        };
        let untagged = share(|l| l.tags.is_empty());
        assert!((1500..1990).contains(&untagged), "{untagged} of 2000 have no tag");
        let right = share(|l| {
            l.ethertype == ETHERTYPE_IPV4
                && l.payload.len() >= 20
                && packet::ones_sum(&l.payload[..20]) == 0xffff
        });
        assert!((700..1200).contains(&right), "{right} of 2000 have a right IPv4 header");
        assert!(frames.iter().all(|f| f.len() >= 14 && f.len() <= 1700));
    }

    #[test]
    fn a_checksum_can_be_aimed_at() {
        let mut random = Random::new(3);
        for wanted in [0xf7ff, 0x0800, 0x1234] {
            let mut echo = Echo::new(IpAddr::V4(FROM_V4[0]), IpAddr::V4(OWN_V4[0]), random.bytes(56));
            aim_checksum(&mut echo, wanted);
            let frame = echo.frame();
            assert_eq!(packet::be16(&frame, 36), wanted);
        }
    }
}
