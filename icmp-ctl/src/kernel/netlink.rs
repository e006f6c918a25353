//! Netlink as bytes: why a driver refuses a program, because aya's way to attach carries no text of the kernel; and the notice that something
//! has changed.
//!
//! Owns these sockets and their messages. `host/netlink.rs` reads links and addresses.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket,
};
use nix::unistd::gettid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Netlink numbers used here (include/uapi/linux/netlink.h, if_link.h).
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTCLASS: u16 = 40;
const RTM_GETTCLASS: u16 = 42;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const RTM_NEWVLAN: u16 = 112;
const RTM_GETVLAN: u16 = 114;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_REQUEST_DUMP: u16 = 1 | 0x300;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_DUMP_INTR: u16 = 0x10;
const IFLA_TARGET_NETNSID: u16 = 46;
/// Attributes of numbers of network namespaces (include/uapi/linux/net_namespace.h).
const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;
const IFLA_XDP_NESTED: u16 = 43 | 0x8000;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_EXPECTED_FD: u16 = 8;
const RTA_TABLE: u16 = 15;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Do not replace a program that is there.
pub(crate) const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
/// Replace the program that is named, and no other (Linux 5.7).
const XDP_FLAGS_REPLACE: u32 = 1 << 4;

/// Number of the group of messages about the VLANs of bridges and their ports (include/uapi/linux/rtnetlink.h), of which those about the state
/// of a VLAN come in no other one.
const RTNLGRP_BRVLAN: i32 = 33;
/// Numbers of the groups of messages about multicast groups, which there are since Linux 6.15.
const RTNLGRP_IPV4_MCADDR: i32 = 37;
/// See [`RTNLGRP_IPV4_MCADDR`].
const RTNLGRP_IPV6_MCADDR: i32 = 38;
/// Bytes of struct nlmsghdr, and of struct ifaddrmsg.
const HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
/// Length of struct rtgenmsg, with what makes it a multiple of four.
const NAMESPACE_HEADER: usize = 4;
/// Length of struct rtmsg, and where the type of a route is in it.
const ROUTE_HEADER: usize = 12;
const ROUTE_TYPE: usize = 7;
/// Length of struct fib_rule_hdr.
const RULE_HEADER: usize = 12;
/// Length of struct tcmsg, and where the index of the interface, the number of what it is about and that of what is above that are in it.
pub(crate) const TRAFFIC_HEADER: usize = 20;
pub(crate) const TRAFFIC_IFINDEX: usize = 4;
pub(crate) const TRAFFIC_HANDLE: usize = 8;
const TRAFFIC_PARENT: usize = 12;
/// Length of struct br_vlan_msg.
pub(crate) const VLAN_HEADER: usize = 8;
/// Bytes of the longest answer: no dump has more at a time.
const LONGEST: usize = 1 << 16;
/// How often is read what changes while it is read: one change meanwhile is common on a busy host.
const DUMPS: u32 = 100;
/// Messages taken in one go, so that a flood of them ends somewhere.
const AT_ONCE: u32 = 100_000;

/// Tells that links, addresses, groups or the VLANs of bridges have changed.
#[derive(Debug)]
pub struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Listens from now on; on an event loop.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn listen() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listen = || -> Result<Self> {
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups as u32))?;
            for group in [RTNLGRP_BRVLAN, RTNLGRP_IPV4_MCADDR, RTNLGRP_IPV6_MCADDR] {
                // An older kernel does not tell of multicast groups; they are then read again now and then.
                let _ = setsockopt(&socket, NetlinkOption(libc::NETLINK_ADD_MEMBERSHIP), &group);
            }
            // SAFETY: the socket is open, and is closed by its owner alone, which is the registration from now on.
            let socket = unsafe { AsyncFd::register(socket) };
            Ok(Self(socket?))
        };
        listen().context("listening for address changes over rtnetlink")
    }

    /// Waits for a change, and takes all there are; true where there were more than the kernel could keep.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub async fn next(&mut self) -> Result<bool> {
        let mut overrun = false;
        // An overrun while the last message is being read leaves an error without a message, and until it has been read the kernel keeps
        // no further one (netlink_overrun() in net/netlink/af_netlink.c).
        let mut ready = self
            .0
            .ready(Interest::READABLE | Interest::ERROR)
            .await
            .context("waiting for address changes")?;
        for _ in 0..AT_ONCE {
            // What does not fit is cut off, and nobody misses it.
            match recv(self.0.as_raw_fd(), &mut [0; 16], MsgFlags::empty()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => overrun = true,
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(error) => return Err(error).context("reading address changes"),
            }
        }
        Ok(overrun)
    }
}

