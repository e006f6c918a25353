//! The command: parses, runs, prints the error once, returns a documented exit code.

use std::process::ExitCode;

use clap::Parser as _;
use icmp_ctl::{cli::Cli, commands, end_with_closed_pipe, failure};

fn main() -> ExitCode {
    end_with_closed_pipe();
    let cli = Cli::parse();
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("icmp-ctl: {error:#}");
            failure::exit_code(&error)
        }
    }
}
