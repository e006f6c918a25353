//! Owns captures that are written byte by byte, in either byte order, without the reader's or any library's idea of them.

/// Seconds since 1970 of the first frame of captures that are made here.
pub const BEGAN: u32 = 1_700_000_000;
/// Bytes of a pcap file before its first record.
pub const HEADER: usize = 24;

/// Bytes in one byte order or the other.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The highest byte first.
    pub big: bool,
}

/// Types of the blocks of pcapng that packets are in.
pub const ENHANCED: u32 = 6;
/// See [`ENHANCED`].
pub const SIMPLE: u32 = 3;
/// See [`ENHANCED`].
pub const OBSOLETE: u32 = 2;

impl Order {
    fn two(self, number: u16) -> Vec<u8> {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }.to_vec()
    }

    fn four(self, number: u32) -> Vec<u8> {
        if self.big { number.to_be_bytes() } else { number.to_le_bytes() }.to_vec()
    }

    fn fours(self, numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| self.four(*number)).collect()
    }

    /// A pcap file of frames at so many nanoseconds after [`BEGAN`].
    #[must_use]
    pub fn pcap(self, nanoseconds: bool, link_type: u32, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let magic = if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        let mut file =
            [self.four(magic), self.two(2), self.two(4), self.fours(&[0, 0, 65_535, link_type])].concat();
        for (time, frame) in frames {
            let (seconds, rest) = ((time / 1_000_000_000) as u32, (time % 1_000_000_000) as u32);
            let rest = if nanoseconds { rest } else { rest / 1000 };
            let length = frame.len() as u32;
            file.extend(self.fours(&[BEGAN + seconds, rest, length, length]));
            file.extend(frame);
        }
        file
    }

    /// A pcapng file of them, with the resolution of the clock as it is written, in negative powers of ten.
    #[must_use]
    pub fn pcapng(self, digits: u8, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
        let frames: Vec<_> = frames.iter().map(|(time, frame)| (0, *time, frame.clone())).collect();
        self.pcapng_of(digits, &[1], &frames)
    }

    /// The same of frames on interfaces with these link types, each with the number of its interface.
    #[must_use]
    pub fn pcapng_of(self, digits: u8, link_types: &[u16], frames: &[(u32, u64, Vec<u8>)]) -> Vec<u8> {
        self.pcapng_in(|_| ENHANCED, digits, link_types, frames)
    }

    /// The same with each frame in a block of this type, by its number: [`ENHANCED`], [`SIMPLE`] or [`OBSOLETE`].
    #[must_use]
    pub fn pcapng_in(
        self,
        kind: impl Fn(usize) -> u32,
        digits: u8,
        link_types: &[u16],
        frames: &[(u32, u64, Vec<u8>)],
    ) -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let length = 12 + body.len() as u32;
            [self.fours(&[kind, length]), body.to_vec(), self.four(length)].concat()
        };
        let section = [self.four(0x1a2b_3c4d), self.two(1), self.two(0), vec![0xff; 8]].concat();
        // if_tsresol, and if_tsoffset, by which the frames were there a day later.
        let offset = if self.big { 86_400_i64.to_be_bytes() } else { 86_400_i64.to_le_bytes() };
        let options = [
            [self.two(9), self.two(1), vec![digits, 0, 0, 0]].concat(),
            [self.two(14), self.two(8), offset.to_vec()].concat(),
            vec![0; 4],
        ]
        .concat();
        let mut file = block(0x0a0d_0d0a, &section);
        for link_type in link_types {
            let interface = [self.two(*link_type), self.two(0), self.four(0), options.clone()].concat();
            file.extend(block(1, &interface));
        }
        for (i, (interface, time, frame)) in frames.iter().enumerate() {
            let units =
                (u64::from(BEGAN - 86_400) * 1_000_000_000 + time) / 10_u64.pow(u32::from(9 - digits));
            let length = frame.len() as u32;
            let rest = self.fours(&[(units >> 32) as u32, units as u32, length, length]);
            let mut body = match kind(i) {
                SIMPLE => self.four(length),
                OBSOLETE => [self.two(*interface as u16), self.two(7), rest].concat(),
                _ => [self.four(*interface), rest].concat(),
            };
            body.extend(frame);
            body.resize(body.len().next_multiple_of(4), 0);
            file.extend(block(kind(i), &body));
        }
        file
    }
}