/// Why the kernel will not have a program on an interface, in its own words, which only the netlink way of attaching carries.
///
/// Asks by trying; `None` where the kernel says nothing, or takes the program after all (which is undone).
pub(crate) fn refusal(ifindex: u32, program: BorrowedFd<'_>, mode_flags: u32) -> Option<String> {
    let flags = mode_flags | XDP_FLAGS_UPDATE_IF_NOEXIST;
    match set_xdp(ifindex, program.as_raw_fd(), flags, None).ok()? {
        Answer::Refused(_, text) => text,
        Answer::Done => {
            let _ = set_xdp(ifindex, -1, mode_flags, None);
            None
        }
    }
}

/// A number of the caller's network namespace that no other one has as long as the host runs (`SO_NETNS_COOKIE`, Linux 5.14).
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn namespace_cookie() -> Result<u64> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    let (mut cookie, mut size) = (0_u64, size_of::<u64>() as libc::socklen_t);
    let (value, length) = ((&raw mut cookie).cast(), &raw mut size);
    // SAFETY: the kernel writes no more than the eight bytes that it is told of.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, value, length)
    };
    Errno::result(done).context("asking for the network namespace's cookie")?;
    Ok(cookie)
}

/// What the kernel says of one interface, a message of RTM_NEWLINK; `None` where there is none of this index. It is of another network namespace
/// where this one's number for that is given.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn link(ifindex: u32, namespace: Option<i32>) -> Result<Option<Vec<u8>>> {
    let ask = || -> Result<Vec<u8>> {
        let mut body = interface(ifindex);
        body.extend(namespace.into_iter().flat_map(|id| attribute(IFLA_TARGET_NETNSID, &id.to_ne_bytes())));
        let socket = asked(&message(RTM_GETLINK, NLM_F_REQUEST, &body))?;
        let mut reply = vec![0; LONGEST];
        let length = received(&socket, &mut reply)?;
        ensure!(length >= 16, "an answer that is none");
        reply.truncate(length);
        Ok(reply)
    };
    let reply = ask().with_context(|| format!("reading the interface of index {ifindex}"))?;
    if word16(&reply, 4) != NLMSG_ERROR {
        return Ok(Some(reply));
    }
    ensure!(reply.len() >= 20, "an answer that is none");
    match Errno::from_raw(-(word32(&reply, 16) as i32)) {
        Errno::ENODEV => Ok(None),
        errno => Err(errno).with_context(|| format!("reading the interface of index {ifindex}")),
    }
}

/// What the kernel says of all interfaces of another network namespace, by this one's number for it, each as the body of a message of RTM_NEWLINK.
///
/// # Errors
/// The kernel does not tell, or who asks may not administer that namespace.
pub(crate) fn links_of(namespace: i32) -> Result<Vec<Vec<u8>>> {
    let mut body = interface(0);
    body.extend(attribute(IFLA_TARGET_NETNSID, &namespace.to_ne_bytes()));
    dump(RTM_GETLINK, RTM_NEWLINK, &body).context("reading the interfaces of another network namespace")
}

/// The numbers that this network namespace has for others, of which it has one where an interface was moved there.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn namespaces() -> Result<Vec<i32>> {
    let all = dump(RTM_GETNSID, RTM_NEWNSID, &[0; NAMESPACE_HEADER]);
    let all = all.context("reading the numbers of network namespaces")?;
    Ok(all.iter().filter_map(|body| number_in(body)).collect())
}

/// The number that this network namespace has for itself, which it gets when another one is asked for what is above interfaces of this one.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn own_number() -> Result<Option<i32>> {
    let mut body = vec![0; NAMESPACE_HEADER];
    body.extend(attribute(NETNSA_PID, &gettid().as_raw().to_ne_bytes()));
    let socket = asked(&message(RTM_GETNSID, NLM_F_REQUEST, &body))?;
    let mut reply = vec![0; LONGEST];
    let length = received(&socket, &mut reply)?;
    ensure!(length >= HEADER && word16(&reply, 4) == RTM_NEWNSID, "an answer that is none");
    Ok(number_in(&reply[HEADER..length]))
}

