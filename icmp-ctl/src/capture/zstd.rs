//! zstd (RFC 8878), one frame after the other: the decoder knows one.
//!
//! Owns the output for a frame that is cut off or damaged, and the comparison of its checksum, which the decoder only reads and computes.

use std::error::Error;
use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What a frame begins with.
pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// An empty last block, and room for a checksum behind it: the decoder keeps the last window, of 2 MiB and more, until it has seen the end of a
/// frame.
const END: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

/// What is compressed in a stream of frames.
pub(super) struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// A frame has begun whose checksum is not compared.
    is_within: bool,
    /// What is told when all that came before it is read.
    error: Option<io::Error>,
}

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), is_within: false, error: None }
    }

    /// Begins the next frame, if there is one.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => {
                    self.is_within = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(said(error)),
            }
        }
        Ok(false)
    }

    /// Decodes the next block.
    fn decode(&mut self) {
        let one = || BlockDecodingStrategy::UptoBlocks(1);
        if let Err(error) = self.decoder.decode_blocks(&mut self.source, one()) {
            self.is_within = false;
            let ended = self.decoder.decode_blocks(&END[..], one());
            self.error = Some(said(ended.err().unwrap_or(error)));
        }
    }

    /// Compares the checksum of the frame, all of which has been read.
    fn verify(&mut self) -> io::Result<()> {
        self.is_within = false;
        match self.decoder.get_checksum_from_data() {
            Some(said) if Some(said) != self.decoder.get_calculated_checksum() => Err(io::Error::other(
                "the checksum of the zstd data does not match: they are damaged somewhere",
            )),
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            if !self.is_within {
                if !self.begin()? {
                    return Ok(0);
                }
            } else if self.decoder.is_finished() {
                self.verify()?;
            } else {
                self.decode();
            }
        }
        self.decoder.read(buffer)
    }
}

/// An error of the decoder in words for people.
fn said(error: FrameDecoderError) -> io::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if inner.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
        {
            return io::Error::new(io::ErrorKind::UnexpectedEof, "the zstd data are cut off");
        }
        cause = inner.source();
    }
    io::Error::other(format!("the zstd data are damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    /// What can be read, and the error behind it.
    fn read(bytes: &[u8]) -> (Vec<u8>, Option<String>) {
        let mut read = Vec::new();
        let error = Zstd::new(BufReader::new(bytes)).read_to_end(&mut read).err();
        (read, error.map(|error| error.to_string()))
    }

    fn plain() -> Vec<u8> {
        (0..400_000_u32).flat_map(|i| (i / 3).to_le_bytes()).collect()
    }

    #[test]
    fn of_zstd_data_that_are_cut_off_all_blocks_before_that_are_read() {
        let plain = plain();
        let packed = compress_to_vec(&plain[..], CompressionLevel::Fastest);
        let (whole, error) = read(&packed);
        assert!(whole == plain && error.is_none(), "{error:?}");
        for percent in [20, 50, 90, 99] {
            let (read, error) = read(&packed[..packed.len() * percent / 100]);
            assert!(plain.starts_with(&read), "{percent}: the beginning is read");
            // A block has 128 KiB at most.
            assert!(read.len() + (1 << 18) > plain.len() * percent / 100, "{percent}: {} bytes", read.len());
            assert_eq!(error.as_deref(), Some("the zstd data are cut off"), "{percent}");
        }
    }

    #[test]
    fn the_checksum_of_a_zstd_frame_is_compared() {
        let mut packed = compress_to_vec(&plain()[..], CompressionLevel::Fastest);
        assert_eq!(packed[4] & 4, 4, "the frame has a checksum");
        let last = packed.len() - 1;
        packed[last] ^= 1;
        let (read, error) = read(&packed);
        assert!(read == plain(), "all of it is read");
        assert!(error.is_some_and(|error| error.contains("checksum")));
    }

    #[test]
    fn frames_that_are_to_be_skipped_are_skipped() {
        let packed = compress_to_vec(&b"abc"[..], CompressionLevel::Fastest);
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
        assert_eq!(read(&[&packed[..], &skipped, &packed].concat()), (b"abcabc".to_vec(), None));
    }
}
