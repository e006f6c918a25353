//! Floods: when one begins, from which source, and when it is over.
//!
//! Owns the thresholds and the hysteresis. Its input is the number of stopped frames, which is exact, and a sample of them with type and
//! source: each stands for the same share. It has no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use icmp_common::reason::{Reason, Verdict};
use icmp_common::types::row_labels;
use ipnet::IpNet;

use crate::observe::events::{Flood, What};
use crate::observe::sources::net_text;

/// Frames a second of one source that are stopped, from which on they are a flood. What is less is a scan, or a monitor that asks too often.
const BEGINS: f64 = 100.0;
/// As [`BEGINS`], of sources of whom none is a flood by itself.
const BEGINS_DISTRIBUTED: f64 = 1_000.0;
/// The part of that below which a flood ends, if it stays there for [`QUIET`].
const ENDS: f64 = 0.5;
/// Samples that a source has to have had in the window for their absence to say that it is quiet.
const TELLING: f64 = 2.0;
/// See [`ENDS`].
const QUIET: Duration = Duration::from_secs(3);
/// A source is one to be named if it sends at least this part of what is stopped of a type.
const SHARE: f64 = 0.05;
/// Fewer frames of a source say nothing about its share.
const FEWEST: usize = 5;
/// What rates are of.
const WINDOW: Duration = Duration::from_secs(1);
/// How long a flood must not have grown by a tenth until its peak is told.
const SETTLED: Duration = Duration::from_secs(2);
/// Floods of one type that are told apart at a time; what is more is distributed.
const MOST: usize = 32;
/// Floods that may begin within so much time: whoever sends by turns from other sources, or other types, is told of no faster.
const BEGINNINGS: (usize, Duration) = (10, Duration::from_secs(10));

/// Whether a frame that ends so was stopped, or would have been where nothing is decided but only observed.
pub const fn is_stopped(reason: Reason) -> bool {
    matches!(reason.verdict(), Verdict::Drop | Verdict::Limit)
        || matches!(reason, Reason::WouldDrop | Reason::WouldLimit)
}

/// A frame that was stopped.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Row of the type table.
    pub row: u8,
    /// Who has sent it, as limits by source see it.
    pub source: IpNet,
    /// What it ended in.
    pub reason: Reason,
    /// Where it came in.
    pub interface: String,
}

/// What was seen since the time before.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When, on a clock that never goes back.
    pub at: Duration,
    /// Frames that were stopped.
    pub stopped: u64,
    /// Some of them.
    pub samples: Vec<Sample>,
}

/// Who sends: one source, or many of whom none sends much.
type Who = Option<IpNet>;

/// A flood that goes on.
struct Going {
    flood: Flood,
    began: Duration,
    peak: f64,
    /// When it last grew by a tenth, and what it was then.
    grew: (Duration, f64),
    /// The peak that was told.
    told: Option<f64>,
    packets: f64,
    /// Since when it is below what ends it.
    quiet_since: Option<Duration>,
}

/// All floods.
#[derive(Default)]
pub struct Floods {
    window: VecDeque<Seen>,
    going: BTreeMap<(u8, Who), Going>,
    /// When those began that count for [`BEGINNINGS`].
    begun: VecDeque<Duration>,
}

/// What samples stand for.
#[derive(Clone, Copy, Default)]
struct Share {
    samples: usize,
    /// Frames in the window.
    frames: f64,
    /// Those of them that have come since the look before.
    new: f64,
}

impl Share {
    fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.frames += other.frames;
        self.new += other.new;
    }
}

