//! Writing a capture: pcapng with Ethernet frames and nanoseconds.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use pcap_parser::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, Linktype, OptionCode, PcapNGOption, SectionHeaderBlock,
    ToVec,
};

/// A file that frames are written to.
pub struct Writer {
    file: BufWriter<File>,
    name: String,
}

impl Writer {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::create(path).with_context(|| format!("creating the capture {name}"))?;
        let mut writer = Self { file: BufWriter::new(file), name };
        writer.put(&mut SectionHeaderBlock {
            block_type: pcap_parser::SHB_MAGIC,
            block_len1: 0,
            bom: pcap_parser::BOM_MAGIC,
            major_version: 1,
            minor_version: 0,
            section_len: -1,
            options: Vec::new(),
            block_len2: 0,
        })?;
        writer.put(&mut InterfaceDescriptionBlock {
            block_type: pcap_parser::IDB_MAGIC,
            block_len1: 0,
            linktype: Linktype::ETHERNET,
            reserved: 0,
            snaplen: 0,
            options: vec![PcapNGOption { code: OptionCode::IfTsresol, len: 1, value: (&[9][..]).into() }],
            block_len2: 0,
            if_tsresol: 9,
            if_tsoffset: 0,
        })?;
        Ok(writer)
    }

    /// Adds a frame that was there at so many nanoseconds since 1970.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, time: u64, frame: &[u8]) -> Result<()> {
        self.put(&mut EnhancedPacketBlock {
            block_type: pcap_parser::EPB_MAGIC,
            block_len1: 0,
            if_id: 0,
            ts_high: (time >> 32) as u32,
            ts_low: time as u32,
            caplen: frame.len() as u32,
            origlen: frame.len() as u32,
            data: frame,
            options: Vec::new(),
            block_len2: 0,
        })
    }

    fn put(&mut self, block: &mut impl ToVec) -> Result<()> {
        let bytes = block.to_vec().map_err(|error| anyhow!("{error:?}"));
        let written = bytes.and_then(|bytes| Ok(self.file.write_all(&bytes)?));
        written.with_context(|| format!("writing the capture {}", self.name))
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self) -> Result<()> {
        self.file.flush().with_context(|| format!("writing the capture {}", self.name))
    }
}
