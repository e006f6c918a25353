//! `apply` and `confirm`: a whole policy from a file, validated first and put in force at one instant.

use anyhow::{Result, bail};
use serde_json::json;

use crate::cli::Apply;
use crate::config::file::Config;
use crate::diagnostics::note;
use crate::host::defaults::HostDefaults;
use crate::host::netlink::Network;
use crate::instance::pins::Instance;
use crate::kernel::clock::Tick;
use crate::output::Output;
use crate::policy::difference::{describe, difference};
use crate::policy::transaction::{Checked, warn_all};

pub(super) fn run(args: &Apply, config: &Config, checked: &mut Checked) -> Result<Output> {
    warn_all(&checked.warnings);
    let instance = if args.check { Instance::find()? } else { Some(Instance::open()?) };
    let Some(mut instance) = instance else {
        note("the configuration is valid; nothing is loaded here that it could be compared with");
        return Ok(Output::nothing());
    };
    if config.responder.hop_limit.is_none() && config.interfaces.is_empty() {
        // The file does not say whose hop limit is meant: that of what is attached.
        let attached = instance.links()?.first().map(|pin| pin.ifindex);
        let network = Network::read_once()?;
        let link = network.links.iter().find(|link| Some(link.index) == attached);
        checked.policy.settings.hop_limit =
            u32::from(HostDefaults::read(link.map(|link| &link.name)).hop_limit);
    }
    let tick = Tick::of_this_kernel()?;
    let before = instance.maps.policy()?.map(|policy| describe(&policy, tick)).unwrap_or_default();
    let after = describe(&checked.policy, tick);
    let (removed, added) = difference(&before, &after);
    if !args.check {
        instance.maps.switch_policy(&checked.policy, args.confirm.map(|within| within.0))?;
    }
    if let Some(within) = args.confirm {
        note(&format!(
            "in force; in {} s the policy before it comes back by itself, unless `icmp-ctl confirm` keeps this one",
            within.0.as_secs_f64()
        ));
    }
    let mut lines: Vec<_> = removed.iter().map(|line| format!("- {line}")).collect();
    lines.extend(added.iter().map(|line| format!("+ {line}")));
    let json = json!({ "schema": 1, "applied": !args.check, "removed": removed, "added": added, "warnings": checked.warnings,
                       "confirm_within_seconds": args.confirm.map(|within| within.0.as_secs_f64()) });
    Ok(if args.check { Output::shown(json, lines) } else { Output::done(json, lines) })
}

pub(super) fn confirm() -> Result<Output> {
    let mut instance = Instance::open()?;
    if !instance.maps.confirm()? {
        bail!(
            "nothing awaits confirmation: it was confirmed, or not confirmed in time and rolled back; `icmp-ctl show policy` tells what \
             is in force"
        );
    }
    Ok(Output::done(json!({ "schema": 1, "confirmed": true }), vec!["confirmed".to_owned()]))
}
