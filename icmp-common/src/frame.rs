//! Access to the bytes of a received frame, the same for kernel memory and host memory.
//!
//! Owns the one way to reach packet bytes: a *window*, one bounds check for one header, a reference to a fixed-size array that is then read at
//! constant indices. It does not know what the bytes mean.

/// A received frame that starts with its Ethernet header.
pub trait Frame {
    /// Bytes the frame has in its first buffer, from the Ethernet header on.
    fn linear_len(&self) -> usize;

    /// Bytes of the whole frame over all its buffers; asked for only when `linear_len` is too short for the IP packet.
    fn total_len(&self) -> usize;

    /// The same number, of which the compiler knows nothing: where it knows how windows lie to each other, it compares one pointer and reads
    /// from another, which the verifier does not follow.
    #[inline(always)]
    fn opaque(value: usize) -> usize {
        value
    }

    /// The `N` bytes at `offset`, or `None` where they are not all in the first buffer.
    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;
}

/// A frame in host memory, in one buffer.
pub struct SliceFrame<'a> {
    bytes: &'a mut [u8],
}

impl<'a> SliceFrame<'a> {
    /// Takes the bytes of a frame from its Ethernet header on.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }
}

impl Frame for SliceFrame<'_> {
    fn linear_len(&self) -> usize {
        self.bytes.len()
    }

    fn total_len(&self) -> usize {
        self.bytes.len()
    }

    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.bytes.get_mut(offset..offset.checked_add(N)?)?.try_into().ok()
    }
}

/// The `N` bytes at the constant `AT` of a window; refused at compile time where they do not fit.
#[inline(always)]
pub fn field<const AT: usize, const N: usize, const W: usize>(window: &[u8; W]) -> [u8; N] {
    const { assert!(AT + N <= W) };
    let mut bytes = [0; N];
    copy::<N>(&mut bytes, &window[AT..AT + N]);
    bytes
}

/// Writes `bytes` at the constant `AT` of a window; refused at compile time where they do not fit.
#[inline(always)]
pub fn set_field<const AT: usize, const N: usize, const W: usize>(window: &mut [u8; W], bytes: [u8; N]) {
    const { assert!(AT + N <= W) };
    copy::<N>(&mut window[AT..AT + N], &bytes);
}

/// Exchanges the `N` bytes at the constants `A` and `B` of a window; refused at compile time where they do not fit.
#[inline(always)]
pub fn swap_fields<const A: usize, const B: usize, const N: usize, const W: usize>(window: &mut [u8; W]) {
    let a = field::<A, N, W>(window);
    let b = field::<B, N, W>(window);
    set_field::<A, N, W>(window, b);
    set_field::<B, N, W>(window, a);
}

/// Copies `N` bytes in pieces of eight, four, two and one: each is one load and one store, where the compiler would take whatever is
/// longer, or goes byte by byte, for single bytes.
#[inline(always)]
fn copy<const N: usize>(to: &mut [u8], from: &[u8]) {
    let mut at = 0;
    while N - at >= 8 {
        to[at..at + 8].copy_from_slice(&from[at..at + 8]);
        at += 8;
    }
    if N & 4 != 0 {
        to[at..at + 4].copy_from_slice(&from[at..at + 4]);
        at += 4;
    }
    if N & 2 != 0 {
        to[at..at + 2].copy_from_slice(&from[at..at + 2]);
        at += 2;
    }
    if N & 1 != 0 {
        to[at] = from[at];
    }
}
