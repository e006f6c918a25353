//! The sources that send most echo requests, as the program has sampled them.
//!
//! Owns the rates that are made of samples, their error, and the estimate of the number of sources. `icmp_common::heavy_hitters` owns the
//! sampling.

use icmp_common::abi::{HEAVY_HITTERS, HeavyHitter, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use icmp_common::abi::Settings;
use icmp_common::heavy_hitters::{SAMPLE, window_shift};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::kernel::clock::Tick;

/// Requests a second of one source.
#[derive(Deserialize, Serialize)]
pub struct Row {
    /// Address or prefix.
    pub source: String,
    /// Echo requests a second.
    pub requests: f64,
    /// Standard error of that, in requests a second.
    pub standard_error: f64,
    /// Those of them that are over a limit.
    pub limited: f64,
}

/// How many sources there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Number {
    /// About so many.
    About(u64),
    /// Too many for an estimate: more than this.
    MoreThan(u64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::About(0) => f.write_str("no source"),
            Self::About(1) => f.write_str("one source"),
            Self::About(number) => write!(f, "about {number} sources"),
            Self::MoreThan(number) => write!(f, "more than {number} sources"),
        }
    }
}

/// What is seen of all sources together, and of those that have an entry.
#[derive(Deserialize, Serialize)]
pub struct Sources {
    /// The time that was looked at.
    pub seconds: f64,
    /// Echo requests a second.
    pub requests: f64,
    /// Standard error of that, in requests a second.
    pub standard_error: f64,
    /// Who sent them.
    pub number: Number,
    /// The part of them that the largest source sends, from 0 to 1.
    pub largest: f64,
    /// Those that have an entry, in no order.
    pub rows: Vec<Row>,
}

impl Sources {
    /// Many requests of many sources, none of which sends much of them: limits by source see no flood in it.
    pub fn is_flood_from_everywhere(&self) -> bool {
        let (Number::About(number) | Number::MoreThan(number)) = self.number;
        self.requests >= FLOOD_RATE && number >= FLOOD_SOURCES && self.largest <= FLOOD_SHARE
    }
}

/// A second of fewer requests is no flood.
const FLOOD_RATE: f64 = 1e3;
/// Fewer sources are not everywhere.
const FLOOD_SOURCES: u64 = 500;
/// Who sends more than this part is one to look at.
const FLOOD_SHARE: f64 = 0.05;

/// What the samples of the present window and the one before say, over all CPUs. Entries come with their index and
/// CPU.
pub fn sources(
    heavy_hitters: &[(u32, usize, HeavyHitter)],
    settings: &Settings,
    tick: Tick,
    now: u64,
) -> Sources {
    let shift = window_shift(settings.epoch_shift);
    let window = (now >> shift) as u32;
    let ticks = (now & ((1 << shift) - 1)) + (1 << shift);
    let seconds = ticks as f64 / tick.per_second;
    let mut sums: BTreeMap<(u32, u64, u64), Sum> = BTreeMap::new();
    let (mut in_use, mut cpus) = (BTreeSet::new(), BTreeSet::new());
    let mut samples = 0;
    for (index, cpu, heavy_hitter) in heavy_hitters {
        let [seen, limited, others] = match window.wrapping_sub(heavy_hitter.window) {
            0 => [
                [heavy_hitter.seen, heavy_hitter.seen_before],
                [heavy_hitter.limited, heavy_hitter.limited_before],
                [heavy_hitter.others, heavy_hitter.others_before],
            ],
            1 => [[heavy_hitter.seen, 0], [heavy_hitter.limited, 0], [heavy_hitter.others, 0]],
            _ => continue,
        }
        .map(|both| u64::from(both[0]) + u64::from(both[1]));
        samples += seen + others;
        in_use.insert(index);
        cpus.insert(cpu);
        let Source { ip_version, high, low, .. } = heavy_hitter.source;
        let sum = sums.entry((ip_version, high, low)).or_default();
        sum.seen += seen;
        sum.limited += limited;
        sum.cpus += 1;
    }
    let rate = |samples: f64| samples * f64::from(SAMPLE) / seconds;
    let most = sums.values().map(|sum| sum.seen).max().unwrap_or_default();
    let rows = sums.into_iter().filter(|(_, sum)| sum.seen > 0);
    let rows = rows.map(|((ip_version, high, low), sum)| Row {
        source: name(settings, ip_version, high, low),
        requests: rate(sum.seen as f64),
        standard_error: rate(standard_error(sum.seen, samples, sum.cpus)),
        limited: rate(sum.limited as f64),
    });
    Sources {
        seconds,
        requests: rate(samples as f64),
        standard_error: rate(standard_error(samples, samples, cpus.len())),
        number: number(in_use.len(), samples),
        largest: most as f64 / samples.max(1) as f64,
        rows: rows.collect(),
    }
}

