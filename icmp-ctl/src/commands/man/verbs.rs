//! The manual pages of `icmp-ctl` and of each verb, from clap's command line.

use anyhow::Result;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{MANUAL, Page};
use crate::cli::Cli;
use crate::config::file::DEFAULT_PATH;
use crate::failure::Exit;
use crate::instance::program::{BUILD, BUILD_DATE};

/// Section of the manual: commands of the system administrator.
const SECTION: &str = "8";

pub(super) fn pages() -> Result<Vec<Page>> {
    // clap's own verb `help` is no page.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add(&command, None, &mut pages)?;
    Ok(pages)
}

/// The page of a command, and those of its verbs.
fn add(command: &Command, above: Option<&str>, pages: &mut Vec<Page>) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let man = Man::new(command.clone())
        .section(SECTION)
        .date(BUILD_DATE)
        .source(format!("icmp-ctl {BUILD}"))
        .manual(MANUAL);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    if above.is_none() {
        files(&mut rest);
    }
    exit_codes(&mut rest);
    see_also(&mut rest, above);
    rest.to_writer(&mut page)?;
    pages.push((format!("{name}.{SECTION}"), page));
    command.get_subcommands().try_for_each(|verb| add(verb, Some(name), pages))
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    roff.control("TP", []);
    roff.text([bold(DEFAULT_PATH)]);
    roff.text([roman("The configuration; it need not exist.")]);
    roff.control("SH", ["ENVIRONMENT"]);
    roff.control("TP", []);
    roff.text([bold("NO_COLOR")]);
    roff.text([roman("Set to anything, nothing is printed in colours.")]);
}

fn exit_codes(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    let codes = [(0, "Done.")].into_iter().chain(Exit::ALL.map(|exit| (exit as u8, exit.meaning())));
    for (code, meaning) in codes {
        roff.control("TP", ["4"]);
        roff.text([bold(code.to_string())]);
        roff.text([roman(meaning)]);
    }
}

fn see_also(roff: &mut Roff, above: Option<&str>) {
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    if let Some(above) = above {
        line.extend([bold(above), roman(format!("({SECTION}), "))]);
    }
    line.extend([bold("icmp-ctl.toml"), roman("(5)")]);
    roff.text(line);
}