fn number_in(body: &[u8]) -> Option<i32> {
    let mut numbers = attributes(body.get(NAMESPACE_HEADER..)?).filter(|(kind, _)| *kind == NETNSA_NSID);
    numbers.next()?.1.try_into().ok().map(i32::from_ne_bytes)
}

/// All addresses that the kernel lists, each as the body of a message of RTM_NEWADDR.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn addresses() -> Result<Vec<Vec<u8>>> {
    dump(RTM_GETADDR, RTM_NEWADDR, &[0; ADDRESS_HEADER]).context("reading the addresses")
}

/// The routes of a table by which the kernel takes packets in or refuses them, each as the body of a message of RTM_NEWROUTE; none where there is no such
/// table. Of the local table these are all routes. Of others the kernel itself leaves out the rest, of which a router has a million.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn local_routes(table: u32) -> Result<Vec<Vec<u8>>> {
    let kinds: &[u8] = if table == u32::from(libc::RT_TABLE_LOCAL) {
        &[libc::RTN_UNSPEC]
    } else {
        &[
            libc::RTN_LOCAL,
            libc::RTN_BROADCAST,
            libc::RTN_ANYCAST,
            libc::RTN_BLACKHOLE,
            libc::RTN_UNREACHABLE,
            libc::RTN_PROHIBIT,
            libc::RTN_THROW,
        ]
    };
    let mut routes = Vec::new();
    let families = [libc::AF_INET, libc::AF_INET6];
    for (family, kind) in families.iter().flat_map(|family| kinds.iter().map(move |kind| (*family, *kind))) {
        let mut body = vec![0; ROUTE_HEADER];
        body[0] = family as u8;
        body[ROUTE_TYPE] = kind;
        body.extend(attribute(RTA_TABLE, &table.to_ne_bytes()));
        match dump(RTM_GETROUTE, RTM_NEWROUTE, &body) {
            Ok(of_family) => routes.extend(of_family),
            Err(error) if error.downcast_ref() == Some(&Errno::ENOENT) => {}
            Err(error) => return Err(error).context("reading the local routes"),
        }
    }
    Ok(routes)
}

/// The rules of routing of a family in their order, each as the body of a message of RTM_NEWRULE; none where the kernel has no such rules.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn routing_rules(family: i32) -> Result<Vec<Vec<u8>>> {
    let mut body = [0; RULE_HEADER];
    body[0] = family as u8;
    match dump(RTM_GETRULE, RTM_NEWRULE, &body) {
        Err(error) if matches!(error.downcast_ref(), Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        rules => rules.context("reading the rules of routing"),
    }
}

/// All VLANs of bridges and of their ports, each as the body of a message of RTM_NEWVLAN (Linux 5.6).
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn bridge_vlans() -> Result<Vec<Vec<u8>>> {
    let mut body = [0; VLAN_HEADER];
    body[0] = libc::AF_BRIDGE as u8;
    dump(RTM_GETVLAN, RTM_NEWVLAN, &body).context("reading the VLANs of bridges")
}

/// The queueing disciplines of all interfaces, each as the body of a message of RTM_NEWQDISC.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn qdiscs() -> Result<Vec<Vec<u8>>> {
    dump(RTM_GETQDISC, RTM_NEWQDISC, &[0; TRAFFIC_HEADER]).context("reading the queueing disciplines")
}

/// The classes of the queueing disciplines of an interface, each as the body of a message of RTM_NEWTCLASS.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn classes(ifindex: u32) -> Result<Vec<Vec<u8>>> {
    let body = of_traffic(ifindex, 0);
    dump(RTM_GETTCLASS, RTM_NEWTCLASS, &body).context("reading the classes of traffic control")
}

/// The filters of traffic control of an interface that belong to a queueing discipline, or to a part of one, each as the body of a message of
/// RTM_NEWTFILTER; those of all chains. With 0 they belong to what queues all that goes out.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn filters(ifindex: u32, parent: u32) -> Result<Vec<Vec<u8>>> {
    let body = of_traffic(ifindex, parent);
    dump(RTM_GETTFILTER, RTM_NEWTFILTER, &body).context("reading the filters of traffic control")
}

