//! Reading a capture: pcap (draft-ietf-opsawg-pcap) and pcapng (draft-ietf-opsawg-pcapng), in both byte orders, as a stream.
//!
//! Owns the time and link type of a record, and the errors for a file that is cut off or damaged. Memory use does not grow with the file.
//! `ethernet.rs` has the meaning of link types.

use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, anyhow, bail};
use pcap_parser::traits::{PcapNGPacketBlock as _, PcapReaderIterator};
use pcap_parser::{
    Block, InterfaceDescriptionBlock, LegacyPcapBlock, Linktype, PIB_MAGIC, PcapBlockOwned, PcapError,
    PcapNGOption, create_reader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
};

use crate::capture::compression::{self, Below};
use crate::capture::write::{DIRECTION, FLAGS, OUTBOUND};
use crate::kernel::files::is_standard_stream;

/// Bytes of a capture in memory at first, enough for several thousand frames.
const BUFFER: usize = 1 << 19;
/// The longest block of a pcapng file that is read: as long as libpcap takes (sf-pcapng.c).
const LONGEST_BLOCK: usize = 16 << 20;
/// The shortest block: its type, its length twice, and nothing in it (draft-ietf-opsawg-pcapng, section 3.1).
const SHORTEST_BLOCK: u32 = 12;
/// The type of a packet block, which enhanced packet blocks have taken the place of (draft-ietf-opsawg-pcapng, appendix A).
const OBSOLETE_PACKET: u32 = 2;
/// The longest frame: as long as libpcap takes on any link of these (MAXIMUM_SNAPLEN in pcap-int.h).
const LONGEST_FRAME: usize = 262_144;
const NS: u64 = 1_000_000_000;

/// A frame as it was recorded.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Position in the file, from 1.
    pub number: u64,
    /// Nanoseconds since 1970; `None` where the file does not say, in a simple packet block of pcapng.
    pub time: Option<u64>,
    /// Which of the interfaces that the file describes it was on, from 0. Each section of a pcapng file describes its own.
    pub interface: u32,
    /// The kind of link, as <https://www.tcpdump.org/linktypes.html> numbers it.
    pub link_type: i32,
    /// What was recorded of it.
    pub bytes: &'a [u8],
    /// Bytes that it had.
    pub length: usize,
    /// The capture says that it was going out.
    pub is_sent: bool,
}

/// A capture that is being read.
pub struct Capture {
    reader: Box<dyn PcapReaderIterator + Send>,
    name: String,
    size: u64,
    below: Arc<Below>,
    records: u64,
    capacity: usize,
    legacy: Option<Legacy>,
    /// Of the section that is being read.
    interfaces: Vec<Interface>,
    /// Interfaces of the sections before that.
    interfaces_before: u32,
    is_big_endian: bool,
}

/// What a file says about where frames came in.
#[derive(Clone, Copy)]
struct Interface {
    number: u32,
    link_type: i32,
    /// Units of time in a second.
    resolution: u64,
    /// Seconds to be added.
    offset: i64,
    /// Nanoseconds of a unit, where that is a whole number and nothing is to be added.
    unit: Option<u64>,
}

/// What the header of a pcap file says of its records.
#[derive(Clone, Copy)]
struct Legacy {
    interface: Interface,
    is_big_endian: bool,
    /// Of a kind whose records have more in their header.
    is_modified: bool,
}

impl Legacy {
    /// The record that comes first, where all of it is there, and how many bytes it takes.
    fn first<'b>(&self, data: &'b [u8]) -> Option<(usize, LegacyPcapBlock<'b>)> {
        let parse = match (self.is_modified, self.is_big_endian) {
            (true, _) => parse_pcap_frame_modified,
            (false, true) => parse_pcap_frame_be,
            (false, false) => parse_pcap_frame,
        };
        let (rest, record) = parse(data).ok()?;
        Some((data.len() - rest.len(), record))
    }
}

impl Interface {
    fn new(number: u32, link_type: i32, resolution: u64, offset: i64) -> Self {
        let unit = (offset == 0 && NS.is_multiple_of(resolution)).then(|| NS / resolution);
        Self { number, link_type, resolution, offset, unit }
    }

