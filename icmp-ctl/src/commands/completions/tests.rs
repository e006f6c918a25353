//! Owns that each value that can be known is completed.

use clap::builder::PossibleValue;

use super::*;

/// Values that nobody can know before they are typed.
const FREE: &[&str] = &[
    "ADDRESS",
    "BURST",
    "BYTES",
    "DIGITS",
    "HOP_LIMIT",
    "LENGTH",
    "N",
    "NAME",
    "NUMBER",
    "PACKETS",
    "PEER",
    "PREFIX",
    "RATE",
    "TIME",
    "VLAN",
];

fn all(command: &Command, to: &mut Vec<(String, clap::Arg)>) {
    to.extend(command.get_arguments().map(|arg| (command.get_name().to_owned(), arg.clone())));
    command.get_subcommands().for_each(|command| all(command, to));
}

#[test]
fn each_value_is_completed_or_is_one_that_nobody_can_know() {
    let mut args = Vec::new();
    all(&completed(Cli::command()), &mut args);
    assert!(args.len() > 50, "{}", args.len());
    for (verb, arg) in args.iter().filter(|(_, arg)| arg.get_action().takes_values()) {
        let name = values::value_name(arg);
        let files = arg.get_value_hint() != clap::ValueHint::Unknown;
        let known: Vec<PossibleValue> = arg.get_possible_values();
        let ways = [FREE.contains(&name), values::names(name).is_some(), files, !known.is_empty()];
        assert_eq!(ways.iter().filter(|way| **way).count(), 1, "{verb} {} {name}: {ways:?}", arg.get_id());
    }
}
