//! Interfaces and addresses that the netlink library leaves out: the kernel takes any bytes in names, alternative names, descriptions (`ip link
//! set dev IFACE alias TEXT`) and labels of addresses, and the library drops the whole message for one that is not UTF-8.
//!
//! Owns reading them without that attribute. Otherwise such an interface would look as if it were gone, and lose the program, and such an
//! address would not be answered.

use std::ffi::CStr;

use anyhow::{Context as _, Result, anyhow};
use netlink_packet_route::address::{AddressAttribute, AddressHeader, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkHeader, LinkMessage, Prop};
use nix::net::if_::if_nameindex;
use rtnetlink::packet_core::{
    Emitable as _, NlaBuffer, NlasIterator, Parseable as _, ParseableParametrized as _,
};

use crate::kernel::netlink::{self, attribute, attributes, link};

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
        if let Some(message) = one_link(one.index(), None)? {
            found.push(LeftOut { message, has_text_name: one.name().to_str().is_ok() });
        }
    }
    Ok(found)
}

/// One interface, also of another network namespace by this one's number for it; `None` where it is not there.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn one_link(ifindex: u32, namespace: Option<i32>) -> Result<Option<LinkMessage>> {
    let read = |answer: Vec<u8>| {
        message(answer.get(HEADER..).unwrap_or_default())
            .with_context(|| format!("reading the interface {ifindex}"))
    };
    link(ifindex, namespace)?.map(read).transpose()
}

/// All interfaces of another network namespace, by this one's number for it.
///
/// # Errors
/// As [`netlink::links_of`].
pub(super) fn links_of(namespace: i32) -> Result<Vec<LinkMessage>> {
    netlink::links_of(namespace)?.iter().map(|body| message(body)).collect()
}

/// All addresses.
///
/// # Errors
/// The kernel does not tell.
pub(super) fn addresses() -> Result<Vec<AddressMessage>> {
    netlink::addresses()?.iter().map(|body| address(body)).collect()
}

fn address(body: &[u8]) -> Result<AddressMessage> {
    let mut message = AddressMessage::default();
    message.header = AddressHeader::parse(body).map_err(|error| anyhow!("reading an address: {error}"))?;
    let attributes = NlasIterator::new(body.get(message.header.buffer_len()..).unwrap_or_default());
    message.attributes.extend(attributes.flatten().filter_map(|one| AddressAttribute::parse(&one).ok()));
    Ok(message)
}

fn message(body: &[u8]) -> Result<LinkMessage> {
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
