//! A driver's XDP features, over the generic netlink family `netdev` (Linux 6.3).
//!
//! Owns the family's numbers (Documentation/netlink/specs/netdev.yaml). As bytes: the crate for generic netlink brings a second copy of
//! rtnetlink's parts.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, send, socket};

use crate::kernel::netlink::{attribute, attributes, message, received, word16, word32};

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
/// The family that knows the numbers of the others (include/uapi/linux/genetlink.h).
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// What a driver can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    const BASIC: u64 = 1;
    const RX_SG: u64 = 1 << 5;

    /// Whether it runs a program in native mode, and sends what the program answers.
    pub fn is_native(self) -> bool {
        self.0 & Self::BASIC != 0
    }

    /// Whether it gives the program frames in several buffers.
    pub fn has_frags(self) -> bool {
        self.0 & Self::RX_SG != 0
    }

    /// Asks the kernel about an interface; `None` where it is too old to tell.
    ///
    /// # Errors
    /// It cannot be asked, or knows no such interface.
    pub fn read(ifindex: u32) -> Result<Option<Self>> {
        let name = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
        let Some(family) = ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name)? else { return Ok(None) };
        let Some(id) = value::<2>(&family, CTRL_ATTR_FAMILY_ID) else { return Ok(None) };
        let index = attribute(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
        let device = ask(u16::from_ne_bytes(id), NETDEV_CMD_DEV_GET, &index)?;
        let device = device.with_context(|| format!("the kernel knows no interface with index {ifindex}"))?;
        Ok(value(&device, NETDEV_A_DEV_XDP_FEATURES).map(|bits| Self(u64::from_ne_bytes(bits))))
    }
}

/// An attribute of so many bytes.
fn value<const N: usize>(bytes: &[u8], kind: u16) -> Option<[u8; N]> {
    attributes(bytes).find(|(found, _)| *found == kind).and_then(|(_, value)| value.try_into().ok())
}

/// The attributes of what a family answers; `None` where what is asked for is not there.
fn ask(family: u16, command: u8, body: &[u8]) -> Result<Option<Vec<u8>>> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkGeneric)
            .context("opening a generic netlink socket")?;
    // struct genlmsghdr: command, version, reserved.
    let body = [&[command, 1, 0, 0], body].concat();
    send(socket.as_raw_fd(), &message(family, NLM_F_REQUEST, &body), MsgFlags::empty())
        .context("asking over generic netlink")?;
    let mut reply = [0; 8192];
    let length = received(&socket, &mut reply).context("asking over generic netlink")?;
    answer(&reply[..length])
}

/// What is in a message: struct nlmsghdr of 16 bytes, then an error, or struct genlmsghdr of four and attributes.
fn answer(reply: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(attributes) = reply.get(20..) else {
        bail!("generic netlink answers with {} bytes", reply.len())
    };
    if word16(reply, 4) != NLMSG_ERROR {
        return Ok(Some(attributes.to_vec()));
    }
    match Errno::from_raw((word32(reply, 16) as i32).wrapping_neg()) {
        Errno::ENOENT | Errno::ENODEV => Ok(None),
        error => Err(error).context("asking over generic netlink"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_found_among_the_attributes_of_an_answer() {
        let mut body = vec![NETDEV_CMD_DEV_GET, 1, 0, 0];
        body.extend(attribute(NETDEV_A_DEV_IFINDEX, &7_u32.to_ne_bytes()));
        body.extend(attribute(NETDEV_A_DEV_XDP_FEATURES, &0x23_u64.to_ne_bytes()));
        let attributes = answer(&message(30, 0, &body)).expect("an answer").expect("attributes");
        let features =
            value(&attributes, NETDEV_A_DEV_XDP_FEATURES).map(|bits| XdpFeatures(u64::from_ne_bytes(bits)));
        let features = features.expect("they are there");
        assert!(features.is_native() && features.has_frags());
        assert!(!XdpFeatures(0x20).is_native() && !XdpFeatures(1).has_frags());
        assert_eq!(value::<8>(&attributes, NETDEV_A_DEV_IFINDEX), None, "of another length");
    }

    #[test]
    fn what_is_not_there_is_no_error_and_what_is_cut_off_is_one() {
        let refused = |errno: i32| answer(&message(NLMSG_ERROR, 0, &(-errno).to_ne_bytes()));
        assert_eq!(refused(nix::libc::ENOENT).expect("no family"), None);
        assert!(refused(nix::libc::EPERM).is_err());
        assert!(answer(&[0; 12]).is_err());
    }

    #[test]
    fn loopback_has_no_native_mode_where_the_kernel_tells() {
        let index = nix::net::if_::if_nametoindex("lo").expect("every namespace has one");
        let features = XdpFeatures::read(index).expect("anyone may ask");
        assert!(features.is_none_or(|features| !features.is_native()), "{features:?}");
    }
}
