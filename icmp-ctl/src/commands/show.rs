//! `show`: its subjects, one file each.

use anyhow::Result;

use super::{addresses, config, counters, limit, metrics, policy, sources};
use crate::cli::look::Show;
use crate::output::Output;

pub(super) fn run(what: &Show, verbose: bool) -> Result<Output> {
    match what {
        Show::Policy(args) => policy::run(args, verbose),
        Show::Addresses => addresses::show(),
        Show::Counters(args) => counters::show(&args.interfaces),
        Show::Limits => limit::show(),
        Show::Config => config::show(),
        Show::Metrics { textfile } => metrics::show(textfile.as_deref()),
        Show::Sources { top } => sources::show(*top),
    }
}
