//! The command: parses, runs, prints the error once, returns a documented exit code.

use std::process::ExitCode;

use clap::Parser as _;
use icmp_ctl::{cli::Cli, commands, failure, kernel::signals::end_with_closed_pipe};

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
