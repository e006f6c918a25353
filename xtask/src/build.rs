//! Building icmp-ctl, and where the results are.
//!
//! Owns the call of cargo for it; cargo itself says where it put the program and the eBPF object.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{interrupt, run};

/// What a build of icmp-ctl left behind.
pub(crate) struct Built {
    pub(crate) program: PathBuf,
    pub(crate) object: PathBuf,
}

/// Cargo, as it runs this very program.
pub(crate) fn cargo() -> Result<Command> {
    let mut cargo = match std::env::var_os("CARGO") {
        Some(cargo) => Command::new(cargo),
        None => Command::new("cargo"),
    };
    cargo.stdin(Stdio::null()).current_dir(run::root()?);
    Ok(cargo)
}

/// Build icmp-ctl; its own progress goes to the terminal.
pub(crate) fn icmp_ctl(arguments: &[&str]) -> Result<Built> {
    built(cargo()?.arg("build"), arguments)
}

/// As [`icmp_ctl`], with further flags for the compiler, and with the crates that it is made of written into it.
pub(crate) fn shipped(arguments: &[&str], flags: &[String]) -> Result<Built> {
    let mut cargo = cargo()?;
    cargo.args(["auditable", "build"]).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // Has the build script ask git again.
    let head = run::output(run::command("git").args(["rev-parse", "HEAD"]).current_dir(run::root()?));
    cargo.env(
        "ICMP_CTL_COMMIT",
        head.map(|head| String::from_utf8_lossy(&head.stdout).trim().to_owned()).unwrap_or_default(),
    );
    built(&mut cargo, arguments)
}

fn built(cargo: &mut Command, arguments: &[&str]) -> Result<Built> {
    cargo
        .args(["--package", "icmp-ctl", "--bin", "icmp-ctl"])
        .arg("--message-format=json-render-diagnostics")
        .args(arguments)
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().context("starting cargo")?;
    let messages = child.stdout.take().context("cargo's messages")?;
    let reader = thread::spawn(move || places(BufReader::new(messages)));
    let status = interrupt::wait(&mut child, None, |_| ())?;
    let (program, object) = reader.join().unwrap_or_default();
    if !status.is_some_and(|status| status.success()) {
        bail!(
            "`cargo build --package icmp-ctl {}` failed; cargo's own messages are above",
            arguments.join(" ")
        );
    }
    Ok(Built {
        program: program.context("cargo built no icmp-ctl")?,
        object: object.context("cargo ran no build script for icmp-ctl, which makes the eBPF object")?,
    })
}

/// The lines of cargo's JSON that matter here; fields that others have and these lack stay empty.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    package_id: String,
    #[serde(default)]
    executable: Option<PathBuf>,
    #[serde(default)]
    out_dir: Option<PathBuf>,
}

/// The program and the object that cargo's messages name.
fn places(messages: impl BufRead) -> (Option<PathBuf>, Option<PathBuf>) {
    let (mut program, mut object) = (None, None);
    for line in messages.lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
        if !message.package_id.contains("icmp-ctl") {
            continue;
        }
        program = message.executable.or(program);
        object = message.out_dir.map(|dir| dir.join("icmp-ebpf")).or(object);
    }
    (program, object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_names_the_program_and_the_object() {
        let messages = concat!(
            r#"{"reason":"build-script-executed","package_id":"registry+x#libc@0.2","out_dir":"/t/libc/out"}"#,
            "\n",
            r#"{"reason":"build-script-executed","package_id":"path+file:///r/icmp-ctl#0.1.0","out_dir":"/t/ctl/out"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///r/icmp-ctl#0.1.0","executable":"/t/icmp-ctl"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let (program, object) = places(messages.as_bytes());
        assert_eq!(program, Some("/t/icmp-ctl".into()));
        assert_eq!(object, Some("/t/ctl/out/icmp-ebpf".into()));
    }
}
