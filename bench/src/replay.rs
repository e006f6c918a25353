//! A whole capture through `icmp-ctl replay`, next to tcpdump, which reads the same file and writes it to nowhere.
//!
//! Owns the captures, which are pings of 64 bytes, and the CPU time of both programs, their start included. Other tests prove the result of a
//! replay; here it has to have seen every frame.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use icmp_tests::capture::Order;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::generate::Random;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::Value;

use crate::figures::Figures;
use crate::interrupt;
use crate::object::START;
use crate::program::request;

/// Frames of a capture.
const FRAMES: u32 = 2_000_000;
/// Nanoseconds from one to the next.
const APART: u64 = 1000;
/// In each round, both programs in turn; the cheapest is nearest to what it takes by itself.
const TRIES: usize = 3;
/// The seed of who sends.
const SEED: u64 = 1;
/// The captures by their names in figures, and among how many sources the sender of each frame is drawn.
const CAPTURES: [(&str, usize); 2] = [("sources_1000", 1000), ("random", 126 << 24)];

/// The captures, and the configuration that they are replayed under: as shipped.
pub(crate) struct World {
    folder: Folder,
    config: String,
}

impl World {
    /// Writes them.
    pub(crate) fn new() -> Result<Self> {
        let folder = Folder::new();
        for (name, sources) in CAPTURES {
            let mut random = Random::new(SEED);
            let frames: Vec<_> = (0..u64::from(FRAMES))
                .map(|i| {
                    let from = Ipv4Addr::from(0x0100_0000 + random.below(sources) as u32);
                    (i * APART, request(&from.to_string(), "192.0.2.2", START))
                })
                .collect();
            let path = folder.path().join(name);
            fs::write(&path, Order { big: false }.pcap(true, 1, &frames))
                .with_context(|| format!("writing the capture {}", path.display()))?;
        }
        let config = folder.file("config.toml", "");
        Ok(Self { folder, config })
    }

    /// Measures each of them.
    pub(crate) fn round(&self, figures: &mut Figures) -> Result<()> {
        for (name, _) in CAPTURES {
            let path = self.folder.path().join(name);
            let mut least = [f64::INFINITY; 2];
            for _ in 0..TRIES {
                interrupt::check()?;
                least = [least[0].min(self.replay(&path)?), least[1].min(tcpdump(&path)?)];
            }
            for (program, ns) in ["icmp-ctl", "tcpdump"].into_iter().zip(least) {
                figures.add(&format!("replay.{name}.{program}"), "ns", ns);
            }
        }
        Ok(())
    }

    fn replay(&self, path: &Path) -> Result<f64> {
        let mut command = Command::new(ctl::program());
        command.arg("replay").arg(path).args(["-f", &self.config, "-j"]);
        let (ns, said) = cost(&mut command)?;
        let said: Value = serde_json::from_slice(&said).context("understanding the replay")?;
        ensure!(said["received"] == FRAMES, "the replay has received {}, not {FRAMES}", said["received"]);
        Ok(ns)
    }
}

fn tcpdump(path: &Path) -> Result<f64> {
    Ok(cost(Command::new("tcpdump").arg("-r").arg(path).args(["-w", "/dev/null"]))?.0)
}

/// Nanoseconds of CPU a frame, of user and kernel together, and what was said on standard output.
fn cost(command: &mut Command) -> Result<(f64, Vec<u8>)> {
    let used = || -> Result<i64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("asking for the CPU time of commands")?;
        Ok((usage.user_time() + usage.system_time()).num_microseconds())
    };
    let before = used()?;
    let done = command.output().with_context(|| format!("starting {command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(((used()? - before) as f64 * 1e3 / f64::from(FRAMES), done.stdout))
}