    /// Nanoseconds since 1970.
    fn time(&self, units: u64) -> u64 {
        if let Some(unit) = self.unit {
            return units.saturating_mul(unit);
        }
        let (seconds, rest) = (units / self.resolution, units % self.resolution);
        let fraction = u128::from(rest) * u128::from(NS) / u128::from(self.resolution);
        let seconds = seconds.saturating_add_signed(self.offset);
        seconds.saturating_mul(NS).saturating_add(fraction as u64)
    }

    /// The next record after so many.
    fn record<'b>(
        &self,
        records: &mut u64,
        time: Option<u64>,
        bytes: &'b [u8],
        length: u32,
    ) -> Result<Record<'b>, String> {
        if bytes.len() > LONGEST_FRAME {
            return Err(format!("a frame of {} bytes, and the longest has {LONGEST_FRAME}", bytes.len()));
        }
        *records += 1;
        Ok(Record {
            number: *records,
            time,
            interface: self.number,
            link_type: self.link_type,
            bytes,
            length: (length as usize).clamp(bytes.len(), LONGEST_FRAME),
            is_sent: false,
        })
    }
}

impl Capture {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// It cannot be read, or begins neither as pcap nor as pcapng.
    pub fn open(path: &Path) -> Result<Self> {
        if is_standard_stream(path) {
            return Self::of("from standard input".to_owned(), 0, io::stdin());
        }
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = opened.with_context(|| format!("reading the capture {name}"))?;
        Self::of(name, size, file)
    }

