//! The parts of a capture that are left out or damaged, as lines.

use crate::diagnostics::count;
use crate::replay::frames::Frames;

/// That the blocks of so many frames say no time.
pub(in crate::commands) fn untimed(frames: u64) -> String {
    let frames = count(frames, "frame has", "frames have");
    format!("{frames} no time in the capture (simple packet blocks); the time of the frame before counts")
}

pub(super) fn lines(frames: &Frames) -> Vec<String> {
    let mut lines = Vec::new();
    let links: Vec<_> = frames.unknown_links.iter().map(i32::to_string).collect();
    let links = links.join(", ");
    let Frames { sent, unknown, cut, untimed: without_time, .. } = frames;
    let own = count(*sent, "frame that the host sent itself is", "frames that the host sent itself are");
    let records = count(*unknown, "record is", "records are");
    let short = count(*cut, "frame was", "frames were");
    for (number, what) in [
        (*sent, format!("{own} left out")),
        (
            *unknown,
            format!("{records} left out: of link type {links}, which is not read, or too short for a header"),
        ),
        (
            *cut,
            format!(
                "{short} cut off by the capture; the rest is taken for zeros, with which no ICMP checksum verifies"
            ),
        ),
        (*without_time, untimed(*without_time)),
    ] {
        lines.extend(Some(what).filter(|_| number > 0));
    }
    lines
}
