//! Target `capture`: any bytes as a capture, read to its end.
//!
//! Owns the properties: no bytes make the reader panic, records are counted in order, none has more bytes than it had on the link, an error
//! names the offset, and the two readers of a frame, for people and for limits, find the same source.

use std::io::Cursor;
use std::ops::ControlFlow;

use icmp_common::wire::ethernet;
use icmp_ctl::capture::ethernet::{Kind, frame};
use icmp_ctl::capture::packet::{Packet, source};
use icmp_ctl::capture::read::Capture;

/// Records of one input that are looked at.
const MOST: u64 = 10_000;

/// Runs an input.
///
/// # Panics
/// Something does not hold.
pub fn check(input: &[u8]) {
    let stream = Cursor::new(input.to_vec());
    let Ok(mut capture) = Capture::of("input".to_owned(), input.len() as u64, stream) else { return };
    let (mut room, mut records) = (Vec::new(), 0);
    let read = capture.each(
        |record| {
            records += 1;
            assert_eq!(record.number, records);
            assert!(record.bytes.len() <= record.length, "{record:?}");
            let (kind, frame) = frame(record, &mut room);
            assert!(kind == Kind::Unknown || frame.len() >= ethernet::LEN, "{record:?} became {frame:?}");
            // The one takes more tags for such, the other walks over more of them.
            if let (Some(packet), Some(source)) = (Packet::read(frame), source(frame)) {
                assert_eq!(packet.source, source, "{packet} in {record:?}");
            }
            Ok(if records < MOST { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        },
        |_, _| (),
    );
    if let Err(error) = read {
        let text = format!("{error:#}");
        let read = match records {
            0 => !text.contains("before that"),
            1 => text.contains("; the frame before"),
            _ => text.contains(&format!("; the {records} frames before")),
        };
        assert!(text.contains(" byte ") && read, "{text}");
    }
}