    /// Reads so many bytes; `name` is what errors call them.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(name: String, size: u64, input: impl Read + Send + 'static) -> Result<Self> {
        let reading = || format!("reading the capture {name}");
        let below = Arc::new(Below::default());
        let stream = compression::stream(input, &below).with_context(reading)?;
        let reader = create_reader(BUFFER, stream).map_err(|error| match (below.error(), error) {
            (Some(error), _) => anyhow!(error)
                .context(format!("{}: what follows byte 0 cannot be read; it has no frame", reading())),
            (None, PcapError::Eof) => anyhow!("{}: it is empty", reading()),
            _ => anyhow!(
                "{}: it begins neither as pcap nor as pcapng, as they are or compressed with gzip or zstd",
                reading()
            ),
        })?;
        Ok(Self {
            reader,
            name,
            size,
            below,
            records: 0,
            capacity: BUFFER,
            legacy: None,
            interfaces: Vec::new(),
            interfaces_before: 0,
            is_big_endian: false,
        })
    }

    /// Bytes of the file that have been read, and that there are.
    pub fn progress(&self) -> (u64, u64) {
        (self.below.read.load(Ordering::Relaxed), self.size)
    }

    /// Shows each record to `visit`, in the order of the file, until it breaks off; `progress` is told now and then what [`Self::progress`] says.
    ///
    /// # Errors
    /// `visit`'s; or the file is cut off or damaged, of which the error tells the offset: all records before that have been shown.
    pub fn each(
        &mut self,
        mut visit: impl FnMut(&Record<'_>) -> Result<ControlFlow<()>>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<()> {
        loop {
            if self.legacy_records(&mut visit)?.is_break() {
                return Ok(());
            }
            if let Some(length) = self.too_short() {
                bail!(
                    self.damaged(&format!(
                        "a block of {length} bytes, and the shortest has {SHORTEST_BLOCK}"
                    ))
                );
            }
            let capacity = self.capacity;
            let (used, flow) = match self.reader.next() {
                Ok((used, block)) => {
                    let record = Blocks {
                        records: &mut self.records,
                        legacy: &mut self.legacy,
                        interfaces: &mut self.interfaces,
                        interfaces_before: &mut self.interfaces_before,
                        is_big_endian: &mut self.is_big_endian,
                    }
                    .read(&block);
                    match record {
                        Ok(Some(record)) => (used, visit(&record)?),
                        Ok(None) => (used, ControlFlow::Continue(())),
                        Err(why) => bail!(self.damaged(&why)),
                    }
                }
                Err(PcapError::Eof) => {
                    return self.below.error().map_or(Ok(()), |error| self.broken_off(error));
                }
                Err(PcapError::Incomplete(_)) => {
                    if self.reader.refill().is_err() {
                        bail!(self.damaged("it cannot be read on"));
                    }
                    let (read, size) = self.progress();
                    progress(read, size);
                    continue;
                }
                Err(PcapError::BufferTooSmall) if self.legacy.is_none() && capacity < LONGEST_BLOCK => {
                    self.capacity = capacity * 2;
                    self.reader.grow(self.capacity);
                    continue;
                }
                Err(PcapError::UnexpectedEof) => {
                    return self.below.error().map_or_else(
                        || {
                            Err(anyhow!(
                                "{}: it is cut off in the middle of the record or block at byte {}{}",
                                self.reading(),
                                self.reader.consumed(),
                                self.told()
                            ))
                        },
                        |error| self.broken_off(error),
                    );
                }
                Err(_) => bail!(self.damaged("no record or block is like what follows")),
            };
            // What is left is moved to the front of the buffer when that is filled up, and not before.
            self.reader.consume_noshift(used);
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    /// Shows the records of a pcap file that are whole in the buffer. The reader would make a block of each, which takes as long as all else
    /// that is done to read it.
    fn legacy_records(
        &mut self,
        visit: &mut impl FnMut(&Record<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let Some(legacy) = self.legacy else { return Ok(ControlFlow::Continue(())) };
        let interface = legacy.interface;
        let data = self.reader.data();
        let (mut used, mut flow, mut wrong) = (0, ControlFlow::Continue(()), None);
        while flow.is_continue()
            && let Some((length, record)) = legacy.first(&data[used..])
        {
            let units = u64::from(record.ts_usec) + u64::from(record.ts_sec) * interface.resolution;
            let time = Some(interface.time(units));
            match interface.record(&mut self.records, time, record.data, record.origlen) {
                Ok(record) => flow = visit(&record)?,
                Err(why) => {
                    wrong = Some(why);
                    break;
                }
            }
            used += length;
        }
        self.reader.consume_noshift(used);
        wrong.map_or(Ok(flow), |why| Err(anyhow!(self.damaged(&why))))
    }

    /// The length of the block that follows, if none is as short. The parser takes the length that its headers have from it, and for
    /// process information (of macOS) does not ask whether it is longer.
    fn too_short(&self) -> Option<u32> {
        let words = self.reader.data().as_chunks().0;
        let number = if self.is_big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        let [kind, length] = [words.first(), words.get(1)].map(|word| word.map(|word| number(*word)));
        let is_process_information = self.legacy.is_none() && kind == Some(PIB_MAGIC);
        length.filter(|length| is_process_information && *length < SHORTEST_BLOCK)
    }

    fn reading(&self) -> String {
        format!("reading the capture {}", self.name)
    }

    fn told(&self) -> String {
        match self.records {
            0 => String::new(),
            1 => "; the frame before that was read".to_owned(),
            records => format!("; the {records} frames before that were read"),
        }
    }

    fn damaged(&self, why: &str) -> String {
        format!("{}: it is damaged at byte {}: {why}{}", self.reading(), self.reader.consumed(), self.told())
    }

    /// The file, or what it is compressed with, ends in an error.
    fn broken_off(&self, error: io::Error) -> Result<()> {
        let what = format!(
            "{}: what follows byte {} cannot be read{}",
            self.reading(),
            self.reader.consumed(),
            self.told()
        );
        Err(anyhow!(error).context(what))
    }
}

/// What blocks say about those behind them.
struct Blocks<'c> {
    records: &'c mut u64,
    legacy: &'c mut Option<Legacy>,
    interfaces: &'c mut Vec<Interface>,
    interfaces_before: &'c mut u32,
    is_big_endian: &'c mut bool,
}

impl Blocks<'_> {
    /// The record that a block is, if it is one.
    fn read<'b>(&mut self, block: &'b PcapBlockOwned<'b>) -> Result<Option<Record<'b>>, String> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let resolution = if header.is_nanosecond_precision() { NS } else { 1_000_000 };
                // The upper bits say what else is recorded.
                let link_type = header.network.0 & 0xffff;
                *self.legacy = Some(Legacy {
                    interface: Interface::new(0, link_type, resolution, 0),
                    is_big_endian: header.is_bigendian(),
                    is_modified: header.is_modified_format(),
                });
                Ok(None)
            }
            PcapBlockOwned::NG(Block::SectionHeader(section)) => {
                *self.is_big_endian = section.big_endian();
                *self.interfaces_before = self.number_of_next();
                self.interfaces.clear();
                Ok(None)
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                self.interfaces.push(self.interface(description)?);
                Ok(None)
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let is_sent = self.is_sent(&packet.options);
                let time = [packet.ts_high, packet.ts_low];
                let record = self.packet(packet.if_id, time, packet.data, [packet.caplen, packet.origlen])?;
                Ok(Some(Record { is_sent, ..record }))
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let interface = self.interfaces.first().copied().ok_or("no interface is described")?;
                interface.record(self.records, None, packet.packet_data(), packet.origlen).map(Some)
            }
            // The reader has its type as in a little-endian file.
            PcapBlockOwned::NG(Block::Unknown(block))
                if self.number(block.block_type.to_le_bytes()) == OBSOLETE_PACKET =>
            {
                let words = block.data.as_chunks().0.first_chunk::<5>();
                let words = words.ok_or("a packet block that is shorter than its header")?;
                let [place, high, low, captured, length] = words.map(|word| self.number(word));
                // The interface comes first, and then how many packets were dropped before.
                let interface = if *self.is_big_endian { place >> 16 } else { place & 0xffff };
                self.packet(interface, [high, low], &block.data[20..], [captured, length]).map(Some)
            }
            // A pcap file's records are read before the reader is asked.
            PcapBlockOwned::Legacy(_) | PcapBlockOwned::NG(_) => Ok(None),
        }
    }

    /// The packet of a block that says its interface and its time, and how many bytes there are of how many.
    fn packet<'b>(
        &mut self,
        interface: u32,
        [high, low]: [u32; 2],
        data: &'b [u8],
        [captured, length]: [u32; 2],
    ) -> Result<Record<'b>, String> {
        let described = self.interfaces.get(interface as usize).copied();
        let described = described.ok_or_else(|| format!("no interface {interface} is described"))?;
        let bytes = data.get(..captured as usize).ok_or("a packet that is longer than its block")?;
        let time = described.time(u64::from(high) << 32 | u64::from(low));
        described.record(self.records, Some(time), bytes, length)
    }

    fn interface(&self, description: &InterfaceDescriptionBlock<'_>) -> Result<Interface, String> {
        let Linktype(link_type) = description.linktype;
        let is_binary = description.if_tsresol & 0x80 != 0;
        let exponent = u32::from(description.if_tsresol & 0x7f);
        let resolution = if is_binary { 2_u64.checked_pow(exponent) } else { 10_u64.checked_pow(exponent) };
        let resolution = resolution.ok_or_else(|| {
            format!(
                "an interface whose clock has a resolution of {}^-{exponent} s",
                if is_binary { 2 } else { 10 }
            )
        })?;
        // The parser reads it in the byte order of this machine's files.
        let offset = description.if_tsoffset;
        let offset = if *self.is_big_endian { offset.swap_bytes() } else { offset };
        Ok(Interface::new(self.number_of_next(), link_type, resolution, offset))
    }

    /// A number in the byte order of the section.
    fn number(&self, bytes: [u8; 4]) -> u32 {
        if *self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// Which the next interface is in the file.
    fn number_of_next(&self) -> u32 {
        self.interfaces_before.saturating_add(self.interfaces.len() as u32)
    }

    fn is_sent(&self, options: &[PcapNGOption<'_>]) -> bool {
        let flags = options.iter().find(|option| option.code == FLAGS);
        let flags = flags.and_then(|flags| flags.value.first_chunk()).map(|bytes| self.number(*bytes));
        flags.is_some_and(|flags| flags & DIRECTION == OUTBOUND)
    }
}
