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
    Built::of(&messages(cargo.args(["--package", "icmp-ctl", "--bin", "icmp-ctl"]).args(arguments))?)
}

impl Built {
    /// The program and the object that cargo's messages name.
    pub(crate) fn of(messages: &[Message]) -> Result<Self> {
        let (mut program, mut object) = (None, None);
        for message in messages.iter().filter(|message| message.package_id.contains("icmp-ctl#")) {
            let is_program = message.target.name == "icmp-ctl" && !message.profile.test;
            program = message.executable.as_ref().filter(|_| is_program).or(program);
            object = message.out_dir.as_ref().or(object);
        }
        Ok(Self {
            program: program.context("cargo built no icmp-ctl")?.clone(),
            object: object
                .context("cargo ran no build script for icmp-ctl, which makes the eBPF object")?
                .join("icmp-ebpf"),
        })
    }
}

/// What cargo says of what it built; its own progress goes to the terminal.
pub(crate) fn messages(cargo: &mut Command) -> Result<Vec<Message>> {
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = cargo.spawn().context("starting cargo")?;
    let messages = child.stdout.take().context("cargo's messages")?;
    let reader = thread::spawn(move || parsed(BufReader::new(messages)));
    let status = interrupt::wait(&mut child, None, |_| ())?;
    let messages = reader.join().unwrap_or_default();
    if !status.is_some_and(|status| status.success()) {
        bail!("`{}` failed; cargo's own messages are above", run::shown(cargo));
    }
    Ok(messages)
}

/// The lines of cargo's JSON that matter here; fields that others have and these lack stay empty.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Message {
    package_id: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) target: Target,
    pub(crate) profile: Profile,
    pub(crate) executable: Option<PathBuf>,
    out_dir: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Target {
    name: String,
    pub(crate) src_path: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Profile {
    /// It is built as tests.
    pub(crate) test: bool,
}

fn parsed(messages: impl BufRead) -> Vec<Message> {
    messages.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect()
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
            r#"{"reason":"compiler-artifact","package_id":"path+file:///r/icmp-ctl#0.1.0","target":{"name":"icmp-ctl"},"executable":"/t/icmp-ctl"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///r/icmp-ctl#0.1.0","target":{"name":"icmp-ctl"},"profile":{"test":true},"executable":"/t/deps/icmp_ctl-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let built = Built::of(&parsed(messages.as_bytes())).expect("both are named");
        assert_eq!(built.program, PathBuf::from("/t/icmp-ctl"));
        assert_eq!(built.object, PathBuf::from("/t/ctl/out/icmp-ebpf"));
    }
}
