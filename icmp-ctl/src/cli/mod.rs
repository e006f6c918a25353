//! The command line: verbs, options, and their help.
//!
//! Owns the shape of the command line only; `commands` has what the verbs do.

pub mod change;
pub mod look;
pub mod packets;
pub mod parse;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cli::change::{Apply, Attach, Detach, LimitVerb, Rule, SaveTo};
use crate::cli::look::{Interfaces, Peers, Show, Top};
use crate::cli::packets::{Capture, Explain, Replay, Suggest};

/// Where the options of all verbs stand in help: behind a verb's own.
const LAST: usize = 900;

/// Answers pings inside the network driver, limits ICMP, and shows counters and events.
#[derive(Debug, Parser)]
#[command(name = "icmp-ctl", version = crate::instance::program::BUILD, arg_required_else_help = true, max_term_width = 80)]
pub struct Cli {
    /// Print JSON instead of text
    #[arg(short, long, global = true, display_order = LAST)]
    pub json: bool,
    /// Print more: the clauses behind a policy, the verifier's log
    #[arg(short, long, global = true, display_order = LAST)]
    pub verbose: bool,
    /// The verb
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Load the program, attach it to interfaces, pin it, and return
    Attach(Attach),
    /// Take the program off interfaces; the last one removes it
    Detach(Detach),
    /// Replace the loaded program with that of this icmp-ctl; limits, counters, rules and policy stay
    Upgrade {
        /// Only print what would be done
        #[arg(long)]
        check: bool,
    },
    /// Put a whole configuration in force at one instant
    Apply(Apply),
    /// Keep the policy that `apply --confirm` put in force
    Confirm(SaveTo),
    /// Take back the policy that `apply --confirm` put in force, before its time is over
    Rollback,
    /// Show the attached interfaces and their state
    Status(Interfaces),
    /// List what would stop the program here or slow it, each with the command that helps; exit code 1 if anything is broken
    Doctor(Interfaces),
    /// Show policy, addresses, counters, limits, configuration, metrics or sources
    #[command(subcommand)]
    Show(Show),
    /// Show rates, budgets, types and sources live, on a screen of its own
    Top(Top),
    /// Print events as they happen: floods, pressure, changes of policy, interfaces, addresses and VIPs
    Monitor,
    /// Show the hosts that ping this one, and the loss, duplication, reordering and jitter of the path from each
    Peers(Peers),
    /// List rules, or change one of them
    #[command(subcommand)]
    Rule(Rule),
    /// Show or change limits
    #[command(subcommand)]
    Limit(LimitVerb),
    /// Explain how one packet is treated here, stage by stage; it is not counted, and charged to no limit
    Explain(Explain),
    /// Capture frames, each with the program's decision, also answered and dropped ones
    Capture(Capture),
    /// Run a capture through a configuration, and print the result; needs no privilege, and loads nothing
    Replay(Replay),
    /// Suggest limits that would not have stopped the normal traffic of a capture, as a configuration
    Suggest(Suggest),
    /// Follow addresses and serve Prometheus metrics; the program works without it
    Serve(Serve),
    /// Print the script by which a shell completes these command lines
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages of these verbs and of the configuration to a folder
    Man {
        /// The folder, which is made if it does not exist
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Configuration [default: /etc/icmp-ctl/config.toml if it exists]
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// First replace the program of another build, as `upgrade` does
    #[arg(long)]
    pub upgrade: bool,
    /// Read the configuration again when its text has changed, within ten seconds
    #[arg(long)]
    pub reload_on_change: bool,
}

/// Shells that command lines can be completed in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    /// As /usr/share/bash-completion/completions/icmp-ctl
    Bash,
    /// As _icmp-ctl in a folder of fpath
    Zsh,
    /// As icmp-ctl.fish in a folder of fish's completions
    Fish,
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    use super::*;

    /// Has each verb, and each below one, looked at with its name.
    fn each_verb(command: &mut Command, look: &mut impl FnMut(&str, &mut Command)) {
        for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
            let name = verb.get_name().to_owned();
            look(&name, verb);
            each_verb(verb, look);
        }
    }

    #[test]
    fn help_fits_a_terminal_and_has_the_options_of_all_verbs_behind_a_verbs_own() {
        let mut command = Cli::command();
        command.build();
        each_verb(&mut command, &mut |name, verb| {
            let help = verb.render_help().to_string();
            for line in help.lines().filter(|line| !line.starts_with("Usage:")) {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
            let options = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
            let names = options.filter_map(|line| line.split_once("--")?.1.split(' ').next());
            let last: Vec<_> = names.rev().take(3).collect();
            assert!(last == ["help", "verbose", "json"], "{name}: {last:?} {help}");
        });
    }

    #[test]
    fn what_is_missing_is_named_with_all_that_may_be_given() {
        for (line, options) in [("attach", ["<IFACE", "--file"]), ("detach", ["<IFACE", "--all"])] {
            let error = Cli::try_parse_from(["icmp-ctl", line]).expect_err("nothing is named").to_string();
            assert!(options.iter().all(|option| error.contains(option)), "{error}");
        }
    }
}