/// A question about traffic control.
fn of_traffic(ifindex: u32, parent: u32) -> [u8; TRAFFIC_HEADER] {
    let mut body = [0; TRAFFIC_HEADER];
    body[TRAFFIC_IFINDEX..][..4].copy_from_slice(&ifindex.to_ne_bytes());
    body[TRAFFIC_PARENT..][..4].copy_from_slice(&parent.to_ne_bytes());
    body
}

/// Everything that the kernel answers a message with, which it does with messages of this kind: their bodies. It is asked again where that has changed
/// while it was told, of which some may be missing then.
fn dump(question: u16, answer: u16, body: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut reply = vec![0; LONGEST];
    for _ in 0..DUMPS {
        let socket = asked(&message(question, NLM_F_REQUEST_DUMP, body))?;
        let mut dump = Dump::default();
        while !dump.is_done {
            let length = received(&socket, &mut reply)?;
            ensure!(length > 0, "an answer that is none");
            dump.take(&reply[..length], answer)?;
        }
        if !dump.has_changed {
            return Ok(dump.bodies);
        }
    }
    bail!("it has changed each of the {DUMPS} times that it was read; try again")
}

/// An answer of many messages, as far as it was read.
#[derive(Default)]
struct Dump {
    bodies: Vec<Vec<u8>>,
    is_done: bool,
    has_changed: bool,
}

impl Dump {
    fn take(&mut self, mut rest: &[u8], answer: u16) -> Result<()> {
        while !rest.is_empty() && !self.is_done {
            ensure!(rest.len() >= HEADER, "an answer that is none");
            let (length, kind) = (word32(rest, 0) as usize, word16(rest, 4));
            let body = rest.get(HEADER..length).context("an answer that is none")?;
            self.has_changed |= word16(rest, 6) & NLM_F_DUMP_INTR != 0;
            match kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    ensure!(body.len() >= 4, "an answer that is none");
                    let error = word32(body, 0) as i32;
                    ensure!(error == 0, Errno::from_raw(-error));
                    self.is_done = true;
                }
                kind if kind == answer => self.bodies.push(body.to_vec()),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Reads what a socket has next, also where a signal comes meanwhile.
pub(super) fn received(socket: &OwnedFd, reply: &mut [u8]) -> nix::Result<usize> {
    loop {
        match recv(socket.as_raw_fd(), reply, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            received => return received,
        }
    }
}

/// A socket over which the kernel was asked something, of which it leaves out nothing that it could not read (`NETLINK_GET_STRICT_CHK`, Linux 4.20).
fn asked(message: &[u8]) -> Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, NetlinkOption(libc::NETLINK_GET_STRICT_CHK), &1)?;
    send(socket.as_raw_fd(), message, MsgFlags::empty())?;
    Ok(socket)
}

/// Puts one program, or none, in the place of another, which was attached by netlink, from one instant to the next, if the other is still there.
///
/// # Errors
/// It is not (`EEXIST`), or the driver refuses; with the kernel's own words where it has some.
pub(crate) fn replace(
    ifindex: u32,
    mode_flags: u32,
    old: BorrowedFd<'_>,
    new: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let new = new.map_or(-1, |new| new.as_raw_fd());
    match set_xdp(ifindex, new, mode_flags | XDP_FLAGS_REPLACE, Some(old.as_raw_fd()))? {
        Answer::Done => Ok(()),
        Answer::Refused(errno, None) => Err(errno.into()),
        Answer::Refused(errno, Some(text)) => Err(anyhow::Error::new(errno).context(text)),
    }
}

enum Answer {
    Done,
    Refused(Errno, Option<String>),
}

