//! The verbs that show something once, for the user who typed them and for group members who ask `serve`.

use std::ffi::OsString;

use anyhow::Result;
use serde_json::Value;

use super::{limit, peers, rule, show, status};
use crate::cli::change::{LimitVerb, Rule};
use crate::cli::look::Show;
use crate::cli::parse::{self, Asked};
use crate::cli::{Cli, Verb};
use crate::failure::{Exit, Failure};
use crate::observe::events::told;
use crate::observe::readers::{Question, Source, ask};
use crate::output::Output;

/// What a verb tells that is given as it was understood and as it was typed.
pub(super) fn from(source: Source, cli: &Cli, words: &[OsString]) -> Result<Output> {
    match source {
        Source::Maps => run(cli),
        Source::Serve => {
            ask(&Question::Verb(words.iter().map(|word| word.to_string_lossy().into_owned()).collect()))
        }
    }
}

fn run(cli: &Cli) -> Result<Output> {
    match &cli.verb {
        Verb::Status(only) => status::run(&only.interfaces),
        Verb::Show(what) if is_a_look(what) => show::run(what, cli.verbose),
        Verb::Peers(args) => peers::show(args, cli.verbose),
        Verb::Rule(what @ Rule::List) => rule::run(what),
        Verb::Limit(LimitVerb::Show) => limit::show(),
        _ => refused(),
    }
}

/// It writes no file, and does not look again and again.
fn is_a_look(what: &Show) -> bool {
    match what {
        Show::Metrics { textfile } => textfile.is_none(),
        Show::Counters(args) => !args.is_of_a_time(),
        _ => true,
    }
}

/// What `serve` answers.
pub(super) fn answer(question: &Question) -> Result<Value> {
    Ok(match question {
        Question::Verb(words) => {
            let words: Vec<_> = words.iter().map(OsString::from).collect();
            let looked = match parse::parse(&words)? {
                Asked::Run(cli) => run(&cli),
                Asked::Text(_) => refused(),
            };
            serde_json::to_value(looked?)?
        }
        Question::Reading => serde_json::to_value(Source::Maps.reading()?)?,
        Question::Look => serde_json::to_value(Source::Maps.look()?)?,
        Question::Events(after) => serde_json::to_value(told::behind(*after)?)?,
    })
}

fn refused() -> Result<Output> {
    Err(Failure::error(Exit::Permission, "`serve` answers who only looks, and this would do more"))
}
