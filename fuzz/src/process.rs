//! Target `process`: any frames through the packet path, on tables of every kind.
//!
//! Owns the properties: a frame is changed only if it is answered, a reply is right, no frame is answered that the oracle would not answer, and
//! each frame is counted once, with all its bytes, for the reason it ended in.

use std::fmt::Write as _;

use icmp_common::frame::Frame;
use icmp_common::path::{self, apart::Apart};
use icmp_common::reason::Verdict;
use icmp_tests::generate::repair;
use icmp_tests::host::interface;
use icmp_tests::oracle::answerable;
use icmp_tests::vectors::to_hex;

pub use crate::knobs::KNOBS;
use crate::knobs::{Host, Knobs};
use crate::reply;

/// The most frames of one input.
const MOST: u8 = 8;
/// Far enough from zero that an untouched bucket is full.
const START: u64 = 1 << 32;

/// A frame whose end may lie in a further buffer, which cannot be read.
struct Buffers<'a> {
    bytes: &'a mut [u8],
    first: usize,
}

impl Frame for Buffers<'_> {
    fn linear_len(&self) -> usize {
        self.first
    }

    fn total_len(&self) -> usize {
        self.bytes.len()
    }

    fn window<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.bytes[..self.first].get_mut(offset..offset.checked_add(N)?)?.try_into().ok()
    }
}

impl Apart for Buffers<'_> {}

/// Runs an input: [`KNOBS`] bytes that say what host it is, and a frame.
///
/// # Panics
/// Something does not hold; the message has the input.
pub fn check(input: &[u8]) {
    let Some((knobs, frame)) = Knobs::split(input) else { return };
    let host = knobs.host();
    for i in 0..=knobs.repeats % MOST {
        host.tables.set_ticks(START + u64::from(i) * u64::from(knobs.ticks));
        let mut request = frame.to_vec();
        let [at, by] = knobs.change;
        if let Some(byte) = request.get_mut(usize::from(at)) {
            *byte = byte.wrapping_add(by.wrapping_mul(i));
            if by != 0 && i != 0 {
                repair(&mut request);
            }
        }
        let objections = run(&host, &knobs, &request);
        assert!(
            objections.is_empty(),
            "{objections}frame {i} is {}\nof {knobs:?}\ninput {}",
            to_hex(&request),
            to_hex(input)
        );
    }
}

/// All objections to what becomes of a frame, a line each.
fn run(host: &Host, knobs: &Knobs, request: &[u8]) -> String {
    let before = host.tables.counters();
    let mut after = request.to_vec();
    let first = request.len() - request.len() * usize::from(knobs.cut) / 256;
    let outcome = path::process(&mut Buffers { bytes: &mut after, first }, &host.tables, interface().ifindex);

    let mut objections = String::new();
    let mut object = |what: &dyn std::fmt::Display| {
        let _infallible = writeln!(objections, "{}: {what}", outcome.reason.name());
    };
    let mut counted = before;
    counted.entry((host.slot, outcome.row, outcome.reason as u8)).or_default().count(request.len() as u64);
    if host.tables.counters() != counted {
        object(&format_args!("counted otherwise than once: {:?}", host.tables.counters()));
    }
    let allowed = answerable(request, &host.for_oracle());
    if outcome.verdict() != Verdict::Answer {
        if after != request {
            object(&format_args!("changed, and not answered: {}", to_hex(&after)));
        }
        if host.has_to_answer && allowed.is_ok() {
            object(&"has to be answered");
        }
        return objections;
    }
    if let Err(why) = allowed {
        object(&format_args!("answered in spite of {why}"));
    }
    if host.silent {
        object(&"answered by a host that answers nothing");
    }
    for wrong in reply::objections(request, &after, &host.settings) {
        object(&format_args!("{wrong}, in {}", to_hex(&after)));
    }
    objections
}
