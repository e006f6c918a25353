//! `suggest`: limits that would not have stopped any packet of a capture, as a configuration.

use anyhow::{Context as _, Result};
use icmp_common::types::Budget;
use serde_json::json;

use super::replay::left_out::untimed;
use crate::capture::read::Capture;
use crate::cli::packets::Suggest as Args;
use crate::config::file::Config;
use crate::config::units::Rate;
use crate::diagnostics::{count, progress, warn};
use crate::failure::sentence;
use crate::kernel::clock::Tick;
use crate::output::Output;
use crate::policy::of_file::compiled;
use crate::replay::files::refuse_streams;
use crate::replay::own::Own;
use crate::replay::suggestion::Suggestion;
use crate::replay::survey::{HEADROOM, PER_MILLE, Survey};

/// Shorter captures miss what happens once a day.
const WANTED_SECONDS: u64 = 86_400;

pub(super) fn run(args: &Args) -> Result<Output> {
    refuse_streams(&args.file)?;
    let own = Own::look(&args.file, &args.own)?;
    super::replay::own::say(&own, &[]);
    let tick = Tick::of_this_kernel()?;
    let mut survey = Survey::new(own, tick, compiled(&unlimited(), None)?);
    let mut capture = Capture::open(&args.file)?;
    let bar = progress(capture.progress().1);
    let read = survey.run(&mut capture, |read, _| bar.set_position(read));
    bar.finish_and_clear();
    if survey.frames.untimed > 0 {
        warn(&untimed(survey.frames.untimed));
    }
    let seconds = survey.frames.time().1 / 1_000_000_000;
    if seconds < WANTED_SECONDS {
        warn(&format!(
            "the capture is {seconds} s long; limits are best made from a day and more of normal traffic, with whatever runs once a day in it"
        ));
    }
    let mut suggestion = Suggestion::of(&survey);
    let limited = loop {
        let config = Config::parse(&suggestion.text(), "what is suggested").context("suggesting limits")?;
        let mut capture = Capture::open(&args.file)?;
        let (policy, lines) = (compiled(&config, None)?, config.limits.memory.lines());
        let limited = survey.limited_under(&mut capture, tick, &policy, lines);
        if !suggestion.raise(&limited) {
            break limited;
        }
    };
    if let Some(left) = suggestion.left(&limited) {
        warn(&left);
    }
    let limited: u64 = limited.values().sum();
    let heading = format!(
        "# Suggested by `icmp-ctl suggest` from {} in {seconds} s, taken for normal traffic.\n\
         # Each rate is {HEADROOM} times what all but one in {} seconds have of its kind (those in which there is any), each burst\n\
         # {HEADROOM} times what the busiest second has. Under these limits {limited} of these packets would have been limited.\n",
        count(survey.frames.seen, "packet", "packets"),
        1000 / (1000 - PER_MILLE)
    );
    let text = format!("{heading}{}", suggestion.text());
    let lines = text.lines().map(str::to_owned).collect();
    let json = json!({
        "schema": 1, "config": text, "seconds": seconds, "received": survey.frames.seen, "limited": limited,
    });
    let output = Output::shown(json, lines);
    let failure = read.err().map(|error| sentence(&error)).or_else(|| survey.frames.none_is_read());
    Ok(match failure {
        None => output,
        Some(why) => output.failing(why),
    })
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
