//! `attach`: loads the program if it is not, attaches it to interfaces, pins the links, returns.

use anyhow::Result;
use serde_json::json;

use crate::cli::change::Attach;
use crate::config::file::Config;
use crate::diagnostics::note;
use crate::failure::{Exit, Failure};
use crate::instance::addresses::say_prefixes_left;
use crate::instance::attach::Attached;
use crate::kernel::clock::Tick;
use crate::output::Output;
use crate::policy::gates::say_unhealthy;
use crate::policy::limits::summary;
use crate::policy::start::{Configured, Started, Wanted, start};
use crate::policy::transaction::Allowed;

pub(super) fn run(args: &Attach, config: Result<Config>) -> Result<Output> {
    let allowed = Allowed { breaks: &args.allow_break, empty: &args.allow_empty };
    let origin = config.as_ref().ok().map(|config| config.origin().to_owned());
    let named = config.as_ref().map(|config| config.interfaces.clone()).unwrap_or_default();
    let interfaces = if args.interfaces.is_empty() { &named } else { &args.interfaces };
    if interfaces.is_empty() {
        return Err(Failure::error(
            Exit::Usage,
            "the configuration names no `interfaces` to attach to; `icmp-ctl attach IFACE -f CONFIG` does",
        ));
    }
    let configured = || config.and_then(|config| Configured::new(config, allowed, interfaces.first()));
    let wanted = Wanted {
        mode: args.mode,
        chain: args.chain,
        keep_tags: args.disable_rx_vlan_offload,
        reconfigure: args.config.is_some(),
        ..Wanted::on(interfaces)
    };
    let tick = Tick::of_this_kernel()?;
    let Some(started) = start(wanted, configured)? else { return Ok(Output::nothing()) };
    let Started { attached, difference, loaded, settings } = &started;
    let from = origin.as_deref().filter(|_| *loaded || wanted.reconfigure).unwrap_or("what was in force");
    note(&format!(
        "limits, from {from}: {}; `icmp-ctl limit set per-source RATE` changes one, `icmp-ctl apply -f FILE` all",
        summary(settings, tick)
    ));
    note(
        "addresses, MAC addresses and VLANs are followed while `icmp-ctl serve` runs; without it, a change counts when `icmp-ctl attach` or \
         `icmp-ctl apply` is run again",
    );
    say_unhealthy();
    say_prefixes_left();
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
