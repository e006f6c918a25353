//! The command: parses, runs, prints data or the error once, returns a documented exit code.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use icmp_ctl::cli::parse::{self, Asked};
use icmp_ctl::commands::completions;
use icmp_ctl::kernel::files::outlive_size_limit;
use icmp_ctl::output::Output;
use icmp_ctl::{commands, diagnostics, failure};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    diagnostics::configure(parse::has_option(&arguments, "-j", "--json"));
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let exit = failure::exit_of(&error) as u8;
            let is_verbose = parse::has_option(&arguments, "-v", "--verbose");
            let text = if is_verbose { failure::in_full(&error) } else { failure::sentence(&error) };
            diagnostics::error(&text, exit);
            ExitCode::from(exit)
        }
    }
}

fn run(arguments: &[OsString]) -> Result<()> {
    outlive_size_limit()?;
    if completions::answer()? {
        return Ok(());
    }
    let _reader = match parse::parse(arguments)? {
        Asked::Run(cli) => commands::run(&cli, arguments)?.print(cli.json)?,
        Asked::Text(text) => Output::text(&text).print(false)?,
    };
    Ok(())
}
