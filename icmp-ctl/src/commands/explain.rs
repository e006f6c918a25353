//! `explain`: the result of one frame, and why.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::packets::Explain as Args;
use crate::config::file::Config;
use crate::explain::frame::{Fields, Given, of_capture, of_fields, of_hex};
use crate::explain::subject::{Subject, other_build, unconfirmed};
use crate::failure::{Exit, Failure};
use crate::host::address_table::no_room;
use crate::kernel::files::is_standard_stream;
use crate::kernel::requirements::{Purpose, prepare};
use crate::output::Output;

pub(super) fn run(args: &Args) -> Result<Output> {
    let mut given = given(args)?;
    let mut subject = subject(args, &given)?;
    given.come_in_on(subject.mac());
    if args.pcap.is_some() {
        given.was_sent_by(subject.mac(), &args.own);
    }
    let explained = subject.explain(&given.bytes)?;
    let (mut json, lines) = explained.told(&subject);
    json.insert("schema".to_owned(), json!(1));
    let loaded = subject.loaded();
    json.insert("build".to_owned(), json!(loaded.map(|loaded| &loaded.build)));
    json.insert("same_program".to_owned(), json!(loaded.map(|loaded| loaded.is_same)));
    let pending = loaded.and_then(|loaded| loaded.pending).map(|left| left.as_secs_f64());
    json.insert("confirmation_pending_seconds".to_owned(), json!(pending));
    let left_out = no_room(subject.left_out);
    let notes = [given.note, loaded.and_then(other_build), loaded.and_then(unconfirmed), left_out];
    let output = Output::shown(Value::Object(json), lines).noting(notes.into_iter().flatten().collect());
    Ok(match explained.disagreement() {
        None => output,
        Some(what) => output.failing(format!("{what}; this is a fault of the program, please report it")),
    })
}

fn given(args: &Args) -> Result<Given> {
    if let Some(text) = &args.hex {
        return of_hex(text);
    }
    match (args.from, args.to, &args.pcap) {
        (Some(from), Some(to), _) => of_fields(&Fields {
            from,
            to,
            icmp_type: &args.icmp_type,
            size: args.size,
            vlans: &args.vlan,
            hop_limit: args.hop_limit,
        }),
        (.., Some(pcap)) if is_standard_stream(pcap) && args.config.as_ref() == Some(pcap) => {
            let text = "standard input can be read once: `--pcap` or `-f` has to name a file";
            Err(Failure::error(Exit::Usage, text))
        }
        (.., Some(pcap)) => of_capture(pcap, args.packet),
        // clap has refused it.
        _ => of_hex(""),
    }
}

fn subject(args: &Args, given: &Given) -> Result<Subject> {
    let interface = args.interface.as_deref();
    let Some(config) = &args.config else {
        prepare(Purpose::Attach)?;
        return Subject::in_force(interface);
    };
    let config = Config::load(Some(config))?;
    if args.own.is_empty() {
        Subject::planned(&config, interface, Purpose::Attach.obstacle().is_none())
    } else {
        Subject::alone(&config, &given.bytes, &args.own)
    }
}
