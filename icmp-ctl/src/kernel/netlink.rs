//! Why a driver refuses a program: netlink messages as bytes, because the way aya attaches carries no text of the kernel's.
//!
//! Owns one request and its answer. Links and addresses are read by `host/netlink.rs`.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::{Result, ensure};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};

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
