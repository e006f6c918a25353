//! `show`: what it can show, a file each.

use anyhow::Result;

use super::{addresses, config, counters, limit, metrics, policy, rates, sources};
use crate::cli::{Cli, Show};
use crate::output::Output;

pub(super) fn run(what: &Show, cli: &Cli) -> Result<Output> {
    match what {
        Show::Policy(args) => policy::run(args, cli.verbose),
        Show::Addresses => addresses::show(),
        Show::Counters(args) if args.watch || args.rate.is_some() => rates::show(args, cli.json),
        Show::Counters(args) => counters::show(&args.interfaces),
        Show::Limits => limit::show(),
        Show::Config => config::show(),
        Show::Metrics { textfile } => metrics::show(textfile.as_deref()),
        Show::Sources { top } => sources::show(*top),
    }
}
