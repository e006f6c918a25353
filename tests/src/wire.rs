//! Owns packet sockets: sending frames as they are, and seeing what an interface received and sent.
//!
//! A packet socket sees a received frame after XDP, so what it sees was passed; it sees a frame that the stack sends, but
//! not one sent by `XDP_TX`. The kernel takes the outermost VLAN tag out of the frame before a packet socket gets it;
//! here it is put back, so that bytes can be compared.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A frame that a packet socket saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// All of it, with the tag.
    pub frame: Vec<u8>,
    /// True if this side's own stack sent it.
    pub outgoing: bool,
}

/// include/uapi/linux/if_packet.h
const PACKET_IGNORE_OUTGOING: i32 = 23;

/// A packet socket on one interface.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
}

impl Tap {
    /// Opens it on `interface` of the calling thread's namespace; it may be used from any thread afterwards.
    ///
    /// # Panics
    /// If there is no such interface, or without the privilege.
    #[must_use]
    pub fn open(interface: &str) -> Self {
        Self::try_open(interface).unwrap_or_else(|e| panic!("packet socket on {interface}: {e}"))
    }

    /// As [`Tap::open`], but blind to what this side sends.
    ///
    /// # Panics
    /// As [`Tap::open`].
    #[must_use]
    pub fn open_for_incoming(interface: &str) -> Self {
        let tap = Self::open(interface);
        set_option(&tap.socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            .unwrap_or_else(|e| panic!("packet socket on {interface}: {e}"));
        tap
    }

    fn try_open(interface: &str) -> io::Result<Self> {
        let all = u16::try_from(libc::ETH_P_ALL).expect("sixteen bits").to_be();
        let ifindex = nix::net::if_::if_nametoindex(interface)?;
        // No protocol until it is bound, or frames of other interfaces come first.
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        check(fd)?;
        // SAFETY: the descriptor is fresh and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        // SAFETY: all-zero bytes are a valid value of this struct of integers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("sixteen bits");
        address.sll_protocol = all;
        address.sll_ifindex = i32::try_from(ifindex).expect("an interface index");
        // SAFETY: the pointer is to a whole sockaddr_ll, whose length is given.
        let result = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of::<libc::sockaddr_ll>())
        };
        check(result)?;
        Ok(Self { socket })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// What the kernel says, for instance about a frame too short to have an Ethernet header.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent =
            nix::sys::socket::send(self.socket.as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty())?;
        assert_eq!(sent, frame.len(), "a frame is sent whole or not at all");
        Ok(())
    }

    /// The next frame, or None if none comes before `deadline`.
    ///
    /// # Panics
    /// If the interface goes away.
    #[must_use]
    pub fn receive(&self, deadline: Instant) -> Option<Seen> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, timeout) {
                Ok(0) => return None,
                Ok(_) => return Some(self.receive_now().unwrap_or_else(|e| panic!("packet socket: {e}"))),
                Err(nix::Error::EINTR) => {}
                Err(e) => panic!("packet socket: {e}"),
            }
        }
    }

    /// The first frame that is `wanted`; all others before it are thrown away.
    #[must_use]
    pub fn find(&self, deadline: Instant, mut wanted: impl FnMut(&Seen) -> bool) -> Option<Seen> {
        loop {
            let seen = self.receive(deadline)?;
            if wanted(&seen) {
                return Some(seen);
            }
        }
    }

    fn receive_now(&self) -> io::Result<Seen> {
        let mut buffer = vec![0_u8; 1 << 17];
        let mut control = [0_u64; 16];
        // SAFETY: all-zero bytes are a valid value of this struct of integers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all-zero bytes are a valid value: no buffers at all.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = length_of::<libc::sockaddr_ll>();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: every pointer in `message` is to a local that outlives the call, with its length beside it.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        buffer.truncate(length);
        if let Some((tpid, tci)) = stripped_tag(&message)
            && length >= 12
        {
            let [t0, t1] = tpid.to_be_bytes();
            let [c0, c1] = tci.to_be_bytes();
            buffer.splice(12..12, [t0, t1, c0, c1]);
        }
        Ok(Seen { frame: buffer, outgoing: address.sll_pkttype == libc::PACKET_OUTGOING })
    }
}

/// The tag that the kernel took out of a received frame.
fn stripped_tag(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: the kernel has filled the control buffer that `message` points to and that the caller holds.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: a header that is not null lies whole in the control buffer, which is aligned for it.
        let head = unsafe { &*header };
        if (head.cmsg_level, head.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
            // SAFETY: the header is in the buffer, as above.
            let data = unsafe { libc::CMSG_DATA(header) };
            // SAFETY: the data of this kind is a tpacket_auxdata; nothing is said of its alignment.
            let aux = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
            let valid = libc::TP_STATUS_VLAN_VALID | libc::TP_STATUS_VLAN_TPID_VALID;
            return (aux.tp_status & valid == valid).then_some((aux.tp_vlan_tpid, aux.tp_vlan_tci));
        }
        // SAFETY: both are the buffer's, as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

fn set_option(socket: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer is to an int, whose length is given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length_of::<i32>())
    };
    check(result)
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("a struct of the kernel's is small")
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::netns::{HOST_IF, HOST_MAC, PEER_IF, PEER_MAC, Pair};
    use crate::packet;

    #[test]
    fn a_frame_arrives_as_it_was_sent_with_its_tags() {
        if !crate::can_run(&["ip", "nsenter"]) {
            return;
        }
        let pair = Pair::new(1500);
        let host = pair.host.enter(|| Tap::open(HOST_IF));
        let peer = pair.peer.enter(|| Tap::open(PEER_IF));
        for tags in [&[][..], &[0x8100, 100], &[0x88a8, 0xe005, 0x8100, 7]] {
            let mut frame = [HOST_MAC, PEER_MAC].concat();
            for word in tags {
                frame.extend(u16::to_be_bytes(*word));
            }
            frame.extend(packet::ETHERTYPE_EXPERIMENT.to_be_bytes());
            frame.extend([0x5a; 50]);
            peer.send(&frame).expect("sent");
            let seen = host.find(Instant::now() + crate::process::LIMIT, |s| s.frame == frame);
            assert_eq!(seen, Some(Seen { frame, outgoing: false }));
        }
        assert!(peer.send(&[0; 13]).is_err(), "thirteen bytes are no Ethernet header");
    }
}
