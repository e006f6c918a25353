//! Writing a capture: pcapng with Ethernet frames and nanoseconds.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pcap_parser::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, Linktype, OptionCode, PcapNGOption, SectionHeaderBlock,
    ToVec,
};

use crate::failure::{Exit, Failure};

/// The name of the program that has written a capture, as its header says.
const APPLICATION: &str = concat!("icmp-ctl ", env!("CARGO_PKG_VERSION"));
/// Options of a packet that the library has no name for: the direction, and what was decided (pcapng, section 4.3.1).
pub(super) const FLAGS: OptionCode = OptionCode(2);
/// See [`FLAGS`].
const VERDICT: OptionCode = OptionCode(7);
/// What a verdict is of: a program at Linux's XDP hook.
const VERDICT_OF_XDP: u8 = 2;
/// The bits of the flags that are the direction.
pub(super) const DIRECTION: u32 = 0b11;
/// Directions.
const INBOUND: u32 = 1;
/// See [`INBOUND`].
pub(super) const OUTBOUND: u32 = 2;

/// A file that frames are written to.
pub struct Writer {
    to: BufWriter<Box<dyn Sink>>,
    name: String,
    interfaces: u32,
}

/// What can be written to, and waited for.
trait Sink: Write + AsFd {}

impl<T: Write + AsFd> Sink for T {}

/// A frame.
pub struct Frame<'a> {
    /// Number of its interface ([`Writer::interface`]).
    pub interface: u32,
    /// When it was there, in nanoseconds since 1970.
    pub time: u64,
    /// Bytes it had.
    pub len: u32,
    /// What there is of it.
    pub bytes: &'a [u8],
    /// What was decided about it, where that is known.
    pub decided: Option<Decided>,
}

/// What was decided about a frame.
pub struct Decided {
    /// The XDP action.
    pub action: u32,
    /// Whether the frame is one that was sent.
    pub is_sent: bool,
    /// All of it in words.
    pub comment: String,
}

impl Writer {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// It cannot be written, or is a terminal ([`Exit::Usage`]).
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::create(path).with_context(|| format!("creating the capture {name}"))?;
        Self::begin(Box::new(file), name)
    }

    /// Writes to standard output.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn to_standard_output() -> Result<Self> {
        Self::begin(Box::new(io::stdout()), "to standard output".to_owned())
    }

    fn begin(to: Box<dyn Sink>, name: String) -> Result<Self> {
        if to.as_fd().is_terminal() {
            let text = format!(
                "writing the capture {name}: that is a terminal, and a capture is no text; name a file, or give it to a program that reads captures, as `| tshark -i -`"
            );
            return Err(Failure::error(Exit::Usage, text));
        }
        let mut writer = Self { to: BufWriter::new(to), name, interfaces: 0 };
        writer.put(&mut SectionHeaderBlock {
            block_type: pcap_parser::SHB_MAGIC,
            block_len1: 0,
            bom: pcap_parser::BOM_MAGIC,
            major_version: 1,
            minor_version: 0,
            section_len: -1,
            options: vec![option(OptionCode::ShbUserAppl, APPLICATION.as_bytes())],
            block_len2: 0,
        })?;
        Ok(writer)
    }

    /// Adds an interface, of whose frames there are up to so many bytes or, for 0, all; its number.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn interface(&mut self, name: Option<&str>, snap_len: u32) -> Result<u32> {
        let name = name.map(|name| option(OptionCode::IfName, name.as_bytes()));
        self.put(&mut InterfaceDescriptionBlock {
            block_type: pcap_parser::IDB_MAGIC,
            block_len1: 0,
            linktype: Linktype::ETHERNET,
            reserved: 0,
            snaplen: snap_len,
            options: name.into_iter().chain([option(OptionCode::IfTsresol, &[9])]).collect(),
            block_len2: 0,
            if_tsresol: 9,
            if_tsoffset: 0,
        })?;
        self.interfaces += 1;
        Ok(self.interfaces - 1)
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, frame: &Frame<'_>) -> Result<()> {
        let Frame { interface, time, len, bytes, ref decided } = *frame;
        let decided = decided.as_ref().map(|Decided { action, is_sent, comment }| {
            let flags = if *is_sent { OUTBOUND } else { INBOUND };
            let verdict = [&[VERDICT_OF_XDP][..], &u64::from(*action).to_le_bytes()].concat();
            [
                option(OptionCode::Comment, comment.as_bytes()),
                option(FLAGS, &flags.to_le_bytes()),
                option(VERDICT, &verdict),
            ]
        });
        self.put(&mut EnhancedPacketBlock {
            block_type: pcap_parser::EPB_MAGIC,
            block_len1: 0,
            if_id: interface,
            ts_high: (time >> 32) as u32,
            ts_low: time as u32,
            caplen: bytes.len() as u32,
            origlen: len,
            data: bytes,
            options: decided.into_iter().flatten().collect(),
            block_len2: 0,
        })
    }

    fn put(&mut self, block: &mut impl ToVec) -> Result<()> {
        let bytes = block.to_vec().map_err(|error| anyhow!("{error:?}"));
        let written = bytes.and_then(|bytes| Ok(self.to.write_all(&bytes)?));
        written.with_context(|| format!("writing the capture {}", self.name))
    }

    /// What it writes to where that takes nothing now: a pipe whose reader has not come so far.
    pub fn full(&self) -> Option<BorrowedFd<'_>> {
        let to = self.to.get_ref().as_fd();
        let mut ready = [PollFd::new(to, PollFlags::POLLOUT)];
        // What cannot be asked is written to.
        (poll(&mut ready, PollTimeout::ZERO) == Ok(0)).then_some(to)
    }

    /// Writes what is left, so that who reads along has it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.to.flush().with_context(|| format!("writing the capture {}", self.name))
    }
}

fn option(code: OptionCode, value: &[u8]) -> PcapNGOption<'static> {
    PcapNGOption { code, len: value.len() as u16, value: value.to_vec().into() }
}
