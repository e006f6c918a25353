//! Reads beside the screen: an answer may take long, and keys and signals do not wait for it.
//!
//! Owns the thread that reads, again and again, as long as its results are taken.

use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::kernel::threads::start;
use crate::top::model::Seen;

/// What was read, or why nothing was.
pub(super) type Read = Result<Seen, String>;

/// A thread that reads.
pub(super) struct Reader {
    told: Receiver<Read>,
}

impl Reader {
    /// Reads from now on, and so long after each time.
    ///
    /// # Errors
    /// There may be no more threads.
    pub(super) fn start(interval: Duration, mut read: impl FnMut() -> Read + Send + 'static) -> Result<Self> {
        let (teller, told) = mpsc::channel();
        start(move || {
            while teller.send(read()).is_ok() {
                thread::sleep(interval);
            }
        })?;
        Ok(Self { told })
    }

    /// What has come and was not taken yet.
    ///
    /// # Errors
    /// The thread has ended.
    pub(super) fn next(&self) -> Result<Option<Read>> {
        match self.told.try_recv() {
            Ok(read) => Ok(Some(read)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => {
                bail!("the thread that reads the figures has ended, which is a fault of icmp-ctl")
            }
        }
    }
}
