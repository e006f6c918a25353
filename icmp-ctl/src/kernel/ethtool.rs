//! A driver's features, queues, counters and name, over ethtool's ioctl.
//!
//! Owns the numbers of include/uapi/linux/ethtool.h. `host/vlan_stripping.rs` decides what follows from a removed tag, `host/checks` from the
//! rest.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
/// The sets of strings with the names of counters and of features, and the bytes of each string.
const ETH_SS_STATS: u32 = 1;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;

/// Which VLAN tags a driver takes out of frames. Only the outermost tag of a frame ever is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagOffloads {
    /// 802.1Q tags: `rx-vlan-offload`.
    pub customer: bool,
    /// 802.1ad tags: `rx-vlan-stag-hw-parse`.
    pub service: bool,
}

impl TagOffloads {
    /// All tags are in the frame.
    pub const NONE: Self = Self { customer: false, service: false };

    /// The kernel's name of each; ethtool calls the first `rx-vlan-offload`.
    const FEATURES: [&str; 2] = ["rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"];

    /// What a driver does now.
    ///
    /// # Errors
    /// The driver cannot be asked.
    pub fn read(interface: &str) -> Result<Self> {
        let [customer, service] = are_on(interface, Self::FEATURES)?;
        Ok(Self { customer, service })
    }

    /// Has a driver do this from now on, as far as it can: what it does is to be read afterwards.
    ///
    /// # Errors
    /// The driver cannot be asked, or refuses.
    pub fn write(self, interface: &str) -> Result<()> {
        let driver = Driver::open(interface)?;
        // struct ethtool_set_features_block: which bits are meant, and what they shall be.
        let mut blocks = vec![[0_u32; 2]; driver.features()?.len()];
        for (position, on) in driver.positions(Self::FEATURES)?.into_iter().zip([self.customer, self.service])
        {
            let Some(at) = position else { continue };
            let Some([valid, requested]) = blocks.get_mut(at / 32) else { continue };
            *valid |= 1 << (at % 32);
            *requested |= u32::from(on) << (at % 32);
        }
        let mut words = vec![ETHTOOL_SFEATURES, blocks.len() as u32];
        words.extend(blocks.into_iter().flatten());
        driver.ask(&mut words)
    }
}

/// Whether features are on, by the kernel's names of them; those that this kernel does not know are off.
///
/// # Errors
/// The driver cannot be asked.
pub fn are_on<const N: usize>(interface: &str, features: [&str; N]) -> Result<[bool; N]> {
    let driver = Driver::open(interface)?;
    let active = driver.features()?;
    let is_on = |at: usize| active.get(at / 32).is_some_and(|word| word & 1 << (at % 32) != 0);
    Ok(driver.positions(features)?.map(|position| position.is_some_and(is_on)))
}

/// What a driver is called.
///
/// # Errors
/// It cannot be asked.
pub fn driver_name(interface: &str) -> Result<String> {
    // struct ethtool_drvinfo: command, the name in 32 bytes, and 160 bytes more.
    let mut words = [ETHTOOL_GDRVINFO; 49];
    words[1..].fill(0);
    Driver::open(interface)?.ask(&mut words)?;
    let bytes: Vec<u8> = words[1..9].iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned())
}

/// Frames that the program had sent back (`XDP_TX`) and the driver dropped, over all queues; `None` where the driver does not count them.
///
/// # Errors
/// The driver cannot be asked, or has no counters.
pub fn tx_failures(interface: &str) -> Result<Option<u64>> {
    let driver = Driver::open(interface)?;
    let names = driver.strings(ETH_SS_STATS)?;
    // struct ethtool_stats: command, count, then 64 bits for each counter.
    let mut words = vec![ETHTOOL_GSTATS, names.len() as u32];
    words.resize(2 + 2 * names.len(), 0);
    driver.ask(&mut words)?;
    let values = words[2..].chunks_exact(2).map(|half| {
        let ([a, b, c, d], [e, f, g, h]) = (half[0].to_ne_bytes(), half[1].to_ne_bytes());
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    });
    Ok(failures_in(&names.into_iter().zip(values).collect::<Vec<_>>()))
}

/// Drivers name counters as they like: `xdp_tx_errors` of each queue (veth), `rx_xdp_tx_full` and `rx_xdp_tx_err` with and without a queue's
/// number (mlx5), `tx0_xdp_tx_drops` (virtio_net). Where there is one for all queues, those of single queues are in it.
fn failures_in(counters: &[(String, u64)]) -> Option<u64> {
    let failures = counters.iter().filter(|(name, _)| {
        name.contains("xdp_tx") && ["err", "drop", "full"].iter().any(|word| name.contains(word))
    });
    let (single, all): (Vec<_>, Vec<_>) =
        failures.partition(|(name, _)| name.contains(|letter: char| letter.is_ascii_digit()));
    let counted = if all.is_empty() { single } else { all };
    (!counted.is_empty()).then(|| counted.iter().map(|(_, value)| value).sum())
}

/// How many queues an interface has, and may have. Combined ones receive and transmit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Those that receive.
    pub receive: u32,
    /// Those that do both.
    pub combined: u32,
    /// How many of those there may be.
    pub most_combined: u32,
}

