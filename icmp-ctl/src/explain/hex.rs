//! Hexadecimal digits as people copy them: alone, or as the dump of a frame, with offsets in front and text behind.
//!
//! Owns which parts of a dump are not bytes. A dump that can be read in two ways is refused.

use crate::diagnostics::count;

/// What is taken, for who has given something else.
const TAKEN: &str = "what is taken are digits alone, as of `xxd -p` or Wireshark's `Copy as Hex Stream`, and lines with their offsets, as of \
                     `tcpdump -xx` without the line before them, `xxd`, `hexdump -v -C` or `od -v -A x -t x1`";

/// The bytes of a text; between whole bytes there may be spaces, line ends and colons.
///
/// # Errors
/// There is something else, or an offset that is not that of the byte behind it.
pub(super) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    // The last line of some is the length alone, the first of none.
    let is_dump = lines.peek().and_then(|line| offset(line)).is_some_and(|(_, digits)| !digits.is_empty());
    for line in lines {
        let read = if is_dump {
            offset(line).ok_or_else(|| "it has no offset".to_owned()).and_then(|(offset, digits)| {
                if offset == bytes.len() {
                    add(digits, &mut bytes)
                } else {
                    let before = count(bytes.len() as u64, "byte is", "bytes are");
                    Err(format!("it has the offset {offset}, and {before} before it"))
                }
            })
        } else {
            add(&line.replace(':', " "), &mut bytes)
        };
        read.map_err(|why| format!("{line:?}: {why}; {TAKEN}"))?;
    }
    Ok(bytes)
}

/// The offset that a line of a dump begins with, and the digits behind it, without the text behind those. With a colon (tcpdump, xxd) it is
/// known for what it is; without (od, hexdump, Wireshark) by the bytes behind it, which stand alone, while it has more digits.
fn offset(line: &str) -> Option<(usize, &str)> {
    let (first, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let (number, rest) = (first.trim_end_matches(':'), rest.trim_start());
    // Where there is no colon, two spaces may be in the middle of the bytes.
    let gaps: &[&str] = if number.len() < first.len() { &["  "] } else { &["   ", "  |"] };
    let end = gaps.iter().filter_map(|gap| rest.find(gap)).min().unwrap_or(rest.len());
    let digits = &rest[..end];
    let stands_out = number.len() < first.len() || digits.split_whitespace().all(|byte| byte.len() == 2);
    let number = number.strip_prefix("0x").unwrap_or(number);
    let is_offset = stands_out && number.len() >= 4 && number.chars().all(|c| c.is_ascii_hexdigit());
    let number = usize::from_str_radix(number, 16).ok().filter(|_| is_offset)?;
    Some((number, digits))
}

/// Adds what groups of digits stand for. All have the same length, but for the last one: a longer one is an offset, or two lines have become one.
fn add(line: &str, bytes: &mut Vec<u8>) -> Result<(), String> {
    let groups: Vec<_> = line.split_whitespace().collect();
    let length = groups.first().map_or(0, |group| group.len());
    for (i, group) in groups.iter().enumerate() {
        if let Some(other) = group.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(format!("{other:?} is no hexadecimal digit"));
        }
        if !group.len().is_multiple_of(2) {
            let digits = count(group.len() as u64, "digit", "digits");
            return Err(format!("{group} has {digits}, and each byte has two"));
        }
        let is_last = i + 1 == groups.len();
        if group.len() > length || group.len() < length && !is_last {
            return Err(format!("{group} is not as long as {}", groups[0]));
        }
        let nibbles: Vec<_> = group.chars().filter_map(|c| c.to_digit(16)).collect();
        bytes.extend(nibbles.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame whose text has hexadecimal digits, spaces and bars in it.
    const FRAME: &[u8] = b"\x02\0\0\0\0\x0d\x02\0\0\0\0\x01\x08\0E\0  | 00 11 22 ab";

    #[test]
    fn a_frame_is_the_same_in_every_form_in_which_it_is_copied() {
        let plain = "02000000000d020000000001080045002020 7c2030302031312032322061 62".replace(' ', "");
        for text in [
            plain.as_str(),
            // Across lines, in groups, with colons.
            "02000000000d02000000000108004500\n20207c203030203131203232206162\n",
            "0200 0000 000d 0200 0000 0001 0800 4500\n2020 7c20 3030 2031 3120 3232 2061 62",
            "02:00:00:00:00:0d 02:00:00:00:00:01 08:00 45:00 20:20:7C:20:30:30:20:31:31:20:32:32:20:61:62",
            // tcpdump -xx and -XX
            "\t0x0000:  0200 0000 000d 0200 0000 0001 0800 4500\n\t0x0010:  2020 7c20 3030 2031 3120 3232 2061 62",
            "\t0x0000:  0200 0000 000d 0200 0000 0001 0800 4500  ..............E.\n\
             \t0x0010:  2020 7c20 3030 2031 3120 3232 2061 62    ..|.00.11.22.ab",
            // xxd
            "00000000: 0200 0000 000d 0200 0000 0001 0800 4500  ..............E.\n\
             00000010: 2020 7c20 3030 2031 3120 3232 2061 62      | 00 11 22 ab\n",
            // hexdump -C
            "00000000  02 00 00 00 00 0d 02 00  00 00 00 01 08 00 45 00  |..............E.|\n\
             00000010  20 20 7c 20 30 30 20 31  31 20 32 32 20 61 62     |  | 00 11 22 ab|\n0000001f\n",
            // od -A x -t x1
            "000000 02 00 00 00 00 0d 02 00 00 00 00 01 08 00 45 00\n\
             000010 20 20 7c 20 30 30 20 31 31 20 32 32 20 61 62\n00001f\n",
            // Wireshark's Copy as Hex + ASCII dump, and tshark -x
            "0000   02 00 00 00 00 0d 02 00 00 00 00 01 08 00 45 00   ..............E.\r\n\
             0010   20 20 7c 20 30 30 20 31 31 20 32 32 20 61 62        | 00 11 22 ab\r\n",
            "0000  02 00 00 00 00 0d 02 00 00 00 00 01 08 00 45 00   ..............E.\n\
             0010  20 20 7c 20 30 30 20 31 31 20 32 32 20 61 62        | 00 11 22 ab\n",
        ] {
            assert_eq!(bytes(text).as_deref(), Ok(&FRAME[..31]), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_otherwise_or_is_no_digit_is_refused_with_what_is_taken() {
        for (text, said) in [
            ("0g", "'g' is no hexadecimal digit"),
            ("012", "3 digits"),
            ("0:1", "0 has 1 digit, and"),
            ("02-00", "'-'"),
            ("12:00:00.1 IP 192.0.2.1 > 192.0.2.2: ICMP echo request", "'.'"),
            // hexdump, which turns bytes round
            ("0000000 0002 0000", "has 7 digits"),
            // od -t x1: its offsets are octal
            ("0000000 02 00 00 00 00 0d 02 00 00 00 00 01 08 00 45 00\n0000020 20", "offset 32, and 16"),
            ("0010 45 00", "offset 16, and 0"),
            ("0000 45 00\n*\n0010 45", "no offset"),
            // Lines that a shell has made one.
            ("000000 02 00 00 00 000006 02", "02 is not as long as 000000"),
            ("0000: 0200 0000 0004: 000d", "no hexadecimal digit"),
            ("02 00 0000 00", "0000 is not as long as 02"),
        ] {
            let error = bytes(text).expect_err(text);
            assert!(error.contains(said) && error.contains("xxd -p"), "{text}: {error}");
        }
    }
}
