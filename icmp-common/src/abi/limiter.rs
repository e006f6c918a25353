//! Lines of the tables that sources and prefixes are limited by.

/// Words of a hash table that lie together: an entry of `SOURCES`, `PREFIXES` and `REPUTATIONS`. Layout: 64 bytes, a cache line.
///
/// Whoever is looked for has two of them, by a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Line {
    /// Buckets of the limiter, or reputation entries of [`crate::known_sources`].
    pub words: [u64; LINE_WORDS],
}

/// Words of a [`Line`].
pub const LINE_WORDS: usize = 8;