impl Channels {
    /// Asks the driver.
    ///
    /// # Errors
    /// It cannot be asked, as many a virtual device.
    pub fn read(interface: &str) -> Result<Self> {
        let mut words = [0; 9];
        words[0] = ETHTOOL_GCHANNELS;
        Driver::open(interface)?.ask(&mut words)?;
        Ok(Self::of(words))
    }

    /// From struct ethtool_channels: command; the most that receive, transmit, do something else, and are combined; then as many as there are
    /// of each.
    fn of([_, _, _, _, most_combined, receive, _, _, combined]: [u32; 9]) -> Self {
        Self { receive, combined, most_combined }
    }
}

/// A driver that is asked about its features.
struct Driver<'a> {
    interface: &'a str,
    socket: OwnedFd,
}

impl<'a> Driver<'a> {
    fn open(interface: &'a str) -> Result<Self> {
        ensure!(interface.len() < libc::IFNAMSIZ, "{interface:?} is too long for an interface's name");
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { interface, socket })
    }

    /// The features that are in force, one bit each.
    fn features(&self) -> Result<Vec<u32>> {
        // More than any kernel has; it says how many it has.
        const BLOCKS: usize = 16;
        let mut words = vec![ETHTOOL_GFEATURES, BLOCKS as u32];
        // struct ethtool_get_features_block: available, requested, active, never changed.
        words.resize(2 + 4 * BLOCKS, 0);
        self.ask(&mut words)?;
        let blocks = (words[1] as usize).min(BLOCKS);
        Ok(words[2..].chunks_exact(4).take(blocks).map(|block| block[2]).collect())
    }

    /// Which bits stand for features; `None` for those that this kernel does not know.
    fn positions<const N: usize>(&self, features: [&str; N]) -> Result<[Option<usize>; N]> {
        let names = self.strings(ETH_SS_FEATURES)?;
        Ok(features.map(|feature| names.iter().position(|name| name == feature)))
    }

    /// The names in a set.
    fn strings(&self, set: u32) -> Result<Vec<String>> {
        // struct ethtool_sset_info: command, reserved, a mask of 64 bits, and a count for each bit of it.
        let mask = (1_u64 << set).to_ne_bytes();
        let half = |i: usize| u32::from_ne_bytes([mask[i], mask[i + 1], mask[i + 2], mask[i + 3]]);
        let mut count = [ETHTOOL_GSSET_INFO, 0, half(0), half(4), 0];
        self.ask(&mut count)?;
        // struct ethtool_gstrings: command, set, count, then the names.
        let mut words = vec![ETHTOOL_GSTRINGS, set, count[4]];
        words.resize(3 + count[4] as usize * ETH_GSTRING_LEN / 4, 0);
        self.ask(&mut words)?;
        let bytes: Vec<u8> = words[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let name = |bytes: &[u8]| {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).into_owned()
        };
        Ok(bytes.chunks_exact(ETH_GSTRING_LEN).map(name).collect())
    }

    /// One question: a command's structure as words, which the kernel writes its answer over.
    fn ask(&self, words: &mut [u32]) -> Result<()> {
        // SAFETY: ifreq is plain data, for which all zeroes is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(self.interface.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the request names an interface and carries the address of a command's structure, both alive during the call; whoever
        // asks has made it as long as the command says that it is.
        let result =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
        nix::errno::Errno::result(result)
            .with_context(|| format!("asking the driver of {}", self.interface))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_to_send_back_are_found_under_the_names_that_drivers_give_them_and_counted_once() {
        let of = |counters: &[(&str, u64)]| {
            failures_in(
                &counters.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<Vec<_>>(),
            )
        };
        let veth =
            [("rx_queue_0_xdp_tx", 90), ("rx_queue_0_xdp_tx_errors", 2), ("rx_queue_1_xdp_tx_errors", 3)];
        let virtio = [("tx0_xdp_tx", 70), ("tx0_xdp_tx_drops", 4)];
        let mlx5 =
            [("rx_xdp_tx_full", 5), ("rx_xdp_tx_err", 1), ("rx0_xdp_tx_full", 5), ("rx0_xdp_tx_err", 1)];
        assert_eq!([of(&veth), of(&virtio), of(&mlx5)], [Some(5), Some(4), Some(6)]);
        assert_eq!(of(&[("rx_xdp_drop", 9), ("rx_xdp_tx", 8)]), None);
    }

    #[test]
    fn queues_are_read_from_where_the_kernel_writes_them() {
        // What virtio_net says of one that has two of four, and of a card with queues for each direction.
        let virtio = Channels::of([ETHTOOL_GCHANNELS, 0, 0, 0, 4, 0, 0, 0, 2]);
        assert_eq!(virtio, Channels { receive: 0, combined: 2, most_combined: 4 });
        let apart = Channels::of([ETHTOOL_GCHANNELS, 8, 8, 1, 0, 6, 7, 1, 0]);
        assert_eq!(apart, Channels { receive: 6, combined: 0, most_combined: 0 });
    }
}
