//! What is asked of the kernel that aya does not offer: elements of an array by the thousand, which interface a link is on, detaching it at
//! once, why a driver refuses a program, and whether the driver removes VLAN tags.
//!
//! Owns the raw calls and nothing of what is made of the answers.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::Pod;
use aya::maps::{Array, IterableMap as _, MapData};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};

/// Commands of bpf(2) used here (include/uapi/linux/bpf.h).
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_LINK_DETACH: libc::c_long = 34;

/// What matters of `struct bpf_link_info`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkInfo {
    /// Kernel id of its program.
    pub(crate) program_id: u32,
    /// Index of its interface; 0 where that is gone.
    pub(crate) ifindex: u32,
}

/// Asks about a pinned XDP link.
pub(crate) fn link_info(pin: &Path) -> Result<LinkInfo> {
    let link = open_link(pin)?;
    // type, id, program id, padding, then the union with the interface's index first.
    let mut info = [0_u32; 64];
    let mut attr = [0_u64; 16];
    attr[0] = link.as_raw_fd() as u64 | (size_of_val(&info) as u64) << 32;
    attr[1] = info.as_mut_ptr() as u64;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)
        .with_context(|| format!("asking about the link {}", pin.display()))?;
    Ok(LinkInfo { program_id: info[2], ifindex: info[4] })
}

/// Takes a pinned XDP link off its interface. Removing the pin does so too, but some time later, and whoever attaches next would
/// still find the program there.
pub(crate) fn detach_link(pin: &Path) -> Result<()> {
    let link = open_link(pin)?;
    let mut attr = [0_u64; 16];
    attr[0] = link.as_raw_fd() as u64;
    bpf(BPF_LINK_DETACH, &mut attr).with_context(|| format!("detaching the link {}", pin.display()))?;
    Ok(())
}

fn open_link(pin: &Path) -> Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes()).context("a path without zero bytes")?;
    // `union bpf_attr` for BPF_OBJ_GET: the path's address, then zeroes.
    let mut attr = [0_u64; 16];
    attr[0] = path.as_ptr() as u64;
    let fd = bpf(BPF_OBJ_GET, &mut attr).with_context(|| format!("opening the link {}", pin.display()))?;
    // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Writes consecutive elements, which may be none.
pub(crate) fn write_batch<V: Pod>(map: &mut Array<MapData, V>, first: u32, values: &[V]) -> Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    let mut keys: Vec<u32> = (first..).take(values.len()).collect();
    let mut attr = batch(map, &mut keys, values.as_ptr());
    bpf(BPF_MAP_UPDATE_BATCH, &mut attr)?;
    ensure!(
        attr[4] as u32 as usize == values.len(),
        "only {} of {} were written",
        attr[4] as u32,
        values.len()
    );
    Ok(())
}

/// Reads so many consecutive elements, which may be none.
pub(crate) fn read_batch<V: Pod>(map: &Array<MapData, V>, first: u32, count: u32) -> Result<Vec<V>> {
    let mut values: Vec<V> = Vec::with_capacity(count as usize);
    if count == 0 {
        return Ok(values);
    }
    let mut keys = vec![0_u32; count as usize];
    let mut attr = batch(map, &mut keys, values.as_mut_ptr());
    // The batch begins behind this element, and without it with the first one.
    let before = first.wrapping_sub(1);
    let mut behind = 0_u32;
    attr[0] = if first == 0 { 0 } else { (&raw const before) as u64 };
    attr[1] = (&raw mut behind) as u64;
    match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
        // How the end of the map is told.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        result => _ = result?,
    }
    ensure!(attr[4] as u32 == count, "only {} of {count} were read", attr[4] as u32);
    // SAFETY: there is room for so many, the kernel has just written them, and any bytes are a value of plain data.
    unsafe { values.set_len(count as usize) };
    Ok(values)
}

/// `union bpf_attr` of a batch: where it begins, where it ended, keys, values, count and descriptor. Values are as large as the map's,
/// which aya has checked.
fn batch<V: Pod>(map: &Array<MapData, V>, keys: &mut [u32], values: *const V) -> [u64; 16] {
    let mut attr = [0_u64; 16];
    attr[2] = keys.as_mut_ptr() as u64;
    attr[3] = values as u64;
    attr[4] = keys.len() as u64 | (map.map().fd().as_fd().as_raw_fd() as u64) << 32;
    attr
}