impl Floods {
    /// Takes what was seen; what that begins, and ends.
    pub fn see(&mut self, seen: Seen) -> Vec<What> {
        let now = seen.at;
        self.window.push_back(seen);
        // The first one says when the span of the others began.
        while self.window.get(1).is_some_and(|second| second.at + WINDOW <= now) {
            self.window.pop_front();
        }
        while self.begun.front().is_some_and(|begun| *begun + BEGINNINGS.1 <= now) {
            self.begun.pop_front();
        }
        let began = self.window.front().map_or(now, |first| first.at);
        let span = (now - began).max(Duration::from_millis(1)).as_secs_f64();
        let mut rows: BTreeMap<u8, BTreeMap<IpNet, Share>> =
            self.going.keys().map(|(row, _)| (*row, BTreeMap::new())).collect();
        let mut all = Share::default();
        let newest = self.window.len() - 1;
        for (look, seen) in self.window.iter().enumerate().skip(1) {
            // Nothing is known of frames of a look that has no samples.
            let frames = seen.stopped as f64 / seen.samples.len().max(1) as f64;
            let one = Share { samples: 1, frames, new: if look == newest { frames } else { 0.0 } };
            for sample in &seen.samples {
                rows.entry(sample.row).or_default().entry(sample.source).or_default().add(one);
                all.add(one);
            }
        }
        // The frames a second that so many samples stand for.
        let telling = TELLING * all.frames / all.samples.max(1) as f64 / span;
        let mut happened = Vec::new();
        for (row, sources) in rows {
            for (who, share) in self.told_apart(row, sources, span) {
                let rate = share.frames / span;
                if !self.going.contains_key(&(row, who)) {
                    if self.begun.len() >= BEGINNINGS.0 {
                        continue;
                    }
                    self.begun.push_back(now);
                    self.begin(row, who, share, rate, now, &mut happened);
                }
                self.go_on((row, who), rate, share.new, telling, now, &mut happened);
            }
        }
        happened
    }

    /// The sources of a type that are floods, and all others together where they are one; those included that have gone silent.
    fn told_apart(&self, row: u8, sources: BTreeMap<IpNet, Share>, span: f64) -> BTreeMap<Who, Share> {
        let of_row = self.going.keys().filter(|(of, _)| *of == row);
        let mut told: BTreeMap<Who, Share> = of_row.map(|(_, who)| (*who, Share::default())).collect();
        let total: f64 = sources.values().map(|share| share.frames).sum();
        let mut rest = Share::default();
        for (source, share) in sources {
            let is_going = told.contains_key(&Some(source));
            let is_one = share.samples >= FEWEST
                && share.frames >= SHARE * total
                && share.frames >= BEGINS * span
                && told.len() < MOST
                && self.begun.len() < BEGINNINGS.0;
            if is_going || is_one {
                told.insert(Some(source), share);
            } else {
                rest.add(share);
            }
        }
        let begins = rest.samples >= FEWEST && rest.frames >= BEGINS_DISTRIBUTED * span;
        if begins || told.contains_key(&None) {
            told.insert(None, rest);
        }
        told
    }

    fn begin(&mut self, row: u8, who: Who, share: Share, rate: f64, now: Duration, happened: &mut Vec<What>) {
        let (mut reasons, mut interfaces) = (BTreeMap::new(), BTreeMap::new());
        let is_of = |sample: &&Sample| sample.row == row && who.is_none_or(|source| source == sample.source);
        for sample in self.window.iter().flat_map(|seen| &seen.samples).filter(is_of) {
            *reasons.entry(sample.reason.name()).or_insert(0) += 1;
            *interfaces.entry(sample.interface.as_str()).or_insert(0) += 1;
        }
        let most = |of: BTreeMap<&str, usize>| {
            of.into_iter()
                .max_by_key(|(_, count)| *count)
                .map(|(name, _)| name.to_owned())
                .unwrap_or_default()
        };
        let (family, icmp_type) = row_labels(usize::from(row));
        let flood = Flood {
            family: family.to_owned(),
            icmp_type: icmp_type.to_owned(),
            source: who.map(net_text),
            interface: most(interfaces),
            reason: most(reasons),
            packets_per_second: rate.round() as u64,
            packets: 0,
            seconds: 0.0,
        };
        let started = if who.is_some() { What::FloodStarted } else { What::DistributedFloodStarted };
        happened.push(started(flood.clone()));
        let going = Going {
            flood,
            began: now,
            peak: rate,
            grew: (now, rate),
            told: None,
            // Those of this look are added as of all others.
            packets: share.frames - share.new,
            quiet_since: None,
        };
        self.going.insert((row, who), going);
    }

