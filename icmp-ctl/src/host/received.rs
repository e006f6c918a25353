//! Frames that interfaces have received, as their drivers count them.
//!
//! Owns reading them. They are apart from the properties of interfaces, which change only when somebody changes them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use crate::host::netlink::{ask, event_loop};

/// Frames received (`rx_packets`) by the index of the interface, since it was made. With a program in native mode some drivers count the frames
/// that this answers or drops as well, others do not.
///
/// # Errors
/// rtnetlink cannot be reached or refuses.
pub fn received_once() -> Result<BTreeMap<u32, u64>> {
    event_loop()?.block_on(ask(async |handle| {
        let messages = handle.link().get().execute().try_collect::<Vec<_>>().await;
        Ok(messages.context("reading what interfaces have received")?.iter().filter_map(received).collect())
    }))
}

fn received(message: &LinkMessage) -> Option<(u32, u64)> {
    let packets = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Stats64(counted) => Some(counted.rx_packets),
        _ => None,
    });
    Some((message.header.index, packets?))
}
