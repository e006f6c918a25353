//! What users type: verbs, options, and their help.
//!
//! Owns the shape of the command line only; what a verb does is in `commands`.

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

/// Answers pings inside the network driver, and shows what it does.
#[derive(Debug, Parser)]
#[command(name = "icmp-ctl", version = crate::instance::program::BUILD, arg_required_else_help = true, max_term_width = 80)]
pub struct Cli {
    /// Print JSON instead of text
    #[arg(short, long, global = true, display_order = LAST)]
    pub json: bool,
    /// Say more: the clauses behind a policy, the verifier's log
    #[arg(short, long, global = true, display_order = LAST)]
    pub verbose: bool,
    /// What to do
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
    /// Put the program of this icmp-ctl in the place of the one that is loaded; limits, counters, rules and policy stay
    Upgrade {
        /// Only say what would be done
        #[arg(long)]
        check: bool,
    },
    /// Put a whole configuration in force at one instant
    Apply(Apply),
    /// Keep what `apply --confirm` put in force
    Confirm(SaveTo),
    /// Take back what `apply --confirm` put in force, before its time is over
    Rollback,
    /// Show what is attached where, and how it is
    Status(Interfaces),
    /// Say what would stop the program here or slow it, each with what helps; exit code 1 if something is broken
    Doctor(Interfaces),
    /// Show what is in force
    #[command(subcommand)]
    Show(Show),
    /// Watch what happens, on a screen of its own
    Top(Top),
    /// Tell of events as they happen: floods, pressure, changes of policy, interfaces, addresses and VIPs
    Monitor,
    /// Show who pings this host, and the loss, duplication, reordering and jitter of their path to here
    Peers(Peers),
    /// Show and change the rules one at a time
    #[command(subcommand)]
    Rule(Rule),
    /// Show or change limits
    #[command(subcommand)]
    Limit(LimitVerb),
    /// Say what becomes of one packet here and why, stage by stage; nothing is counted or charged for it
    Explain(Explain),
    /// Capture frames with what the program has decided about each, also those it answers and drops
    Capture(Capture),
    /// Say what a configuration would have done to a capture; needs no privilege, and loads nothing
    Replay(Replay),
    /// Suggest limits that would not have hurt the normal traffic of a capture, as a configuration
    Suggest(Suggest),
    /// Follow addresses and serve Prometheus metrics; the program goes on without it
    Serve(Serve),
    /// Print the script by which a shell completes these command lines
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the manual pages of these verbs and of the configuration to a folder
    Man {
        /// The folder, which is made where there is none
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Configuration [default: /etc/icmp-ctl/config.toml where it exists]
    #[arg(short = 'f', long = "file", value_name = "CONFIG")]
    pub config: Option<PathBuf>,
    /// First put this program in the place of one that another build has loaded, as `upgrade` does
    #[arg(long)]
    pub upgrade: bool,
    /// Read the configuration again by itself when its text has changed, within ten seconds
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
