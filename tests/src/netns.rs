//! Owns network namespaces as guards, and the pair of them that nearly every test stands on.
//!
//! A namespace has a name under `/run/netns`, unique to the process, and is deleted when its guard goes, also while
//! panicking. What a killed test left behind is deleted by the next one. Programs are run inside with
//! `nsenter --net`, never with `ip netns exec` or `ip -n`: these mount a fresh `/sys`, which hides the pins of bpffs.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::process::{self, Finished, Watch};
use crate::xdp::PassLink;

const FOLDER: &str = "/run/netns";
const PREFIX: &str = "icmpt";
/// Seconds that `ping` waits for what has to come: it hangs no longer than any program may.
const PATIENCE: &str = "50";

/// A network namespace that lives as long as this value; its loopback interface is up.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one; `role` is for whoever reads `ip netns list`.
    ///
    /// # Panics
    /// If the kernel or `ip` refuses, as everything here: a test without its world can't go on.
    #[must_use]
    pub fn new(role: &str) -> Self {
        static STALE: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        STALE.call_once(delete_stale);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{role}", std::process::id());
        let _nothing = process::run(Command::new("ip").args(["netns", "add", &name])).expect_success();
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, for `ip … netns NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// A command that will run inside.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs a program inside, to its end.
    #[must_use]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Finished {
        process::run(self.command(program).args(arguments))
    }

    /// Runs `ping` inside, which has to be answered, however long that takes, and returns what it printed. After a first reply it waits for another one for
    /// two round trips or its interval only: who needs all of several uses [`Self::ping_each`].
    ///
    /// # Panics
    /// If nothing answers.
    pub fn ping(&self, arguments: &[&str]) -> String {
        self.run("ping", &[&["-W", PATIENCE], arguments].concat()).expect_success()
    }

    /// Runs `ping` inside, of which each of so many requests has to be answered, however long that takes, and returns what it printed. They are sent at
    /// once, so that the interval after the last one is how long all of them are waited for.
    ///
    /// # Panics
    /// If a request is not answered.
    pub fn ping_each(&self, count: u32, arguments: &[&str]) -> String {
        let count = count.to_string();
        let said = self.ping(&[&["-c", &count, "-l", &count, "-i", PATIENCE], arguments].concat());
        assert!(said.contains(" 0% packet loss"), "{said}");
        said
    }

    /// Starts a program inside that runs beside the test.
    #[must_use]
    pub fn watch(&self, program: &str, arguments: &[&str]) -> Watch {
        Watch::start(self.command(program).args(arguments))
    }

    /// Runs `ip` inside with arguments written as a line, and returns what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, arguments: &str) -> String {
        self.run("ip", &arguments.split_whitespace().collect::<Vec<_>>()).expect_success()
    }

    /// Sets a kernel parameter, named as under `/proc/sys`.
    ///
    /// # Panics
    /// If there is no such parameter or it refuses the value.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = Path::new("/proc/sys").join(name);
        // The file is that of the namespace of the thread that opens it.
        self.enter(|| std::fs::write(&path, value))
            .unwrap_or_else(|e| panic!("{} = {value}: {e}", path.display()));
    }

    /// Waits until `condition` holds, which is asked now and again whenever an address or a route of the namespace changes.
    ///
    /// # Panics
    /// With `what`, if it does not hold within `limit`.
    pub fn until(&self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
        // Opened before the first question, so that no change falls in between.
        let changes = self.enter(Changes::new);
        let deadline = Instant::now() + limit;
        while !condition() {
            assert!(changes.wait(deadline), "after {limit:?} still not: {what}");
        }
    }

    /// A counter of `/proc/net/snmp` (as in `Icmp`, `InEchos`) or `/proc/net/snmp6` (as in `Icmp6`, `InEchos`).
    ///
    /// # Panics
    /// If there is none of this name.
    #[must_use]
    pub fn snmp(&self, protocol: &str, counter: &str) -> u64 {
        let file = if protocol.ends_with('6') { "snmp6" } else { "snmp" };
        let text = self
            .enter(|| std::fs::read_to_string(Path::new("/proc/thread-self/net").join(file)))
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        let value = if file == "snmp6" {
            let name = format!("{protocol}{counter}");
            text.lines().find_map(|line| line.strip_prefix(name.as_str())?.trim().parse().ok())
        } else {
            // Two lines to a protocol, names above values.
            let mut lines = text.lines().filter(|line| line.split(':').next() == Some(protocol));
            lines.next().zip(lines.next()).and_then(|(names, values)| {
                let column = names.split_whitespace().position(|name| name == counter)?;
                values.split_whitespace().nth(column)?.parse().ok()
            })
        };
        value.unwrap_or_else(|| panic!("no counter {protocol} {counter} in {file}"))
    }

    /// Runs `body` on a thread of its own inside the namespace; sockets it opens stay there.
    ///
    /// # Panics
    /// If `body` does.
    pub fn enter<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        let namespace = File::open(self.path()).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
                body()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// A netlink socket that hears of addresses and routes that come, change and go; what it is told is not read, only that it
/// was told.
struct Changes {
    socket: OwnedFd,
}

impl Changes {
    fn new() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
            .expect("a netlink socket needs no privilege");
        let groups = libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_ROUTE;
        let groups = u32::try_from(groups).expect("four flags");
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups)).expect("these groups are open to everyone");
        Self { socket }
    }

    /// False if nothing changed before the deadline.
    fn wait(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut waiting, timeout).expect("polling one socket") == 0 {
            return false;
        }
        let mut buffer = [0; 1 << 15];
        // Until there is nothing more, or more than it could keep: either way something changed.
        while recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok() {}
        true
    }
}

/// No panic here: it may run while one is under way.
fn delete(name: &str) {
    let status = Command::new("ip").args(["netns", "delete", name]).status();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        eprintln!("the namespace {name} could not be deleted: {status:?}");
    }
}

/// Deletes the namespaces of test processes that are gone.
fn delete_stale() {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let mut parts = name.split('-');
        if parts.next() != Some(PREFIX) {
            continue;
        }
        let alive = parts.next().is_none_or(|process| Path::new("/proc").join(process).exists());
        if !alive {
            delete(&name);
        }
    }
}

/// The interface under test.
pub const HOST_IF: &str = "host0";
/// The other end of its wire.
pub const PEER_IF: &str = "peer0";
/// The MAC address of [`HOST_IF`].
pub const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Another one that the host takes frames in by on [`HOST_IF`], where a test gives it one.
pub const SECOND_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
/// The MAC address of [`PEER_IF`].
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// IPv4 addresses of the host; the first is the one to talk to.
pub const HOST_IPV4: [&str; 3] = ["192.0.2.2/24", "192.0.2.77/24", "198.51.100.2/32"];
/// IPv6 addresses of the host; the last is the one that follows from [`HOST_MAC`].
pub const HOST_IPV6: [&str; 3] = ["2001:db8::2/64", "2001:db8:0:1::2/128", "fe80::ff:fe00:2/64"];
/// Addresses that the host has on another interface, where a test gives it one.
pub const ELSEWHERE: [&str; 2] = ["203.0.113.77/32", "2001:db8:77::77/128"];
/// The anycast address that the host has on [`HOST_IF`] where it is a router.
pub const ANYCAST: &str = "2001:db8::";
/// A broadcast and an anycast address of another interface, likewise.
pub const GROUPS_ELSEWHERE: [&str; 2] = ["203.0.113.127", "2001:db8:e::"];
/// IPv4 address of the peer, which is the host's gateway.
pub const PEER_IPV4: &str = "192.0.2.1/24";
/// IPv6 addresses of the peer.
pub const PEER_IPV6: [&str; 2] = ["2001:db8::1/64", "fe80::ff:fe00:1/64"];

/// A host and its peer, joined by a wire, with the addresses of the vectors. The peer's end has the pass program.
#[derive(Debug)]
pub struct Pair {
    /// Where `icmp-ctl attach` belongs, to [`HOST_IF`].
    pub host: Namespace,
    /// Where the clients are, behind [`PEER_IF`].
    pub peer: Namespace,
    _pass: Option<PassLink>,
}

impl Pair {
    /// Makes the pair with interfaces of this MTU. No duplicate address detection, no router solicitations: nothing is
    /// on the wire that a test has not sent.
    #[must_use]
    pub fn new(mtu: u32) -> Self {
        let mut pair = Self::without_program(mtu);
        pair._pass = Some(pair.peer.enter(|| PassLink::attach(PEER_IF)));
        pair
    }

    /// The same without a program on the peer's end.
    #[must_use]
    pub fn without_program(mtu: u32) -> Self {
        let host = Namespace::new("host");
        let peer = Namespace::new("peer");
        for namespace in [&host, &peer] {
            quiet(namespace);
        }
        join(&host, HOST_IF, HOST_MAC, &peer, PEER_IF, PEER_MAC, mtu);
        for address in HOST_IPV4 {
            host.ip(&format!("address add {address} dev {HOST_IF}"));
        }
        for address in HOST_IPV6 {
            host.ip(&format!("address add {address} dev {HOST_IF} nodad"));
        }
        peer.ip(&format!("address add {PEER_IPV4} dev {PEER_IF}"));
        for address in PEER_IPV6 {
            peer.ip(&format!("address add {address} dev {PEER_IF} nodad"));
        }
        host.ip("route add default via 192.0.2.1");
        host.ip("route add default via 2001:db8::1");
        peer.ip("route add default via 192.0.2.2");
        peer.ip("route add default via 2001:db8::2");
        Self { host, peer, _pass: None }
    }
}

/// Switches off what the kernel says by itself when an interface with IPv6 comes up, and the addresses it makes up.
pub fn quiet(namespace: &Namespace) {
    const NO_GENERATED_ADDRESS: &str = "1";
    const A_DAY_IN_MS: &str = "86400000";
    namespace.sysctl("net/ipv6/conf/default/addr_gen_mode", NO_GENERATED_ADDRESS);
    namespace.sysctl("net/ipv6/conf/default/accept_dad", "0");
    namespace.sysctl("net/ipv6/conf/default/accept_ra", "0");
    namespace.sysctl("net/ipv6/conf/default/router_solicitations", "0");
    // A report of joined groups is sent at once and again within this time, which is into the counters of a test.
    namespace.sysctl("net/ipv6/conf/default/mldv1_unsolicited_report_interval", A_DAY_IN_MS);
    namespace.sysctl("net/ipv6/conf/default/mldv2_unsolicited_report_interval", A_DAY_IN_MS);
}

/// Joins two namespaces by a veth pair and brings both ends up.
pub fn join(a: &Namespace, a_if: &str, a_mac: [u8; 6], b: &Namespace, b_if: &str, b_mac: [u8; 6], mtu: u32) {
    let (a_mac, b_mac) = (mac(a_mac), mac(b_mac));
    let b_name = b.name();
    a.ip(&format!(
        "link add {a_if} address {a_mac} mtu {mtu} type veth peer name {b_if} address {b_mac} mtu {mtu} netns {b_name}"
    ));
    a.ip(&format!("link set {a_if} up"));
    b.ip(&format!("link set {b_if} up"));
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|b| format!("{b:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_gone_with_its_guard_also_after_a_panic() {
        if !crate::can_run(&["ip", "nsenter"]) {
            return;
        }
        let mut path = PathBuf::new();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let namespace = Namespace::new("panic");
            path = namespace.path();
            assert!(path.exists());
            panic!("on purpose");
        }));
        assert!(result.is_err());
        assert!(!path.exists());
    }

    #[test]
    fn what_runs_inside_sees_only_what_is_inside() {
        if !crate::can_run(&["ip", "nsenter"]) {
            return;
        }
        let namespace = Namespace::new("alone");
        let interfaces =
            namespace.enter(|| nix::net::if_::if_nameindex().expect("interfaces").iter().count());
        assert_eq!(interfaces, 1);
        assert_eq!(namespace.snmp("Icmp", "InEchos"), 0);
        assert_eq!(namespace.snmp("Icmp6", "InEchos"), 0);
    }

    #[test]
    fn a_change_of_addresses_is_awaited_as_an_event() {
        if !crate::can_run(&["ip", "nsenter"]) {
            return;
        }
        let namespace = Namespace::new("events");
        let has_it = || namespace.ip("-6 address show dev lo").contains("2001:db8::7");
        std::thread::scope(|scope| {
            scope.spawn(|| namespace.ip("address add 2001:db8::7/128 dev lo"));
            namespace.until("the address is there", process::LIMIT, has_it);
        });
    }

    #[test]
    fn the_kernel_of_the_pair_answers_by_itself() {
        if !crate::can_run(&["ip", "nsenter", "ping"]) {
            return;
        }
        let pair = Pair::new(1500);
        for target in ["192.0.2.2", "198.51.100.2", "2001:db8::2", "2001:db8:0:1::2", "fe80::ff:fe00:2%peer0"]
        {
            let _text = pair.peer.ping(&["-c1", target]);
        }
        assert_eq!((pair.host.snmp("Icmp", "InEchos"), pair.host.snmp("Icmp6", "InEchos")), (2, 3));
    }
}
