//! `completions`: the scripts by which shells complete command lines.
//!
//! Owns the question of a shell. The scripts run this program at each TAB (clap_complete), so they complete what exists on this host;
//! `values.rs` has what completes which value.

mod values;

use std::env;

use anyhow::Result;
use clap::{Command, CommandFactory as _};
use clap_complete::CompleteEnv;
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use serde_json::json;

use crate::cli::{Cli, Shell};
use crate::output::Output;

/// Has the shell's name where a shell asks; a variable that no other program takes for its own.
const VARIABLE: &str = "ICMP_CTL_COMPLETE";

/// Registered in the place of what clap has for bash: what is found there is split where it should not be, expanded like patterns, and put on the
/// command line as it is. A word that is in quotes already is left to them.
const BASH_QUOTED: &str = include_str!("completions/quoted.bash");

/// zsh reads the file as a function when it is first needed, and wants an answer then, too.
const ZSH_FIRST_CALL: &str = "[[ $funcstack[1] = _icmp-ctl ]] && _clap_dynamic_completer_icmp_ctl \"$@\"";

/// The script for a shell.
pub(super) fn run(shell: Shell) -> Result<Output> {
    let completer: &dyn EnvCompleter = match shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, "icmp-ctl", "icmp-ctl", "icmp-ctl", &mut script)?;
    let script = String::from_utf8_lossy(&script);
    let script = script.trim();
    let script = match shell {
        Shell::Bash => BASH_QUOTED.to_owned() + &script.replace("-F _clap_complete_icmp_ctl", "-F _icmp_ctl"),
        Shell::Zsh => format!("{script}\n{ZSH_FIRST_CALL}"),
        Shell::Fish => script.to_owned(),
    };
    let json = json!({ "schema": 1, "script": format!("{script}\n") });
    Ok(Output::shown(json, vec![script]))
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
mod tests;
