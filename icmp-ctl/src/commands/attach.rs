//! `attach`: loads the program if it is not, attaches it to interfaces, pins the links, returns.

use anyhow::Result;
use serde_json::json;

use crate::cli::Attach;
use crate::config::file::Config;
use crate::diagnostics::note;
use crate::instance::attach::Attached;
use crate::kernel::clock::Tick;
use crate::output::Output;
use crate::policy::limits::summary;
use crate::policy::start::{Started, Wanted, start};
use crate::policy::transaction::{Allowed, Proposal};

pub(super) fn run(args: &Attach, config: &Config) -> Result<Output> {
    let allowed = Allowed { breaks: &args.allow_break, empty: &args.allow_empty };
    let proposal = Proposal::of_file(config, allowed, args.interfaces.first())?;
    let wanted = Wanted {
        interfaces: &args.interfaces,
        mode: args.mode,
        keep_tags: args.disable_rx_vlan_offload,
        reconfigure: args.config.is_some(),
    };
    let Some(started) = start(wanted, config, proposal)? else { return Ok(Output::nothing()) };
    let Started { attached, difference, loaded, settings } = &started;
    let from = if *loaded || wanted.reconfigure { config.origin() } else { "what was in force" };
    note(&format!(
        "limits, from {from}: {}; `icmp-ctl limit set per-source RATE` changes one, `icmp-ctl apply -f FILE` all",
        summary(settings, Tick::of_this_kernel()?)
    ));
    let interfaces: Vec<_> = attached.iter().map(Attached::json).collect();
    let mut json = json!({ "schema": 1, "interfaces": interfaces });
    let mut lines: Vec<_> = attached.iter().map(Attached::text).collect();
    if let Some(difference) = difference {
        json["removed"] = json!(difference.removed);
        json["added"] = json!(difference.added);
        lines.extend(difference.lines());
    }
    Ok(Output::done(json, lines))
}
