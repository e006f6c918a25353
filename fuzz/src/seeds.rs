//! The fuzzer's seeds, each by its name.
//!
//! Owns how the tests' data become inputs. They are written to files when the fuzzer starts, so that none is kept twice.

use std::path::PathBuf;

use icmp_tests::capture::Order;
use icmp_tests::vectors;

use crate::knobs::{KNOBS, configurations};

/// An input and what it is called.
pub type Seed = (String, Vec<u8>);

/// The vectors' frames, on their host.
#[must_use]
pub fn process() -> Vec<Seed> {
    vectors::all().into_iter().map(|v| (v.id, [&[0; KNOBS][..], &v.frame].concat())).collect()
}

/// Configurations: those of the documentation, those of the hosts of `process`, and one for each mistake that the tests know.
#[must_use]
pub fn config() -> Vec<Seed> {
    let documents = [
        ("readme", include_str!("../../README.md")),
        ("policy", include_str!("../../docs/policy.md")),
        ("cli", include_str!("../../docs/cli.md")),
    ];
    let shown = documents.into_iter().flat_map(|(name, text)| {
        let blocks = text.split("```toml\n").skip(1).filter_map(|block| block.split("```").next());
        blocks.enumerate().map(move |(i, block)| (format!("{name}-{}", i + 1), block.to_owned()))
    });
    let wrong = include_str!("../../tests/data/wrong-configs.txt").split("=== ").filter_map(|text| {
        let (name, text) = text.split_once('\n')?;
        let (text, _) = text.split_once("---\n")?;
        Some((name.replace(|c: char| !c.is_alphanumeric(), "-"), text.to_owned()))
    });
    let of_hosts = configurations().into_iter().enumerate().map(|(i, text)| (format!("host-{i}"), text));
    shown.chain(wrong).chain(of_hosts).map(|(name, text)| (name, text.into_bytes())).collect()
}

/// Captures: pcap and pcapng in both byte orders, as they are and compressed, some of them cut off.
#[must_use]
pub fn capture() -> Vec<Seed> {
    let frames: Vec<_> =
        vectors::all().into_iter().take(5).zip(0..).map(|(v, i)| (i * 1_000_000, v.frame)).collect();
    let mut seeds = Vec::new();
    for order in [Order { big: false }, Order { big: true }] {
        for link_type in [1, 101, 113, 276] {
            seeds.push((format!("pcap-{link_type}-{}", order.big), order.pcap(false, link_type, &frames)));
        }
        seeds.push((format!("pcap-ns-{}", order.big), order.pcap(true, 1, &frames)));
        seeds.push((format!("pcapng-{}", order.big), order.pcapng(6, &frames)));
    }
    let cut = seeds.iter().map(|(name, bytes)| (format!("{name}-cut"), bytes[..bytes.len() - 30].to_vec()));
    let cut: Vec<Seed> = cut.collect();
    seeds.extend(cut);
    seeds
}

/// Writes seeds to the folder that `ICMP_FUZZ_SEEDS` names, if it does.
///
/// # Panics
/// A file cannot be written.
pub fn write(seeds: Vec<Seed>) {
    let Some(folder) = std::env::var_os("ICMP_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (name, input) in seeds {
        let file = folder.join(name);
        std::fs::write(&file, input).unwrap_or_else(|e| panic!("writing {}: {e}", file.display()));
    }
}
