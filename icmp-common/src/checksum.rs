//! The Internet checksum: summing, and updating a stored checksum when a few words change.
//!
//! Owns the arithmetic of RFC 1071 and RFC 1624, and not its uses. Two types keep two meanings apart: a [`Sum`] rolls, and a `u16` in network
//! order is the value in a header.
//!
//! Byte order: the ones' complement sum is the same whichever order the 16-bit words are read in, as long as it is the same order throughout
//! (RFC 1071 section 2 (B)). All words are read in the machine's own order ("native"), so no byte is ever swapped; a constant that is added has
//! to be brought into that order first.

/// A ones' complement sum that has not been folded yet.
///
/// Holds up to 2^32 32-bit words without overflow, far more than a frame has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds one 16-bit word in native order.
    #[inline(always)]
    #[must_use]
    pub fn add_u16(self, word: u16) -> Self {
        Self(self.0.wrapping_add(word as u64))
    }

    /// Adds two 16-bit words at once, in native order: RFC 1071 section 2 (C), parallel summation.
    #[inline(always)]
    #[must_use]
    pub fn add_u32(self, words: u32) -> Self {
        Self(self.0.wrapping_add(words as u64))
    }

    /// Adds four 16-bit words at once, in native order.
    #[inline(always)]
    #[must_use]
    pub fn add_u64(self, words: u64) -> Self {
        self.add_u32(words as u32).add_u32((words >> 32) as u32)
    }

    /// Adds the words of a fixed-size array; `N` must be a multiple of four.
    #[inline(always)]
    #[must_use]
    pub fn add_words<const AT: usize, const N: usize, const W: usize>(mut self, window: &[u8; W]) -> Self {
        const { assert!(N.is_multiple_of(4) && AT + N <= W) };
        let mut i = 0;
        while i < N {
            let at = AT + i;
            self = self.add_u32(u32::from_ne_bytes([
                window[at],
                window[at + 1],
                window[at + 2],
                window[at + 3],
            ]));
            i += 4;
        }
        self
    }

    /// Adds the words another sum has seen.
    #[inline(always)]
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// Folds the carries in: the 16-bit ones' complement sum, native order.
    #[inline(always)]
    pub fn fold(self) -> u16 {
        // 64 bits to at most 33, to at most 18, to at most 17, to 16.
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        sum as u16
    }

    /// True where data with its checksum in place is intact: the sum over both is all ones, which is to say a multiple of 0xffff that is
    /// not zero.
    #[inline(always)]
    pub fn verifies(self) -> bool {
        // n is a multiple of an odd d where n times the inverse of d modulo 2^64 is at most (2^64 - 1) / d (Granlund and Montgomery,
        // "Division by Invariant Integers using Multiplication", section 9). One 0xffff less, so that zero is none.
        self.0.wrapping_sub(ALL_ONES).wrapping_mul(INVERSE) < u64::MAX / ALL_ONES
    }
}

const ALL_ONES: u64 = 0xffff;
/// The inverse of 0xffff modulo 2^64, by Newton's iteration.
const INVERSE: u64 = {
    let mut inverse = ALL_ONES;
    let mut i = 0;
    while i < 5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(ALL_ONES.wrapping_mul(inverse)));
        i += 1;
    }
    inverse
};
const _: () = assert!(INVERSE.wrapping_mul(ALL_ONES) == 1);

/// The ones' complement sum of two words.
#[inline(always)]
fn add(a: u16, b: u16) -> u16 {
    let sum = a as u32 + b as u32;
    // No second carry: two words sum to 0x1fffe at most.
    ((sum >> 16) + sum) as u16
}

/// RFC 1624 equation 3, HC' = ~(~HC + ~m + m'), for a 32-bit pair of words; all values as stored (native order).
#[inline(always)]
pub fn update_u32(stored: u16, old: u32, new: u32) -> u16 {
    !Sum::ZERO.add_u16(!stored).add_u32(!old).add_u32(new).fold()
}

/// The same for one word.
#[inline(always)]
pub fn update_u16(stored: u16, old: u16, new: u16) -> u16 {
    !add(!stored, add(!old, new))
}

/// The checksum of an ICMPv4 echo reply, from the one of its request; both as stored (native order).
///
/// Type 8 becomes 0, which lowers the sum by 0x0800, so the checksum rises by 0x0800 with end-around carry. This plain
/// addition also gives 0xffff where the whole reply is zero, as it must, because +0 is not a sum that verifies; RFC 1624's
/// equations exclude that case and would give 0x0000 (rule R-33 in docs/packet-path.md).
#[inline(always)]
pub fn echo_reply_v4(request: u16) -> u16 {
    add(request, 0x0800_u16.to_be())
}

