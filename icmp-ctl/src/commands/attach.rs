//! `attach`: loads the program if it is not, attaches it to interfaces, pins the links, returns.

use anyhow::Result;
use serde_json::json;

use crate::cli::Attach;
use crate::config::file::Config;
use crate::instance::attach::Attached;
use crate::output::Output;
use crate::policy::transaction::{attach_all, check};

pub(super) fn run(args: &Attach, config: &Config) -> Result<Output> {
    let checked = check(config, &args.allow_break, args.interfaces.first())?;
    let done = attach_all(
        &args.interfaces,
        args.mode,
        args.disable_rx_vlan_offload,
        args.config.is_some(),
        config,
        &checked,
    )?;
    Ok(Output::done(
        json!({ "schema": 1, "interfaces": done.iter().map(Attached::json).collect::<Vec<_>>() }),
        done.iter().map(Attached::text).collect(),
    ))
}
