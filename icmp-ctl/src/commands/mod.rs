//! What each verb does, one file a verb.
//!
//! Data goes to stdout, everything else to stderr.

mod addresses;
mod apply;
mod attach;
mod counters;
mod detach;
mod limit;
mod policy;
mod rule;
mod rule_list;
mod serve;

mod sources;
mod status;

use anyhow::Result;

use crate::cli::{Cli, LimitVerb, Show, Verb};
use crate::config::file::Config;
use crate::host::netlink::event_loop;
use crate::kernel::requirements::prepare;
use crate::policy::transaction::{check, warn_all};

/// Runs what was typed.
///
/// # Errors
/// What the verb could not do, with the exit code where it has one of its own.
pub fn run(cli: &Cli) -> Result<()> {
    // A configuration is read where the user sees it: `prepare` may change the mount namespace.
    match &cli.verb {
        Verb::Attach(args) => {
            let config = Config::load(args.config.as_deref())?;
            prepare()?;
            attach::run(args, &config, cli.json)
        }
        Verb::Serve(args) => {
            let config = Config::load(args.config.as_deref())?;
            prepare()?;
            event_loop()?.block_on(serve::run(&config, args.config.is_some()))
        }
        Verb::Detach(args) => {
            prepare()?;
            detach::run(args, cli.json)
        }
        Verb::Status => {
            prepare()?;
            status::run(cli.json)
        }
        Verb::Show(what) => {
            prepare()?;
            match what {
                Show::Policy(args) => policy::run(args, cli.json),
                Show::Addresses => addresses::show(cli.json),
                Show::Counters => counters::show(cli.json),
                Show::Limits => limit::show(cli.json),
                Show::Sources { top } => sources::show(*top, cli.json),
            }
        }
        Verb::Apply(args) => {
            let config = Config::load(Some(&args.config))?;
            let mut checked = check(&config, &args.allow_break, config.interfaces.first())?;
            if args.check && !nix::unistd::geteuid().is_root() {
                warn_all(&checked.warnings);
                eprintln!(
                    "icmp-ctl: the configuration is valid; only root can compare it with what is in force"
                );
                return Ok(());
            }
            prepare()?;
            apply::run(args, &config, &mut checked, cli.json)
        }
        Verb::Confirm => {
            prepare()?;
            apply::confirm(cli.json)
        }
        Verb::Rule(what) => {
            prepare()?;
            rule::run(what, cli.json)
        }
        Verb::Limit(verb) => {
            prepare()?;
            match verb {
                LimitVerb::Set(args) => limit::set(args, cli.json),
                LimitVerb::Show => limit::show(cli.json),
            }
        }
    }
}