/// `expected` is the program that is there, where only that one is to be replaced.
fn set_xdp(ifindex: u32, fd: i32, flags: u32, expected: Option<i32>) -> Result<Answer> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, NetlinkOption(libc::NETLINK_EXT_ACK), &1)?;
    let mut nested = attribute(IFLA_XDP_FD, &fd.to_ne_bytes());
    nested.extend(attribute(IFLA_XDP_FLAGS, &flags.to_ne_bytes()));
    if let Some(expected) = expected {
        nested.extend(attribute(IFLA_XDP_EXPECTED_FD, &expected.to_ne_bytes()));
    }
    let mut body = interface(ifindex);
    body.extend(attribute(IFLA_XDP_NESTED, &nested));
    send(socket.as_raw_fd(), &message(RTM_SETLINK, NLM_F_REQUEST_ACK, &body), MsgFlags::empty())?;
    let mut reply = [0; 4096];
    let length = received(&socket, &mut reply)?;
    let reply = &reply[..length];
    ensure!(length >= 36 && word16(reply, 4) == NLMSG_ERROR, "an answer that is none");
    let errno = match word32(reply, 16) as i32 {
        0 => return Ok(Answer::Done),
        negative => Errno::from_raw(-negative),
    };
    // Behind the error comes the request, whole or only its header, then the attributes.
    let capped = word16(reply, 6) & NLM_F_CAPPED != 0;
    let at = 20 + if capped { 16 } else { word32(reply, 20) as usize };
    let text = attributes(reply.get(at..).unwrap_or_default()).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG);
    let text = text.map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
    Ok(Answer::Refused(errno, text))
}

/// struct ifinfomsg of one interface: family, pad, type, index, flags, change.
fn interface(ifindex: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(ifindex.to_ne_bytes());
    body.extend([0; 8]);
    body
}

/// A message: struct nlmsghdr, which is length, type, flags, sequence and port, before what it carries.
pub(super) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend((body.len() as u32 + 16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Attributes, by their kind.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(word16(bytes.get(..4)?, 0));
        let (kind, value) = (word16(bytes, 2), bytes.get(4..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((value.len() as u16 + 4).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(super) fn word16(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// An option of netlink sockets, by its number.
#[derive(Clone)]
struct NetlinkOption(i32);

impl nix::sys::socket::SetSockOpt for NetlinkOption {
    type Val = i32;

    fn set<F: std::os::fd::AsFd>(&self, fd: &F, value: &i32) -> nix::Result<()> {
        // SAFETY: these options take an int, and are given the address and size of one.
        let result = unsafe {
            libc::setsockopt(
                fd.as_fd().as_raw_fd(),
                libc::SOL_NETLINK,
                self.0,
                std::ptr::from_ref(value).cast(),
                size_of_val(value) as libc::socklen_t,
            )
        };
        Errno::result(result).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::host::netlink::event_loop;

    #[test]
    fn an_answer_that_has_changed_while_it_was_told_is_known_as_that_by_any_of_its_messages() {
        let answer = |flags: [u16; 2]| {
            let address = message(RTM_NEWADDR, flags[0], &[7; 8]);
            let done = message(NLMSG_DONE, flags[1], &[0; 4]);
            let mut dump = Dump::default();
            dump.take(&[address, message(RTM_NEWVLAN, 0, &[])].concat(), RTM_NEWADDR).expect("an answer");
            assert!(!dump.is_done);
            dump.take(&done, RTM_NEWADDR).expect("its end");
            assert!(dump.is_done && dump.bodies == [[7; 8]]);
            dump.has_changed
        };
        assert!(!answer([2, 2]));
        assert!(answer([2 | NLM_F_DUMP_INTR, 2]));
        assert!(answer([2, 2 | NLM_F_DUMP_INTR]));
    }

    #[test]
    fn an_error_that_no_message_comes_with_is_read() {
        let run = async {
            // A socket of UDP has one of these when nobody listens at the other end.
            let nobody = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.set_nonblocking(true).expect("it is ours");
            socket.connect(nobody.expect("an address")).expect("UDP asks nobody");
            let _refused = socket.send(&[0]).expect("sent");
            // SAFETY: the socket is open, and is closed by its owner alone, which is the registration from now on.
            let registered = unsafe { AsyncFd::register(OwnedFd::from(socket)) };
            let mut changes = Changes(registered.expect("it can be waited for"));
            tokio::time::timeout(Duration::from_secs(10), changes.next()).await
        };
        let read = event_loop().expect("an event loop").block_on(run).expect("it is noticed");
        assert!(read.is_err(), "{read:?}");
    }
}
