//! The verbs, one file each.
//!
//! A verb returns its output; the caller writes it.

mod addresses;
mod apply;
mod attach;
mod capture;
pub mod completions;
mod config;
mod counters;
mod detach;
mod doctor;
mod endpoints;
mod explain;
mod limit;
mod look;
mod man;
mod metrics;
mod monitor;
mod peers;
mod policy;
mod rates;
mod reasons;
mod replay;
mod rule;
mod rule_list;
mod serve;
mod show;
mod sources;
mod status;
mod suggest;
mod table;
mod top;
mod upgrade;

use std::ffi::OsString;

use anyhow::Result;

use crate::cli::change::{LimitVerb, Rule};
use crate::cli::look::Show;
use crate::cli::{Cli, Verb};
use crate::config::file::Config;
use crate::kernel::requirements::{Purpose, prepare};
use crate::observe::readers::Source;
use crate::output::Output;

/// Runs what was typed, which is given as words, too: it may be another process that does it.
///
/// # Errors
/// What the verb could not do, with the exit code where it has one of its own.
pub fn run(cli: &Cli, words: &[OsString]) -> Result<Output> {
    // A configuration is read where the user sees it: `prepare` may change the mount namespace.
    match &cli.verb {
        Verb::Attach(args) => {
            let config = Config::load(args.config.as_deref());
            // What is named is meant; what lies at the usual place may not be needed.
            let config = if args.config.is_some() { Ok(config?) } else { config };
            prepare(Purpose::Attach)?;
            attach::run(args, config)
        }
        Verb::Serve(args) => prepare(Purpose::Attach).and_then(|()| serve::run(args)),
        Verb::Detach(args) => prepare(Purpose::Use).and_then(|()| detach::run(args)),
        Verb::Upgrade { check } => prepare(Purpose::Attach).and_then(|()| upgrade::run(*check)),
        Verb::Doctor(only) => doctor::run(&only.interfaces),
        Verb::Top(args) => top::run(args.interval, cli.json, Source::of_this_process()?),
        Verb::Monitor => monitor::run(cli.json, Source::of_this_process()?),
        Verb::Show(Show::Counters(args)) if args.is_of_a_time() => {
            rates::show(args, cli.json, Source::of_this_process()?)
        }
        Verb::Show(what @ Show::Metrics { textfile: Some(_) }) => {
            prepare(Purpose::Use).and_then(|()| show::run(what, cli.verbose))
        }
        Verb::Status(_)
        | Verb::Show(_)
        | Verb::Peers(_)
        | Verb::Rule(Rule::List)
        | Verb::Limit(LimitVerb::Show) => look::from(Source::of_this_process()?, cli, words),
        Verb::Apply(args) => apply::run(args),
        Verb::Explain(args) => explain::run(args),
        Verb::Capture(args) => prepare(Purpose::Use).and_then(|()| capture::run(args)),
        Verb::Replay(args) => replay::run(args),
        Verb::Suggest(args) => suggest::run(args),
        Verb::Completions { shell } => completions::run(*shell),
        Verb::Man { folder } => man::run(folder),
        Verb::Confirm(save) => prepare(Purpose::Use).and_then(|()| apply::confirm(save)),
        Verb::Rollback => prepare(Purpose::Use).and_then(|()| apply::rollback()),
        Verb::Rule(what) => prepare(Purpose::Use).and_then(|()| rule::run(what)),
        Verb::Limit(LimitVerb::Set(args)) => prepare(Purpose::Use).and_then(|()| limit::set(args)),
    }
}