/// Samples of a source.
#[derive(Default)]
struct Sum {
    seen: u64,
    limited: u64,
    /// CPUs that have seen it.
    cpus: usize,
}

/// Standard error of the number of samples of a source, by how many they are of all and on how many CPUs, in samples.
///
/// Each sample is one of [`SAMPLE`] requests one after the other on a CPU: if a part q of them is the source's, so is the sample with
/// probability q, and its variance is q * (1 - q). Summed up that is no more than if the source's requests lay evenly among the others. The
/// first and the last of what is looked at are cut off somewhere, which adds the variance of a Bernoulli trial for each end, at most 1/4.
fn standard_error(seen: u64, samples: u64, cpus: usize) -> f64 {
    let (seen, samples) = (seen as f64, samples.max(1) as f64);
    (seen * (1.0 - seen / samples) + cpus as f64 / 2.0).sqrt()
}

/// How many sources so many samples come from, which have used so many of the entries.
fn number(in_use: usize, samples: u64) -> Number {
    if samples == 0 {
        return Number::About(0);
    }
    let entries = f64::from(HEAVY_HITTERS);
    // Linear counting (Whang, Vander-Zanden and Taylor, 1990), good until nearly all entries are in use.
    let free = entries - in_use as f64;
    if free < entries / 50.0 {
        return Number::MoreThan(rounded(entries * 50_f64.ln()));
    }
    let sampled = entries * (entries / free).ln();
    let samples = samples as f64;
    // Of N sources that send alike, S samples meet N * (1 - exp(-S / N)). Where nearly every sample is of another source, there may be
    // any number more.
    let met = |sources: f64| sources * (1.0 - (-samples / sources).exp());
    if sampled > 0.9 * samples && samples > 10.0 {
        return Number::MoreThan(rounded(4.0 * samples));
    }
    let (mut low, mut high) = (sampled.max(1.0), 4.0 * samples.max(1.0));
    while high - low > 0.5 {
        let middle = f64::midpoint(low, high);
        if met(middle) < sampled { low = middle } else { high = middle }
    }
    Number::About(rounded(low))
}

/// Two digits, as more would promise what an estimate cannot keep.
fn rounded(number: f64) -> u64 {
    let unit = 10_f64.powf((number.max(1.0).log10().floor() - 1.0).max(0.0));
    ((number / unit).round() * unit) as u64
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
    net.map_or_else(|error| error.to_string(), net_text)
}