    /// `telling` is what the rate of a source is at least that could be seen if it sent.
    fn go_on(
        &mut self,
        key: (u8, Who),
        rate: f64,
        new: f64,
        telling: f64,
        now: Duration,
        happened: &mut Vec<What>,
    ) {
        let Some(going) = self.going.get_mut(&key) else { return };
        let is_one = key.1.is_some();
        going.packets += new;
        going.peak = going.peak.max(rate);
        if rate > 1.1 * going.grew.1 {
            going.grew = (now, rate);
        }
        let so_far = |going: &Going, rate: f64| Flood {
            packets_per_second: rate.round() as u64,
            packets: going.packets.round() as u64,
            seconds: (going.quiet_since.unwrap_or(now) - going.began).as_millis() as f64 / 1e3,
            ..going.flood.clone()
        };
        let ends = ENDS * if is_one { BEGINS } else { BEGINS_DISTRIBUTED };
        // A louder flood may hide it: then it goes on until that can be told.
        let is_hidden = telling > ends.max(going.peak / 4.0);
        let is_quiet = rate < ends.max(telling) && !is_hidden;
        let quiet_since = is_quiet.then(|| going.quiet_since.unwrap_or(now));
        going.quiet_since = quiet_since;
        let has_ended = quiet_since.is_some_and(|since| now >= since + QUIET);
        let is_settled = now >= going.grew.0 + SETTLED || has_ended;
        if is_settled && going.told.is_none_or(|told| going.peak >= 2.0 * told) {
            going.told = Some(going.peak);
            let peak = if is_one { What::FloodPeak } else { What::DistributedFloodPeak };
            happened.push(peak(so_far(going, going.peak)));
        }
        if has_ended {
            let ended = if is_one { What::FloodEnded } else { What::DistributedFloodEnded };
            happened.push(ended(so_far(going, rate)));
            self.going.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Echo requests of IPv4.
    const ROW: u8 = 3;

    /// Runs a flood detector at four looks a second over so many seconds, in which `sends` says of each source how many frames a second are
    /// stopped; of each look at most `most` frames are samples.
    fn run(seconds: u64, most: usize, sends: impl Fn(f64) -> Vec<(u32, f64)>) -> Vec<(f64, What)> {
        let mut floods = Floods::default();
        let mut happened = Vec::new();
        for look in 0..4 * seconds {
            let at = look as f64 / 4.0;
            let mut frames = Vec::new();
            for (source, rate) in sends(at) {
                frames.extend(std::iter::repeat_n(source, (rate / 4.0).round() as usize));
            }
            let every = frames.len().div_ceil(most).max(1);
            let sample = |source: &u32| Sample {
                row: ROW,
                source: std::net::IpAddr::V4((*source).into()).into(),
                reason: Reason::LimitedSource,
                interface: "eth0".to_owned(),
            };
            let seen = Seen {
                at: Duration::from_millis(250 * look),
                stopped: frames.len() as u64,
                // From the middle, so that who sends less than stands between two samples has none.
                samples: frames.iter().skip(every / 2).step_by(every).map(sample).collect(),
            };
            happened.extend(floods.see(seen).into_iter().map(|what| (at, what)));
        }
        happened
    }

    fn names(happened: &[(f64, What)]) -> Vec<String> {
        happened.iter().map(|(_, what)| what.name()).collect()
    }

    #[test]
    fn who_sends_by_turns_from_other_sources_is_told_of_no_faster() {
        let happened = run(30, 1000, |at| {
            let first = (at * 4.0) as u32 * 12;
            (first..first + 12).map(|source| (source, 700.0)).collect()
        });
        let started = happened.iter().filter(|(_, what)| what.name().ends_with("flood-started")).count();
        assert!((10..=4 * BEGINNINGS.0).contains(&started), "{:?}", names(&happened));
        let ended = happened.iter().filter(|(_, what)| what.name().ends_with("flood-ended")).count();
        assert!(happened.len() <= 3 * started && ended <= started, "{:?}", names(&happened));
    }

    #[test]
    fn a_flood_of_one_source_starts_peaks_and_ends_once() {
        let happened = run(30, 100, |at| vec![(1, if (5.0..15.0).contains(&at) { 40_000.0 } else { 0.0 })]);
        assert_eq!(names(&happened), ["flood-started", "flood-peak", "flood-ended"]);
        let [(started, _), (_, What::FloodPeak(peak)), (ended, What::FloodEnded(end))] = &happened[..] else {
            panic!("{happened:?}")
        };
        assert!((5.0..5.5).contains(started) && (18.0..19.5).contains(ended), "{started} {ended}");
        assert_eq!(peak.packets_per_second, 40_000);
        assert_eq!((end.packets, end.source.as_deref()), (400_000, Some("0.0.0.1")));
        assert_eq!((&*end.reason, &*end.interface), ("limited-source", "eth0"));
        assert!((10.0..11.5).contains(&end.seconds), "{} s, without the quiet ones", end.seconds);
    }

    #[test]
    fn what_comes_and_goes_for_a_moment_is_one_flood_and_what_is_less_is_none() {
        let in_bursts = |at: f64| vec![(1, if at < 20.0 && at % 3.0 < 1.0 { 5_000.0 } else { 0.0 })];
        assert_eq!(names(&run(30, 100, in_bursts)), ["flood-started", "flood-peak", "flood-ended"]);
        // Below what begins one, and above what ends it.
        assert_eq!(names(&run(30, 100, |_| vec![(1, 80.0)])), [""; 0]);
        let sinking = |at: f64| vec![(1, if at < 5.0 { 400.0 } else { 80.0 })];
        assert_eq!(names(&run(30, 100, sinking)), ["flood-started", "flood-peak"]);
    }

    #[test]
    fn a_flood_from_everywhere_is_one_that_is_distributed() {
        let next = std::cell::Cell::new(1_u64);
        let random = |at: f64| -> Vec<(u32, f64)> {
            let count = if (1.0..11.0).contains(&at) { 5_000 } else { 0 };
            let source = || {
                next.set(next.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                ((next.get() >> 32) as u32, 4.0)
            };
            std::iter::repeat_with(source).take(count).collect()
        };
        let happened = run(20, 100, random);
        assert_eq!(
            names(&happened),
            ["distributed-flood-started", "distributed-flood-peak", "distributed-flood-ended"]
        );
        let Some((_, What::DistributedFloodEnded(end))) = happened.last() else { panic!("{happened:?}") };
        assert_eq!((end.packets, end.source.as_deref()), (200_000, None));
    }

    #[test]
    fn two_sources_are_two_floods_and_a_loud_one_does_not_end_the_other() {
        let sends = |at: f64| vec![(1, 1_000.0), (2, if (5.0..10.0).contains(&at) { 30_000.0 } else { 0.0 })];
        let happened = run(20, 100, sends);
        let of = |source: &str| -> Vec<String> {
            let is_of = |what: &What| matches!(what, What::FloodStarted(flood) | What::FloodPeak(flood) | What::FloodEnded(flood) if flood.source.as_deref() == Some(source));
            happened.iter().filter(|(_, what)| is_of(what)).map(|(_, what)| what.name()).collect()
        };
        assert_eq!(of("0.0.0.1"), ["flood-started", "flood-peak"], "{happened:?}");
        assert_eq!(of("0.0.0.2"), ["flood-started", "flood-peak", "flood-ended"], "{happened:?}");
    }

    #[test]
    fn a_flood_that_a_louder_one_hides_has_not_ended() {
        let sends = |at: f64| vec![(1, 200.0), (2, if (5.0..10.0).contains(&at) { 400_000.0 } else { 0.0 })];
        let happened = run(20, 100, sends);
        let of_one = |what: &&What| matches!(what, What::FloodStarted(flood) | What::FloodEnded(flood) if flood.source.as_deref() == Some("0.0.0.1"));
        let of_one: Vec<_> = happened.iter().map(|(_, what)| what).filter(of_one).map(What::name).collect();
        assert_eq!(of_one, ["flood-started"], "{happened:?}");
    }

    #[test]
    fn a_peak_is_told_again_when_it_is_twice_as_much() {
        let happened = run(20, 100, |at| {
            vec![(
                1,
                if at < 6.0 {
                    1_000.0
                } else if at < 12.0 {
                    1_500.0
                } else {
                    9_000.0
                },
            )]
        });
        let peaks: Vec<_> = happened
            .iter()
            .filter_map(|(_, what)| match what {
                What::FloodPeak(flood) => Some(flood.packets_per_second),
                _ => None,
            })
            .collect();
        assert_eq!(peaks, [1_000, 9_000]);
    }

    #[test]
    fn sources_that_change_all_the_time_are_no_endless_list() {
        let happened = run(60, 100, |at| (0..20).map(|i| ((at * 4.0) as u32 * 20 + i, 400.0)).collect());
        let started = names(&happened).iter().filter(|name| *name == "flood-started").count();
        assert!(started <= 60 / 4 * MOST, "{started}");
    }
}
