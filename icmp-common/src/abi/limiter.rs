//! The limiter's hash tables.

/// A cache line of words: an entry of `SOURCES`, `PREFIXES` and `REPUTATIONS`. A source or prefix has two of the words, by a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Line {
    /// Buckets of the limiter, or reputation entries.
    pub words: [u64; LINE_WORDS],
}

/// Words of a [`Line`].
pub const LINE_WORDS: usize = 8;