/// A source as it is written: an address, or a prefix of several.
pub fn net_text(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

#[cfg(test)]
mod tests {
    use icmp_common::heavy_hitters::until_next;
    use icmp_common::limiter::hash4;

    use super::*;
    use crate::config::file::Config;
    use crate::host::defaults::HostDefaults;
    use crate::policy::compile::compile_policy;
    use icmp_common::abi::{HEAVY_HITTER_BITS, Sampling};

    const TICK: Tick = Tick { per_second: 250.0 };

    #[test]
    fn nothing_comes_from_no_source() {
        let seen = sources(&[], &settings(), TICK, 1_000_000);
        assert_eq!((seen.number, seen.number.to_string().as_str()), (Number::About(0), "no source"));
    }

    fn settings() -> Settings {
        let config = Config::parse("", "x").expect("the default");
        compile_policy(&config, TICK, HostDefaults { ttl: 64, hop_limit: 64 }, 1)
            .expect("it compiles")
            .settings
    }

    /// Sends requests as a program with one CPU would see them: `source_at` says who sends the next one, `per_second` how many come; what is
    /// shown after these seconds.
    fn seen_after(
        seconds: f64,
        per_second: f64,
        start: u64,
        mut source_at: impl FnMut(f64) -> u64,
    ) -> Sources {
        let settings = settings();
        let shift = window_shift(settings.epoch_shift);
        let mut heavy_hitters = vec![HeavyHitter::default(); HEAVY_HITTERS as usize];
        let (mut sampling, mut left) = (Sampling { state: start, ..Sampling::default() }, 0);
        for i in 0..(seconds * per_second) as u64 {
            let at = i as f64 / per_second;
            let source = Source { high: source_at(at), low: 0, ip_version: 4, reserved: 0 };
            if left > 0 {
                left -= 1;
                continue;
            }
            left = until_next(&mut sampling);
            let now = start + (at * TICK.per_second) as u64;
            let index = hash4([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03], source.high as u32)
                >> (64 - HEAVY_HITTER_BITS);
            heavy_hitters[index as usize].note(&source, (now >> shift) as u32);
        }
        let heavy_hitters: Vec<_> = (0..)
            .zip(heavy_hitters)
            .map(|(index, heavy_hitter)| (index, 0, heavy_hitter))
            .filter(|(.., heavy_hitter)| heavy_hitter.source.ip_version != 0)
            .collect();
        sources(&heavy_hitters, &settings, TICK, start + (seconds * TICK.per_second) as u64)
    }

    /// Starts all over a window, and at all states of the sampler that these bring.
    fn starts() -> impl Iterator<Item = u64> {
        (0..32).map(|i| 1_000_000 + i * 37)
    }

    #[test]
    fn after_two_seconds_rates_agree_with_what_was_sent() {
        for start in starts() {
            for per_second in [900.0, 5_000.0, 90_000.0] {
                let seen = seen_after(2.0, per_second, start, |_| 7);
                let found = [seen.rows[0].requests, seen.requests].map(|rate| rate / per_second);
                assert!(
                    found.iter().all(|part| (0.85..1.15).contains(part)),
                    "{per_second}/s from {start}: {found:?}"
                );
                assert_eq!((seen.number, seen.rows[0].source.as_str()), (Number::About(1), "0.0.0.7"));
            }
        }
    }

    #[test]
    fn rates_differ_from_what_was_sent_by_five_standard_errors_at_most() {
        let mut squares = Vec::new();
        for start in (0..500).map(|i| 1_000_000 + i * 37) {
            let mut n = 0;
            let seen = seen_after(3.0, 9_000.0, start, |_| {
                n += 1;
                n % 10
            });
            let errors: Vec<f64> =
                seen.rows.iter().map(|row| (row.requests - 900.0) / row.standard_error).collect();
            assert!(errors.iter().all(|error| error.abs() <= 5.0), "from {start}: {errors:?}");
            let error = (seen.requests - 9_000.0) / seen.standard_error;
            assert!(error.abs() <= 5.0, "all, from {start}: {error}");
            squares.extend(errors.iter().map(|error| error * error));
        }
        // Of 5,000 squares of a standard normal variable the mean is within 0.08 of 1, four times its standard error.
        let mean = squares.iter().sum::<f64>() / squares.len() as f64;
        assert!((0.92..1.08).contains(&mean), "{mean} of {}", squares.len());
    }

    #[test]
    fn a_source_that_has_stopped_is_gone_within_three_seconds() {
        for start in starts() {
            let seen = seen_after(6.0, 20_000.0, start, |at| if at < 3.0 { 7 } else { 8 });
            let found: Vec<_> = seen.rows.iter().map(|row| row.source.as_str()).collect();
            assert_eq!(found, ["0.0.0.8"], "from {start}");
        }
    }

    #[test]
    fn the_number_of_sources_is_estimated_and_a_flood_from_everywhere_is_called_that() {
        let mut random = 1_u64;
        let mut next = move || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        let seen = seen_after(3.0, 300_000.0, 1_000_000, |_| next());
        assert!(matches!(seen.number, Number::MoreThan(10_000..)), "{:?}", seen.number);
        assert!(seen.is_flood_from_everywhere() && seen.largest < 0.01, "{}", seen.largest);
        assert!((0.85..1.15).contains(&(seen.requests / 300_000.0)), "{}", seen.requests);
        let some: Vec<u64> = (0..1_000).map(|_| next()).collect();
        let seen = seen_after(3.0, 30_000.0, 1_000_000, |_| some[next() as usize % some.len()]);
        assert!(matches!(seen.number, Number::About(800..1_200)), "{:?}", seen.number);
        // One that sends a third among as many others.
        let seen = seen_after(3.0, 30_000.0, 1_000_000, |_| if next() % 3 == 0 { 7 } else { next() });
        assert!(!seen.is_flood_from_everywhere(), "the largest is one to look at");
        assert!((0.28..0.38).contains(&seen.largest), "{}", seen.largest);
        let largest = seen.rows.iter().max_by(|a, b| a.requests.total_cmp(&b.requests)).expect("a row");
        assert_eq!(largest.source, "0.0.0.7");
    }
}
