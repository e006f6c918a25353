//! What each verb does, one file a verb.
//!
//! A verb returns what there is to tell; whoever called it writes that.

mod addresses;
mod apply;
mod attach;
mod config;
mod counters;
mod detach;
mod doctor;
mod limit;
mod metrics;
mod policy;
mod rates;
mod rule;
mod rule_list;
mod serve;
mod show;
mod sources;
mod status;
mod table;
mod top;
mod upgrade;

use anyhow::Result;

use crate::cli::{Cli, LimitVerb, Verb};
use crate::config::file::Config;
use crate::kernel::requirements::{Purpose, prepare};
use crate::output::Output;

/// Runs what was typed.
///
/// # Errors
/// What the verb could not do, with the exit code where it has one of its own.
pub fn run(cli: &Cli) -> Result<Output> {
    // A configuration is read where the user sees it: `prepare` may change the mount namespace.
    match &cli.verb {
        Verb::Attach(args) => {
            let config = Config::load(args.config.as_deref());
            // What is named is meant; what lies at the usual place may not be needed.
            let config = if args.config.is_some() { Ok(config?) } else { config };
            prepare(Purpose::Attach)?;
            attach::run(args, config)
        }
        Verb::Serve(args) => {
            prepare(Purpose::Attach)?;
            serve::run(args)
        }
        Verb::Detach(args) => {
            prepare(Purpose::Use)?;
            detach::run(args)
        }
        Verb::Upgrade { check } => {
            prepare(Purpose::Attach)?;
            upgrade::run(*check)
        }
        Verb::Doctor(only) => doctor::run(&only.interfaces),
        Verb::Status(only) => {
            prepare(Purpose::Use)?;
            status::run(&only.interfaces)
        }
        Verb::Show(what) => {
            prepare(Purpose::Use)?;
            show::run(what, cli)
        }
        Verb::Top(args) => {
            prepare(Purpose::Use)?;
            top::run(args.interval, cli.json)
        }
        Verb::Apply(args) => apply::run(args),
        Verb::Confirm(save) => {
            prepare(Purpose::Use)?;
            apply::confirm(save)
        }
        Verb::Rollback => {
            prepare(Purpose::Use)?;
            apply::rollback()
        }
        Verb::Rule(what) => {
            prepare(Purpose::Use)?;
            rule::run(what)
        }
        Verb::Limit(verb) => {
            prepare(Purpose::Use)?;
            match verb {
                LimitVerb::Set(args) => limit::set(args),
                LimitVerb::Show => limit::show(),
            }
        }
    }
}
