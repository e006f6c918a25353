//! An array of the kernel in this process' memory, as CPUs are changing it: reading it costs no call.
//!
//! Owns the mapping. The reader owns whether what it has read is consistent.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use aya::Pod;
use aya::maps::{Array, IterableMap as _, MapData};
use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The values of an array with `BPF_F_MMAPABLE` (Linux 5.5). Each is of 64-bit words, and they follow one another.
pub(crate) struct MappedArray<V> {
    start: NonNull<c_void>,
    /// In bytes.
    length: NonZeroUsize,
    values: PhantomData<V>,
}

impl<V: Pod> MappedArray<V> {
    /// 64-bit words of a value.
    const WORDS: usize = {
        assert!(size_of::<V>().is_multiple_of(size_of::<u64>()) && align_of::<V>() <= align_of::<u64>());
        size_of::<V>() / size_of::<u64>()
    };

    /// Maps all of it.
    ///
    /// # Errors
    /// The array may not be mapped, or there is no memory.
    pub(crate) fn new(array: &Array<MapData, V>) -> Result<Self> {
        let length =
            NonZeroUsize::new(array.len() as usize * size_of::<V>()).context("an array has values")?;
        // SAFETY: the kernel chooses where, so nothing that is there is mapped over.
        let mapped = unsafe {
            mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, array.map().fd().as_fd(), 0)
        };
        Ok(Self { start: mapped.context("mapping an array")?, length, values: PhantomData })
    }

    /// The words of each value.
    pub(crate) fn values(&self) -> std::slice::ChunksExact<'_, AtomicU64> {
        let words = self.length.get() / size_of::<u64>();
        // SAFETY: so many words are mapped at a page for as long as this lives; CPUs write to them at any time, as an atomic may be written to.
        let words = unsafe { std::slice::from_raw_parts(self.start.cast::<AtomicU64>().as_ptr(), words) };
        words.chunks_exact(Self::WORDS)
    }

    /// Copies words to a value as they are just now, word by word: some may be of before a change and some of after it.
    pub(crate) fn copy(words: &[AtomicU64], value: &mut V) {
        assert_eq!(words.len(), Self::WORDS, "the words of one value");
        let to = std::ptr::from_mut(value).cast::<u64>();
        for (at, word) in words.iter().enumerate() {
            let to = to.wrapping_add(at);
            // SAFETY: a value has as many words and begins where one may, and any bytes are a value of plain data.
            unsafe { to.write(word.load(Ordering::Relaxed)) };
        }
    }
}

impl<V> Drop for MappedArray<V> {
    fn drop(&mut self) {
        // SAFETY: this was mapped by `new`, and nothing of it is lent any more.
        let _stays_mapped = unsafe { munmap(self.start, self.length.get()) };
    }
}
