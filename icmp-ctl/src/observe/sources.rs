//! Who sends most echo requests, as the program has sampled them.
//!
//! Owns making rates of samples. Sampling is `icmp_common::talkers`'.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use icmp_common::abi::Settings;
use icmp_common::talkers::{SAMPLE, Source, Talker, WINDOW_SHIFT};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::kernel::clock::Tick;

/// Requests a second of one source.
pub struct Row {
    /// Address or prefix.
    pub source: String,
    /// Echo requests a second.
    pub requests: f64,
    /// Those of them that are over a limit.
    pub limited: f64,
}

/// Rates over the present window and the one before, over all CPUs, and the seconds these two are.
pub fn rates(talkers: &[Talker], settings: &Settings, tick: Tick, now: u64) -> (Vec<Row>, f64) {
    let shift = settings.epoch_shift + WINDOW_SHIFT;
    let window = (now >> shift) as u32;
    let ticks = (now & ((1 << shift) - 1)) + (1 << shift);
    let seconds = ticks as f64 / tick.per_second;
    let mut sums: BTreeMap<(u32, u64, u64), (u64, u64)> = BTreeMap::new();
    for talker in talkers {
        let (seen, limited) = match window.wrapping_sub(talker.window) {
            0 => (
                u64::from(talker.seen) + u64::from(talker.seen_before),
                u64::from(talker.limited) + u64::from(talker.limited_before),
            ),
            1 => (u64::from(talker.seen), u64::from(talker.limited)),
            _ => continue,
        };
        let Source { ip_version, high, low, .. } = talker.source;
        let sum = sums.entry((ip_version, high, low)).or_default();
        sum.0 += seen;
        sum.1 += limited;
    }
    let rate = |samples: u64| (samples * u64::from(SAMPLE)) as f64 / seconds;
    let rows = sums
        .into_iter()
        .map(|((ip_version, high, low), (seen, limited))| Row {
            source: name(settings, ip_version, high, low),
            requests: rate(seen),
            limited: rate(limited),
        })
        .collect();
    (rows, seconds)
}

/// A source as its level sees it: an address, or a prefix where more than one address shares a bucket.
fn name(settings: &Settings, ip_version: u32, high: u64, low: u64) -> String {
    let mask = &settings.source.mask;
    let net = if ip_version == 4 {
        let prefix = mask.v4.leading_ones() as u8;
        Ipv4Net::new(Ipv4Addr::from(high as u32), prefix).map(IpNet::V4)
    } else {
        let prefix = (mask.v6_high.leading_ones() + mask.v6_low.leading_ones()) as u8;
        Ipv6Net::new(Ipv6Addr::from(u128::from(high) << 64 | u128::from(low)), prefix).map(IpNet::V6)
    };
    match net {
        Ok(net) if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
        Ok(net) => net.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::Config;
    use crate::host::defaults::HostDefaults;
    use crate::policy::compile::compile_policy;

    #[test]
    fn rates_are_those_of_the_present_window_and_the_one_before() {
        let tick = Tick { per_second: 250.0 };
        let config = Config::parse("", "x").expect("the default");
        let settings = compile_policy(&config, tick, HostDefaults { ttl: 64, hop_limit: 64 }, 1)
            .expect("it compiles")
            .settings;
        let source = |low| Source { high: low, low: 0, ip_version: 4, reserved: 0 };
        let talker = |low, window| Talker {
            source: source(low),
            window,
            seen: 100,
            limited: 50,
            seen_before: 28,
            limited_before: 14,
            votes: 1,
        };
        // Windows of 2^14 ticks; now is the start of window 10.
        let talkers = [talker(1, 10), talker(2, 9), talker(3, 8), talker(1, 10)];
        let (rows, seconds) = rates(&talkers, &settings, tick, 10 << 14);
        assert_eq!(seconds, 65.536);
        let found: Vec<_> = rows.iter().map(|row| (row.source.as_str(), row.requests.round())).collect();
        let expected = |samples: f64| (samples * 16.0 / 65.536).round();
        assert_eq!(found, [("0.0.0.1", expected(256.0)), ("0.0.0.2", expected(100.0))]);
    }
}