fn bpf(command: libc::c_long, attr: &mut [u64; 16]) -> std::io::Result<i32> {
    // SAFETY: attr is as large as is said, zero behind what the command reads, and the addresses in it are those of buffers that are alive.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Netlink numbers used here (include/uapi/linux/netlink.h, if_link.h).
const NLMSG_ERROR: u16 = 2;
const RTM_SETLINK: u16 = 19;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const NLM_F_CAPPED: u16 = 0x100;
const IFLA_XDP_NESTED: u16 = 43 | 0x8000;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Do not replace a program that is there.
pub(crate) const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;

/// Why the kernel will not have a program on an interface, in its own words, which only the netlink way of attaching carries.
///
/// Asks by trying; `None` where the kernel says nothing, or takes the program after all (which is undone).
pub(crate) fn refusal(ifindex: u32, program: BorrowedFd<'_>, mode_flags: u32) -> Option<String> {
    let flags = mode_flags | XDP_FLAGS_UPDATE_IF_NOEXIST;
    match set_xdp(ifindex, program.as_raw_fd(), flags).ok()? {
        Answer::Refused(text) => text,
        Answer::Done => {
            let _ = set_xdp(ifindex, -1, mode_flags);
            None
        }
    }
}

enum Answer {
    Done,
    Refused(Option<String>),
}

fn set_xdp(ifindex: u32, fd: i32, flags: u32) -> Result<Answer> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, NetlinkExtAck, &true)?;
    let mut nested = attribute(IFLA_XDP_FD, &fd.to_ne_bytes());
    nested.extend(attribute(IFLA_XDP_FLAGS, &flags.to_ne_bytes()));
    // struct ifinfomsg: family, pad, type, index, flags, change.
    let mut body = vec![0; 4];
    body.extend(ifindex.to_ne_bytes());
    body.extend([0; 8]);
    body.extend(attribute(IFLA_XDP_NESTED, &nested));
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut message = Vec::new();
    message.extend((body.len() as u32 + 16).to_ne_bytes());
    message.extend(RTM_SETLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(&body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut reply = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    let reply = &reply[..length];
    ensure!(length >= 36 && word16(reply, 4) == NLMSG_ERROR, "an answer that is none");
    if word32(reply, 16) == 0 {
        return Ok(Answer::Done);
    }
    // Behind the error comes the request, whole or only its header, then the attributes.
    let capped = word16(reply, 6) & NLM_F_CAPPED != 0;
    let mut at = 20 + if capped { 16 } else { word32(reply, 20) as usize };
    while at + 4 <= length {
        let (attribute_len, kind) = (word16(reply, at) as usize, word16(reply, at + 2));
        if kind == NLMSGERR_ATTR_MSG && attribute_len >= 4 && at + attribute_len <= length {
            let text = String::from_utf8_lossy(&reply[at + 4..at + attribute_len]);
            return Ok(Answer::Refused(Some(text.trim_end_matches('\0').to_owned())));
        }
        at += attribute_len.max(4).next_multiple_of(4);
    }
    Ok(Answer::Refused(None))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((value.len() as u16 + 4).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn word16(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// `NETLINK_EXT_ACK`: errors come with the kernel's text.
#[derive(Clone)]
struct NetlinkExtAck;

impl nix::sys::socket::SetSockOpt for NetlinkExtAck {
    type Val = bool;

    fn set<F: std::os::fd::AsFd>(&self, fd: &F, value: &bool) -> nix::Result<()> {
        let value = i32::from(*value);
        // SAFETY: the option takes an int, and is given the address and size of one.
        let result = unsafe {
            libc::setsockopt(
                fd.as_fd().as_raw_fd(),
                libc::SOL_NETLINK,
                libc::NETLINK_EXT_ACK,
                (&raw const value).cast(),
                size_of_val(&value) as libc::socklen_t,
            )
        };
        nix::errno::Errno::result(result).map(drop)
    }
}

/// Ends this process when whoever reads its output has seen enough, as other commands of a pipeline do. Sockets are not concerned:
/// the standard library sends with `MSG_NOSIGNAL`.
pub fn end_with_closed_pipe() {
    // SAFETY: the default action is no handler, so nothing of this process runs in one.
    let _never_fails = unsafe {
        nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)
    };
}

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
