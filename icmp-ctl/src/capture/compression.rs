//! A capture as a stream of its contents, whether or not it is compressed.
//!
//! Owns recognizing gzip (RFC 1952) and zstd (RFC 8878) by their first bytes, and the errors of decompression.

use std::io::{self, BufRead as _, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::bufread::MultiGzDecoder;

use crate::capture::zstd::{self, Zstd};

const GZIP: [u8; 3] = [0x1f, 0x8b, 8];
/// Bytes that are asked of the kernel at once.
const AT_ONCE: usize = 1 << 18;

/// What is known about a stream beside its bytes.
#[derive(Default)]
pub(super) struct Below {
    /// Bytes of the file so far.
    pub(super) read: AtomicU64,
    /// Why the stream has ended, where that was no end.
    error: Mutex<Option<io::Error>>,
}

impl Below {
    /// Why the stream has ended, told once.
    pub(super) fn error(&self) -> Option<io::Error> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The stream of an input.
pub(super) fn stream<R: Read + Send + 'static>(
    input: R,
    below: &Arc<Below>,
) -> io::Result<impl Read + Send + use<R>> {
    let counted = Counted { input, below: Arc::clone(below) };
    let mut buffered = BufReader::with_capacity(AT_ONCE, counted);
    let first = buffered.fill_buf()?;
    let inner: Box<dyn Read + Send> = if first.starts_with(&GZIP) {
        Box::new(MultiGzDecoder::new(buffered))
    } else if first.starts_with(&zstd::MAGIC) {
        Box::new(Zstd::new(buffered))
    } else {
        Box::new(buffered)
    };
    Ok(Filled { inner, below: Arc::clone(below) })
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    below: Arc<Below>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.below.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Fills what it is given, but at the end: whoever reads takes less for the end of a block. An error is kept, and ends the stream behind the
/// bytes that came before it.
struct Filled {
    inner: Box<dyn Read + Send>,
    below: Arc<Below>,
}

impl Read for Filled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
            match self.inner.read(space) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    *self.below.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    self.inner = Box::new(io::empty());
                    break;
                }
            }
        }
        Ok(filled)
    }
}
