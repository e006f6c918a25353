//! How many CPUs receive frames of a card, and whether each can answer without waiting for another.

use crate::diagnostics::shell_word;
use crate::finding::{Finding, State};
use crate::host::netlink::Link;
use crate::kernel::ethtool::{Channels, driver_name};

const CHECK: &str = "queues";

/// Whether there are enough for the CPUs; nothing of a virtual device, which receives on the CPU of whoever sends to it.
pub(super) fn enough(link: &Link) -> Option<Finding> {
    let name = &link.name;
    if link.kind.is_some() {
        return None;
    }
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
    let is_virtio = driver_name(name).is_ok_and(|driver| driver == "virtio_net");
    let found = match Channels::read(name) {
        Err(_) => Finding::fine(CHECK, "one, its driver has no others"),
        Ok(channels) => judge(name, channels, is_virtio, cpus),
    };
    Some(found.on(name))
}

fn judge(name: &str, channels: Channels, is_virtio: bool, cpus: u32) -> Finding {
    let Channels { receive, combined, most_combined } = channels;
    let set = |number: u32| format!("ethtool -L {} combined {number}", shell_word(name));
    let receiving = receive + combined;
    // virtnet_xdp_set() in drivers/net/virtio_net.c: a queue to transmit for each CPU beside those in use, or all wait for locks.
    if is_virtio && combined + cpus > most_combined {
        let what = format!(
            "{combined} of {most_combined} are in use, and {cpus} CPUs need one more each to answer with"
        );
        let why = "the kernel says \"Too few free TX rings\", and answers wait for locks";
        return match most_combined.checked_sub(cpus).filter(|left| *left > 0) {
            Some(left) => Finding::new(CHECK, State::Slow, what, why).fixed_by(set(left)),
            None => {
                let why =
                    format!("{why}; the virtual machine needs {} queue pairs for {cpus} CPUs", 2 * cpus);
                Finding::new(CHECK, State::Slow, what, why)
            }
        };
    }
    if receiving <= 1 && cpus > 1 && most_combined > 1 && !is_virtio {
        let what = format!("one of {most_combined} receives, and there are {cpus} CPUs");
        return Finding::new(CHECK, State::Slow, what, "one CPU takes all frames")
            .fixed_by(set(most_combined.min(cpus)));
    }
    // Receive-side scaling hashes ICMP by its addresses, as it has no ports.
    Finding::fine(CHECK, format!("{receiving} receive, pings of one source on one of them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_held_against_the_cpus() {
        let channels = |combined, most_combined| Channels { receive: 0, combined, most_combined };
        for (channels, is_virtio, cpus, expected, fix) in [
            (channels(4, 8), false, 4, State::Fine, None),
            (channels(1, 8), false, 4, State::Slow, Some("ethtool -L eth0 combined 4")),
            (channels(1, 1), false, 4, State::Fine, None),
            (channels(1, 8), false, 1, State::Fine, None),
            (Channels { receive: 4, combined: 0, most_combined: 0 }, false, 4, State::Fine, None),
            (channels(4, 8), true, 4, State::Fine, None),
            (channels(8, 8), true, 4, State::Slow, Some("ethtool -L eth0 combined 4")),
            (channels(2, 2), true, 2, State::Slow, None),
        ] {
            let found = judge("eth0", channels, is_virtio, cpus);
            assert_eq!(
                (found.state, found.fix.as_deref()),
                (expected, fix),
                "{channels:?} {is_virtio} {cpus}"
            );
        }
    }
}
