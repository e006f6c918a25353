//! Interfaces that the netlink library leaves out: it wants text where the kernel takes any bytes, in names, alternative names and descriptions
//! (`ip link set dev IFACE alias TEXT`), and gives up the whole interface for one attribute that it cannot read.
//!
//! Owns reading them all the same, without what cannot be read. What is not there is taken for gone or moved away, and loses the program.

use std::ffi::CStr;

use anyhow::{Context as _, Result, anyhow};
use netlink_packet_route::link::{LinkAttribute, LinkHeader, LinkMessage, Prop};
use nix::net::if_::if_nameindex;
use rtnetlink::packet_core::{NlaBuffer, ParseableParametrized as _};

use crate::kernel::netlink::{attribute, attributes, link};

/// Attributes (include/uapi/linux/if_link.h).
const IFLA_IFNAME: u16 = 3;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
/// Lengths of struct nlmsghdr and struct ifinfomsg.
const HEADER: usize = 16;

/// One of them, with what is no text in its names escaped.
pub(super) struct LeftOut {
    pub(super) message: LinkMessage,
    /// Whether its name is text.
    pub(super) has_text_name: bool,
}

/// Those that are not among these indexes.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn left_out(known: &[u32]) -> Result<Vec<LeftOut>> {
    let all = if_nameindex().context("reading the names of the interfaces")?;
    let mut found = Vec::new();
    for one in all.iter().filter(|one| !known.contains(&one.index())) {
        if let Some(answer) = link(one.index())? {
            let message =
                message(&answer).with_context(|| format!("reading the interface {}", one.index()))?;
            found.push(LeftOut { message, has_text_name: one.name().to_str().is_ok() });
        }
    }
    Ok(found)
}

fn message(answer: &[u8]) -> Result<LinkMessage> {
    let body = answer.get(HEADER..).unwrap_or_default();
    let mut message = LinkMessage::default();
    message.header = LinkHeader::parse(body).map_err(|error| anyhow!("{error}"))?;
    let family = message.header.interface_family;
    for (kind, value) in attributes(body.get(HEADER..).unwrap_or_default()) {
        match kind & !0x8000 {
            IFLA_IFNAME => message.attributes.push(LinkAttribute::IfName(text(value))),
            IFLA_PROP_LIST => {
                let names = attributes(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                let names = names.map(|(_, name)| Prop::AltIfName(text(name))).collect();
                message.attributes.push(LinkAttribute::PropList(names));
            }
            _ => {
                let bytes = attribute(kind, value);
                let read = NlaBuffer::new_checked(bytes.as_slice())
                    .and_then(|one| LinkAttribute::parse_with_param(&one, family));
                message.attributes.extend(read.ok());
            }
        }
    }
    Ok(message)
}

/// Text that ends with a zero, or its bytes escaped where they are none, as a shell reads them between `$'` and `'`.
fn text(bytes: &[u8]) -> String {
    let bytes = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}
