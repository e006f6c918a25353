//! Reads a command line, and shortens clap's messages to the part that helps.
//!
//! Does not own what can be typed: that is in `cli/mod.rs` and the files beside it.

use std::ffi::OsString;

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::Cli;
use crate::config::suggestions;
use crate::failure::{Exit, Failure};

/// What a command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// A verb.
    Run(Box<Cli>),
    /// This text: the help, or the version.
    Text(String),
}

/// Reads a command line; the first argument is the program.
///
/// # Errors
/// It cannot be understood ([`Exit::Usage`]).
pub fn parse(arguments: &[OsString]) -> anyhow::Result<Asked> {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => Ok(Asked::Run(Box::new(cli))),
        Err(error) if error.use_stderr() => {
            let text = keep_helpful(error).render().to_string();
            Err(Failure::error(Exit::Usage, text.trim_start_matches("error: ").trim_end()))
        }
        Err(text) => Ok(Asked::Text(text.render().to_string())),
    }
}

/// Leaves of clap's suggestions those that help. It takes `monitor` for `confirm`, and an option that there is not for a value.
fn keep_helpful(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::UnknownArgument {
        let takes_interfaces = |usage: &ContextValue| usage.to_string().contains("IFACE");
        let is_interface = matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(option)) if option == "-i" || option == "--interface");
        let _value = error.remove(ContextKind::Suggested);
        if is_interface && error.get(ContextKind::Usage).is_some_and(takes_interfaces) {
            let tip = "interfaces are named without an option, where the usage has IFACE";
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
    }
    for (typed, suggested) in [
        (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
        (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    ] {
        let Some(ContextValue::String(typed)) = error.get(typed).cloned() else { continue };
        let similar = |names: &[String]| -> Vec<String> {
            suggestions::similar(&typed, names.iter().map(String::as_str))
                .into_iter()
                .map(str::to_owned)
                .collect()
        };
        let left = match error.remove(suggested) {
            Some(ContextValue::Strings(names)) => similar(&names),
            Some(ContextValue::String(name)) => similar(&[name]),
            _ => continue,
        };
        if !left.is_empty() {
            error.insert(suggested, ContextValue::Strings(left));
        }
    }
    error
}

/// Whether an option is there, on a command line that may make no sense otherwise.
pub fn has_option(arguments: &[OsString], short: &str, long: &str) -> bool {
    let options = arguments.iter().skip(1).take_while(|argument| *argument != "--");
    options.filter_map(|argument| argument.to_str()).any(|argument| argument == short || argument == long)
}