/// The checksum of an ICMPv6 echo reply, from the one of its request; both as stored (native order).
///
/// Type 128 becomes 129, which raises the sum by 0x0100, so the checksum falls by 0x0100 with end-around borrow, the same
/// as adding the ones' complement of 0x0100. Swapping the addresses leaves the pseudo-header's sum alone.
#[inline(always)]
pub fn echo_reply_v6(request: u16) -> u16 {
    add(request, !0x0100_u16.to_be())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// RFC 1071 section 4.1, the plain loop, as something independent to compare with.
    pub(crate) fn rfc1071(bytes: &[u8]) -> u16 {
        let mut sum: u32 = 0;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    fn v4_reply_for(checksum: u16, identifier: u16) -> ([u8; 8], [u8; 8]) {
        let mut request = [8, 0, 0, 0, 0, 0, 0, 0];
        request[2..4].copy_from_slice(&checksum.to_be_bytes());
        request[4..6].copy_from_slice(&identifier.to_be_bytes());
        let mut reply = request;
        reply[0] = 0;
        let updated = echo_reply_v4(u16::from_ne_bytes([request[2], request[3]]));
        reply[2..4].copy_from_slice(&updated.to_ne_bytes());
        (request, reply)
    }

    //= https://www.rfc-editor.org/rfc/rfc1624#section-3
    //= type=test
    #[test]
    fn every_v4_request_checksum_gives_a_reply_that_verifies() {
        for identifier in 0..=u16::MAX {
            let mut request = [8, 0, 0, 0, 0, 0, 0, 0];
            request[4..6].copy_from_slice(&identifier.to_be_bytes());
            let (_, reply) = v4_reply_for(rfc1071(&request), identifier);
            assert!(
                Sum::ZERO.add_words::<0, 8, 8>(&reply).verifies(),
                "identifier {identifier:#06x}: {reply:02x?}"
            );
        }
    }

    #[test]
    fn the_all_zero_v4_reply_carries_ffff() {
        let (_, reply) = v4_reply_for(0xf7ff, 0);
        assert_eq!(reply, [0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn every_v6_request_checksum_gives_a_reply_that_verifies() {
        // The pseudo-header is a constant here; any non-zero one will do.
        let pseudo = Sum::ZERO.add_u16(0x2001_u16.to_be()).add_u16(0x0db8_u16.to_be());
        for identifier in 0..=u16::MAX {
            let mut message = [128, 0, 0, 0, 0, 0, 0, 0];
            message[4..6].copy_from_slice(&identifier.to_be_bytes());
            let checksum = !pseudo.plus(Sum::ZERO.add_words::<0, 8, 8>(&message)).fold();
            message[0] = 129;
            message[2..4].copy_from_slice(&echo_reply_v6(checksum).to_ne_bytes());
            assert!(
                pseudo.plus(Sum::ZERO.add_words::<0, 8, 8>(&message)).verifies(),
                "identifier {identifier:#06x}"
            );
        }
    }

    #[test]
    fn an_update_verifies_for_every_stored_checksum() {
        for stored in 0..=u16::MAX {
            let (old, new) = (0x4001_1234_u32.to_be(), 0x3fff_1234_u32.to_be());
            // A companion word that makes the old data verify with this checksum.
            let companion = !Sum::ZERO.add_u16(stored).add_u32(old).fold();
            assert!(Sum::ZERO.add_u16(stored).add_u32(old).add_u16(companion).verifies());
            let updated = update_u32(stored, old, new);
            assert!(Sum::ZERO.add_u16(updated).add_u32(new).add_u16(companion).verifies(), "{stored:#06x}");
            let (old, new) = (0x4001_u16.to_be(), 0x3fff_u16.to_be());
            let companion = !Sum::ZERO.add_u16(stored).add_u16(old).fold();
            let updated = update_u16(stored, old, new);
            assert!(Sum::ZERO.add_u16(updated).add_u16(new).add_u16(companion).verifies(), "{stored:#06x}");
        }
    }

    #[test]
    fn a_sum_agrees_with_the_plain_loop_of_rfc_1071() {
        let mut bytes = [0_u8; 64];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (i * 37 + 11) as u8;
        }
        let sum = Sum::ZERO.add_words::<0, 64, 64>(&bytes).fold();
        assert_eq!(!u16::from_be(sum), rfc1071(&bytes));
    }
}
