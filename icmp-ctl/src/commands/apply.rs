//! `apply`, `confirm` and `rollback`: a whole policy from a file, put in force, kept or taken back.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::change::{Apply, SaveTo};
use crate::config::file::Config;
use crate::diagnostics::note;
use crate::instance::compiled::Compiled;
use crate::instance::maps::InstanceMaps;
use crate::instance::pins::{Instance, Pins, View};
use crate::kernel::requirements::{Purpose, prepare};
use crate::output::Output;
use crate::policy::difference::Difference;
use crate::policy::gates::say_unhealthy;
use crate::policy::saved::{Words, not_taken, other_interfaces};
use crate::policy::transaction::{self, Allowed, Keep, Proposal, Transaction, put_in_force, warn_all};

pub(super) fn run(args: &Apply) -> Result<Output> {
    let config = Config::load(Some(&args.config))?;
    let allowed = Allowed { breaks: &args.allow_break, empty: &args.allow_empty };
    let proposal = Proposal::of_file(&config, allowed, config.interfaces.first())?;
    if args.check
        && let Some([obstacle, _]) = Purpose::Use.obstacle()
    {
        warn_all(proposal.warnings());
        note(&format!(
            "the configuration is valid, and was not compared with the policy in force: {obstacle}"
        ));
        return Ok(Output::nothing());
    }
    prepare(Purpose::Use)?;
    let save = args.save.wanted(Words::Of(&config));
    let plan = |pins: &Pins, in_force: Option<&Compiled>| {
        let mut transaction = Transaction::plan(pins, in_force, proposal.clone())?;
        transaction.warnings.extend(not_taken(pins, &config, save));
        transaction.warnings.extend(other_interfaces(pins, &config)?);
        Ok(transaction)
    };
    let transaction = if args.check {
        let planned = View::look(|view| plan(view, view.read(InstanceMaps::policy)?.as_ref()))?;
        let Some(transaction) = planned else {
            warn_all(proposal.warnings());
            note("the configuration is valid; nothing is loaded here that it could be compared with");
            return Ok(Output::nothing());
        };
        warn_all(&transaction.warnings);
        transaction
    } else {
        let keep = args.confirm.map_or(Keep::Always, |time| Keep::IfConfirmedWithin(time.0));
        let transaction = put_in_force(keep, save, plan)?;
        say_unhealthy();
        transaction
    };
    if let Some(time) = args.confirm {
        note(&format!(
            "in force; in {} s the policy that was confirmed last comes back by itself, unless `icmp-ctl confirm` keeps this one; \
             `icmp-ctl rollback` takes it back at once",
            time.0.as_secs_f64()
        ));
    }
    let mut json = of_difference(&transaction.difference);
    json["applied"] = json!(!args.check);
    json["warnings"] = json!(transaction.warnings);
    json["confirm_within_seconds"] = json!(args.confirm.map(|time| time.0.as_secs_f64()));
    let lines = transaction.difference.lines();
    Ok(if args.check { Output::shown(json, lines) } else { Output::done(json, lines) })
}

pub(super) fn confirm(save: &SaveTo) -> Result<Output> {
    transaction::confirm(Instance::open()?, save.wanted(Words::OfFile))?;
    Ok(Output::done(json!({ "schema": 1, "confirmed": true }), vec!["confirmed".to_owned()]))
}

pub(super) fn rollback() -> Result<Output> {
    let difference = transaction::roll_back(Instance::open()?)?;
    Ok(Output::done(of_difference(&difference), difference.lines()))
}

fn of_difference(difference: &Difference) -> Value {
    json!({ "schema": 1, "removed": difference.removed, "added": difference.added })
}
