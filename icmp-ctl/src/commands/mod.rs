//! What each verb does, one file a verb.
//!
//! Owns the checks every verb starts with. Data goes to stdout, everything else to stderr.

mod apply;
mod attach;
mod detach;
pub(crate) mod limit;
mod policy;
mod rule;
mod serve;
mod show;
mod sources;
mod status;

use anyhow::{Context as _, Result};

pub use apply::Within;

use crate::cli::{Cli, LimitVerb, Show, Verb};
use crate::failure::{Exit, Failure};
use crate::host::netlink::Network;
use crate::kernel::bpffs;

/// Runs what was typed.
///
/// # Errors
/// What the verb could not do, with the exit code where it has one of its own.
pub fn run(cli: &Cli) -> Result<()> {
    // A configuration is read where the user sees it: `bpffs::ensure` may change the mount namespace.
    match &cli.verb {
        Verb::Attach(args) => {
            let config = crate::config::file::Config::load(args.config.as_deref())?;
            prepare()?;
            attach::run(args, &config, cli.json)
        }
        Verb::Serve(args) => {
            let config = crate::config::file::Config::load(args.config.as_deref())?;
            prepare()?;
            runtime()?.block_on(serve::run(&config, args.config.is_some()))
        }
        Verb::Detach(args) => {
            prepare()?;
            detach::run(args, cli.json)
        }
        Verb::Status => {
            prepare()?;
            status::run(cli.json)
        }
        Verb::Show(what) => {
            prepare()?;
            match what {
                Show::Policy(args) => policy::run(args, cli.json),
                Show::Addresses => show::addresses(cli.json),
                Show::Counters => show::counters(cli.json),
                Show::Limits => limit::show(cli.json),
                Show::Sources { top } => sources::show(*top, cli.json),
            }
        }
        Verb::Apply(args) => {
            let config = crate::config::file::Config::load(Some(&args.config))?;
            let mut checked = apply::check(&config, &args.allow_break, config.interfaces.first())?;
            if args.check && !nix::unistd::geteuid().is_root() {
                apply::warn(&checked.warnings);
                eprintln!(
                    "icmp-ctl: the configuration is valid; only root can compare it with what is in force"
                );
                return Ok(());
            }
            prepare()?;
            apply::run(args, &config, &mut checked, cli.json)
        }
        Verb::Confirm => {
            prepare()?;
            apply::confirm(cli.json)
        }
        Verb::Rule(what) => {
            prepare()?;
            rule::run(what, cli.json)
        }
        Verb::Limit(verb) => {
            prepare()?;
            match verb {
                LimitVerb::Set(args) => limit::set(args, cli.json),
                LimitVerb::Show => limit::show(cli.json),
            }
        }
    }
}

/// Oldest kernel the program is tested on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

fn prepare() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::error(
            Exit::Permission,
            "not root: the kernel lets only root load programs and read their maps; run it with sudo",
        ));
    }
    let release = nix::sys::utsname::uname().context("asking for the kernel's version")?;
    let release = release.release().to_string_lossy();
    if version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        let (major, minor) = OLDEST_KERNEL;
        return Err(Failure::error(
            Exit::Refused,
            format!(
                "this kernel is {release}, the program needs {major}.{minor} or newer; boot a newer kernel"
            ),
        ));
    }
    bpffs::ensure()
}

/// Major and minor version of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the event loop")
}

/// Links and addresses, for a verb that reads them once.
fn network() -> Result<Network> {
    runtime()?.block_on(Network::read())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_compared_by_their_numbers() {
        assert_eq!(version("6.1.0-28-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert!(version("6.18.44-fc").expect("a version") > OLDEST_KERNEL);
    }
}
