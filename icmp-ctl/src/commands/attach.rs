//! `attach`: loads the program if it is not, attaches it to interfaces, pins the links, returns.

use anyhow::Result;
use serde_json::json;

use crate::cli::Attach;
use crate::config::file::Config;
use crate::instance::attach::Attached;
use crate::policy::transaction::{attach_all, check};

pub(super) fn run(args: &Attach, config: &Config, json: bool) -> Result<()> {
    let checked = check(config, &args.allow_break, args.interfaces.first())?;
    let done = attach_all(
        &args.interfaces,
        args.mode,
        args.disable_rx_vlan_offload,
        args.config.is_some(),
        config,
        &checked,
    )?;
    if json {
        println!(
            "{}",
            json!({ "schema": 1, "interfaces": done.iter().map(Attached::json).collect::<Vec<_>>() })
        );
    } else {
        for attached in &done {
            println!("{}", attached.text());
        }
    }
    Ok(())
}
