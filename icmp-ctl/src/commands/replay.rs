//! `replay`: what a policy would have done to a capture.

mod in_json;
pub(super) mod left_out;
pub(super) mod own;
pub(super) mod text;

use anyhow::Result;

use crate::capture::read::Capture;
use crate::capture::write::Writer;
use crate::cli::packets::Replay as Args;
use crate::config::file::Config;
use crate::diagnostics::{progress, warn};
use crate::failure::{Exit, Failure, sentence};
use crate::host::address_table::no_room;
use crate::instance::compiled::Compiled;
use crate::kernel::clock::Tick;
use crate::kernel::files::is_standard_stream;
use crate::output::Output;
use crate::policy::of_file::compiled_to_look_at;
use crate::replay::files::{read_by, refuse_overwriting, refuse_streams};
use crate::replay::own::Own;
use crate::replay::plot::Plot;
use crate::replay::run::{Replay, Side};

pub(super) fn run(args: &Args) -> Result<Output> {
    refuse_streams(&args.file)?;
    let (config, against) = configurations(args)?;
    let first = policy(&config)?;
    let second = against.as_ref().map(policy).transpose()?;
    let mut capture = Capture::open(&args.file)?;
    let own = Own::look(&args.file, &args.own)?;
    let policies: Vec<_> = [&first].into_iter().chain(&second).map(|(policy, _)| policy).collect();
    own::say(&own, &policies);
    let mut answers = args.write_answers.as_deref().map(Writer::create).transpose()?;
    answers.iter_mut().try_for_each(|answers| answers.interface(None, 0).map(drop))?;
    let plot = args.plot.as_deref().map(Plot::create).transpose()?;
    let side = |(policy, lines)| Side { policy, lines };
    let tick = Tick::of_this_kernel()?;
    let (mut replay, left_out) = Replay::new(
        own,
        tick,
        &side((&first.0, first.1)),
        second.as_ref().map(|(policy, lines)| side((policy, *lines))).as_ref(),
        answers,
    );
    let bar = progress(capture.progress().1);
    let read = replay.run(&mut capture, |read, _| bar.set_position(read));
    bar.finish_and_clear();
    if let Some(text) = no_room(left_out) {
        warn(&text);
    }
    let drawn = plot.map_or(Ok(()), |plot| plot.draw(replay.timeline()));
    let done = [read, replay.close_answers(), drawn];
    let failures = done.iter().filter_map(|done| Some(sentence(done.as_ref().err()?)));
    let failures: Vec<_> = failures.chain(replay.frames.none_is_read()).collect();
    let output = Output::shown(in_json::in_json(&replay), text::lines(&replay));
    Ok(if failures.is_empty() { output } else { output.failing(failures.join("; ")) })
}

/// Both configurations, neither of which is written to, nor is what else is read.
fn configurations(args: &Args) -> Result<(Config, Option<Config>)> {
    let against = args.against.as_deref();
    if is_standard_stream(&args.config) && against == Some(&args.config) {
        let text = "standard input can be read once: `-f` or `--against` has to name a file";
        return Err(Failure::error(Exit::Usage, text));
    }
    let config = Config::load(Some(&args.config))?;
    let second = against.map(|path| Config::load(Some(path))).transpose()?;
    let read = read_by(&args.file, std::iter::once(&config).chain(&second));
    let written = [("--write-answers", args.write_answers.as_deref()), ("--plot", args.plot.as_deref())];
    refuse_overwriting(&read, written)?;
    Ok((config, second))
}

/// A configuration compiled as `apply` does, and the lines of its limiter.
fn policy(config: &Config) -> Result<(Compiled, u32)> {
    Ok((compiled_to_look_at(config, config.interfaces.first())?, config.limits.memory.lines()))
}
