//! Whether a driver removes VLAN tags, over ethtool's ioctl.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// ethtool's flag for "the driver removes VLAN tags" (include/uapi/linux/ethtool.h).
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;

/// Whether an interface's driver removes VLAN tags before anybody sees the frame; false where it cannot be asked.
pub(crate) fn strips_vlan_tags(name: &str) -> bool {
    ethtool_flags(name, ETHTOOL_GFLAGS, 0).is_ok_and(|flags| flags & ETH_FLAG_RXVLAN != 0)
}

/// Has the driver remove VLAN tags, or leave them in the frame.
pub(crate) fn strip_vlan_tags(name: &str, strip: bool) -> Result<()> {
    let others = ethtool_flags(name, ETHTOOL_GFLAGS, 0)? & !ETH_FLAG_RXVLAN;
    ethtool_flags(name, ETHTOOL_SFLAGS, if strip { others | ETH_FLAG_RXVLAN } else { others })?;
    Ok(())
}

fn ethtool_flags(name: &str, command: u32, flags: u32) -> Result<u32> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // struct ethtool_value: command and data.
    let mut value = [command, flags];
    // SAFETY: ifreq is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(name.len() < libc::IFNAMSIZ, "{name:?} is too long for an interface's name");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the request names an interface and carries the address of an ethtool_value, both alive during the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    nix::errno::Errno::result(result)
        .with_context(|| format!("asking the driver of {name} about its offloads"))?;
    Ok(value[1])
}
