//! `suggest`: limits that would not have hurt a capture, as a configuration.

use anyhow::{Context as _, Result};
use icmp_common::reason::{Reason, Verdict};
use icmp_common::types::Budget;
use serde_json::json;

use crate::capture::read::Capture;
use crate::cli::Suggest as Args;
use crate::config::file::Config;
use crate::config::units::Rate;
use crate::diagnostics::{progress, warn};
use crate::kernel::clock::Tick;
use crate::output::Output;
use crate::policy::of_file::compiled;
use crate::replay::files::refuse_streams;
use crate::replay::own::Own;
use crate::replay::run::{Replay, Side};
use crate::replay::survey::{HEADROOM, PER_MILLE, Seconds, Survey};

/// Shorter captures miss what happens once a day.
const WANTED_SECONDS: u64 = 86_400;

pub(super) fn run(args: &Args) -> Result<Output> {
    refuse_streams(&args.file)?;
    let own = Own::look(&args.file, &args.own)?;
    super::replay::own::say(&own, &[]);
    let tick = Tick::of_this_kernel()?;
    let mut survey = Survey::new(own.clone(), tick, &compiled(&unlimited(), None)?);
    let mut capture = Capture::open(&args.file)?;
    let bar = progress(capture.progress().1);
    survey.run(&mut capture, |read, _| bar.set_position(read))?;
    bar.finish_and_clear();
    let seconds = survey.frames.time().1 / 1_000_000_000;
    if seconds < WANTED_SECONDS {
        warn(&format!(
            "the capture is {seconds} s long; limits are best made from a day and more of normal traffic, with whatever runs once a day in it"
        ));
    }
    let limits = limits(&survey);
    let config = Config::parse(&limits, "what is suggested").context("suggesting limits")?;
    let side = Side { policy: &compiled(&config, None)?, lines: config.limits.memory.lines() };
    let (mut replay, _) = Replay::new(own, tick, &side, None, None);
    replay.run(&mut Capture::open(&args.file)?, |_, _| ())?;
    let limited: u64 = Reason::ALL
        .iter()
        .zip(replay.totals())
        .filter(|(reason, _)| reason.verdict() == Verdict::Limit)
        .map(|(_, (packets, _))| packets)
        .sum();
    let heading = format!(
        "# Suggested by `icmp-ctl suggest` from {} packets in {seconds} s, taken for normal traffic.\n\
         # Each rate is {HEADROOM} times what all but one in {} seconds have of its kind (those in which there is any), each burst\n\
         # {HEADROOM} times what the busiest second has. Under these limits {limited} of these packets would have been limited.\n",
        survey.frames.seen,
        1000 / (1000 - PER_MILLE)
    );
    let text = format!("{heading}{limits}");
    let lines = text.lines().map(str::to_owned).collect();
    let json = json!({
        "schema": 1, "config": text, "seconds": seconds, "received": survey.frames.seen, "limited": limited,
    });
    Ok(Output::shown(json, lines))
}

/// The defaults, but that nothing is limited.
fn unlimited() -> Config {
    let mut config = Config::default();
    let limits = &mut config.limits;
    (limits.per_source.rate, limits.per_prefix.rate) = (Some(Rate::Unlimited), Some(Rate::Unlimited));
    for budget in Budget::ALL {
        limits.bucket_mut(*budget).rate = Some(Rate::Unlimited);
    }
    config
}

/// `[limits]`, with what each was made from.
fn limits(survey: &Survey) -> String {
    let mut text = "[limits]\n".to_owned();
    let mut add = |name: &str, what: &str, seconds: &Seconds| {
        text.push_str(&match seconds.limit() {
            Some((rate, burst)) => format!(
                "# {what}: at most {} in a second as a rule, {} in the busiest\n{name} = {{ rate = \"{rate}\", burst = {burst} }}\n",
                seconds.usual(),
                seconds.most()
            ),
            None => format!("# {what}: none in this capture, so that the default stays\n# {name} = …\n"),
        });
    };
    add("per-source", "echo requests of one source", survey.sources());
    add("per-prefix", "echo requests of one network", survey.prefixes());
    add("replies", "all echo requests", survey.replies());
    for budget in Budget::ALL
        .iter()
        .filter(|budget| !matches!(budget, Budget::Replies | Budget::KnownSources | Budget::Unverified))
    {
        add(budget.name(), &format!("all {}", budget.name()), &survey.budget(*budget));
    }
    text
}
