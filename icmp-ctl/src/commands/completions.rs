//! `completions`: the scripts by which shells complete command lines.
//!
//! Owns how a shell asks. The scripts have this program answer at each TAB (clap_complete), so that what is completed is what is here; what completes
//! which value is in `values.rs`.

mod values;

use std::env;

use anyhow::Result;
use clap::{Command, CommandFactory as _};
use clap_complete::CompleteEnv;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::cli::{Cli, Shell};
use crate::output::Output;

/// Has the shell's name where a shell asks; a variable that no other program takes for its own.
const VARIABLE: &str = "ICMP_CTL_COMPLETE";

/// zsh reads the file as a function when it is first needed, and wants an answer then, too.
const ZSH_FIRST_CALL: &str = "[[ $funcstack[1] = _icmp-ctl ]] && _clap_dynamic_completer_icmp_ctl \"$@\"";

/// The script for a shell.
pub(super) fn run(shell: Shell) -> Result<Output> {
    let (completer, last): (&dyn EnvCompleter, _) = match shell {
        Shell::Bash => (&Bash, ""),
        Shell::Zsh => (&Zsh, ZSH_FIRST_CALL),
        Shell::Fish => (&Fish, ""),
    };
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "icmp-ctl", "icmp-ctl", "icmp-ctl", &mut script)?;
    Ok(Output::text(&[&String::from_utf8_lossy(&script), last].concat()))
}

/// Answers a shell that asks; false where none does, and this is a command like any other.
///
/// # Errors
/// There is no completion for this shell, or standard output cannot be written.
pub fn answer() -> Result<bool> {
    let shell = CompleteEnv::with_factory(|| completed(Cli::command())).var(VARIABLE);
    Ok(shell.try_complete(env::args_os(), env::current_dir().ok().as_deref())?)
}

/// The command, with what completes its values.
fn completed(command: Command) -> Command {
    command.mut_args(values::completed).mut_subcommands(completed)
}

#[cfg(test)]
mod tests {
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
            assert_eq!(
                ways.iter().filter(|way| **way).count(),
                1,
                "{verb} {} {name}: {ways:?}",
                arg.get_id()
            );
        }
    }
}
