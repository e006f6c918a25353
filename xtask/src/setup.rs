//! `cargo xtask setup`: installs what is missing here.
//!
//! Owns what each purpose needs and how it is installed: the nightly and bpf-linker that ebpf-toolchain.toml pins, programs by apt, packages of
//! PyPI, npm and crates.io. Installed programs are left alone and need no root; a failure ends with one message.

use std::collections::BTreeSet;
use std::env;
use std::env::consts::ARCH;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Value;

use crate::release::{self, ARCHITECTURES};
use crate::{build, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What it should be ready for
    #[arg(long = "for", value_name = "PURPOSE", default_value = "build")]
    purpose: Purpose,
}

/// The tests need what all before them need, but for the VMs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// icmp-ctl and the eBPF object in it
    Build,
    /// `cargo xtask demo`
    Demo,
    /// The recorded demo, for `cargo xtask pictures`
    Record,
    /// The dashboard, for the same
    Dashboard,
    /// `cargo xtask verifier`
    Verifier,
    /// `cargo xtask vm-test`
    Vm,
    /// `cargo xtask vm-test --arch arm64`
    VmArm64,
    /// `cargo xtask fuzz`
    Fuzz,
    /// `cargo xtask book`
    Book,
    /// `cargo xtask test`
    Test,
    /// `cargo xtask release`
    Release,
    /// `cargo xtask dist`
    Dist,
    /// `cargo xtask dist --test`
    DistTest,
    /// `cargo xtask deny`
    Deny,
}

pub(crate) fn verb(args: &Args) -> Result<()> {
    ready(args.purpose)
}

/// Make this machine ready for a purpose.
pub(crate) fn ready(purpose: Purpose) -> Result<()> {
    run::heading(match purpose {
        Purpose::Build => "Setup: what building needs",
        Purpose::Demo | Purpose::Record => "Setup: what the demo needs",
        Purpose::Dashboard => "Setup: what the picture of the dashboard needs",
        Purpose::Verifier => "Setup: what the verifier's budget needs",
        Purpose::Vm | Purpose::VmArm64 => "Setup: what the VMs need",
        Purpose::Fuzz => "Setup: what fuzzing needs",
        Purpose::Book => "Setup: what the book needs",
        Purpose::Release => "Setup: what the shipped program needs",
        Purpose::Dist => "Setup: what the packages need",
        Purpose::DistTest => "Setup: what the test of the packages needs",
        Purpose::Deny => "Setup: what looking at the dependencies needs",
        Purpose::Test => "Setup: what the tests need",
    });
    if let Purpose::Book | Purpose::Deny = purpose {
        return programs_by_cargo(purpose);
    }
    let pin = Pin::read()?;
    programs(purpose)?;
    nightly(&pin)?;
    bpf_linker(&pin)?;
    match purpose {
        Purpose::Test => {
            cargo_tools()?;
            programs_by_pip("kubernetes-validate", "1.37.0")
        }
        Purpose::Record => programs_by_pip("termtosvg", "1.1.0"),
        Purpose::Dashboard => packages_by_npm(),
        Purpose::Release | Purpose::Vm => targets(&[ARCH]),
        Purpose::VmArm64 => targets(&["aarch64"]),
        Purpose::Dist | Purpose::DistTest => targets(&ARCHITECTURES),
        _ => Ok(()),
    }?;
    programs_by_cargo(purpose)
}

/// ebpf-toolchain.toml.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pin {
    nightly: String,
    rustc: String,
    llvm: String,
    bpf_linker: String,
}

impl Pin {
    fn read() -> Result<Self> {
        let file = run::root()?.join("ebpf-toolchain.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("understanding {}", file.display()))
    }
}

/// A program, and the Debian packages that bring it.
type Program = (&'static str, &'static [&'static str]);

const BUILD: &[Program] = &[("cc", &["gcc", "libc6-dev"])];

const DEMO: &[Program] = &[("ip", &["iproute2"]), ("ping", &["iputils-ping"]), ("nsenter", &["util-linux"])];

const DASHBOARD: &[Program] = &[
    ("chromium", &["chromium"]),
    ("hping3", &["hping3"]),
    ("node", &["nodejs"]),
    ("npm", &["npm"]),
    ("pngquant", &["pngquant"]),
    ("prometheus", &["prometheus"]),
];

const VERIFIER: &[Program] = &[("bpftool", &["bpftool"])];

const VM: &[Program] = &[
    ("qemu-system-x86_64", &["qemu-system-x86"]),
    ("modinfo", &["kmod"]),
    ("xz", &["xz-utils"]),
    ("ip", &["iproute2"]),
    ("bridge", &["iproute2"]),
    ("ethtool", &["ethtool"]),
    ("teamnl", &["libteam-utils"]),
    ("bpftool", &["bpftool"]),
    ("xdp-loader", &["xdp-tools"]),
    ("strace", &["strace"]),
    ("mmdebstrap", &["mmdebstrap"]),
];

const VM_ARM64: &[Program] =
    &[("qemu-system-aarch64", &["qemu-system-arm"]), ("modinfo", &["kmod"]), ("xz", &["xz-utils"])];

/// libFuzzer is C++.
const FUZZ: &[Program] = &[("c++", &["g++"])];

const TEST: &[Program] = &[
    ("ethtool", &["ethtool"]),
    ("fping", &["fping"]),
    ("hping3", &["hping3"]),
    ("strace", &["strace"]),
    ("iptables", &["iptables"]),
    ("mandoc", &["mandoc"]),
    ("mtr", &["mtr-tiny"]),
    ("ndisc6", &["ndisc6"]),
    ("nft", &["nftables"]),
    ("nping", &["nmap"]),
    ("prometheus", &["prometheus"]),
    ("systemd-analyze", &["systemd"]),
    ("tcpdump", &["tcpdump"]),
    ("traceroute", &["traceroute"]),
    ("tshark", &["tshark"]),
    ("xdp-loader", &["xdp-tools"]),
];

const DIST: &[Program] = &[("tar", &["tar"]), ("gzip", &["gzip"]), ("sha256sum", &["coreutils"])];

const DIST_TEST: &[Program] = &[
    ("lintian", &["lintian"]),
    ("mmdebstrap", &["mmdebstrap"]),
    ("qemu-aarch64-static", &["qemu-user-static"]),
    ("rpm", &["rpm"]),
    ("skopeo", &["skopeo"]),
];

fn programs(purpose: Purpose) -> Result<()> {
    let groups: &[&[Program]] = match purpose {
        Purpose::Build | Purpose::Release => &[BUILD],
        Purpose::Dist => &[BUILD, DIST],
        Purpose::DistTest => &[BUILD, DEMO, DIST, DIST_TEST],
        Purpose::Demo | Purpose::Record => &[BUILD, DEMO],
        Purpose::Dashboard => &[BUILD, DEMO, DASHBOARD],
        Purpose::Verifier => &[BUILD, VERIFIER],
        Purpose::Vm => &[BUILD, VM],
        Purpose::VmArm64 => &[BUILD, VM_ARM64],
        Purpose::Fuzz => &[BUILD, FUZZ],
        Purpose::Book | Purpose::Deny => &[],
        // The lints look at the fuzz targets, too.
        Purpose::Test => &[BUILD, DEMO, VERIFIER, FUZZ, TEST],
    };
    let (there, missing): (Vec<&Program>, Vec<&Program>) =
        groups.iter().copied().flatten().partition(|(name, _)| run::find(name).is_some());
    if !there.is_empty() {
        println!("  ok       {}", there.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|(_, packages)| *packages).copied().collect();
    apt_install(&packages)?;
    match missing.iter().find(|(name, _)| run::find(name).is_none()) {
        Some((name, packages)) => {
            bail!(
                "{} was installed and brought no program `{name}`; install one yourself",
                packages.join(" ")
            )
        }
        None => Ok(()),
    }
}

/// Install Debian packages, all in one go.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let wanted: BTreeSet<&str> = packages.iter().copied().collect();
    let list = wanted.iter().copied().collect::<Vec<_>>().join(" ");
    if run::find("apt-get").is_none() {
        bail!(
            "{list} is missing, and there is no apt-get to install it with: install it by this system's own means"
        );
    }
    if !run::is_root() {
        bail!(
            "{list} is missing, and installing needs root: run this again as root, or `apt-get install {list}`"
        );
    }
    let _quiet = NoServices::begin();
    let apt = || {
        let mut apt = run::command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args([
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "DPkg::Lock::Timeout=120",
        ]);
        apt
    };
    // A list that can't be refreshed may still be good enough; what it lacks is named below.
    if let Err(error) = run::progress("apt-get update", apt().arg("update")) {
        println!("  warning  {error:#}");
    }
    run::progress(
        &format!("apt-get install {list}"),
        apt().args(["install", "-y", "--no-install-recommends"]).args(&wanted),
    )
    .with_context(|| {
        format!("installing {list} failed; see apt's reason below, and if it knows no such package, add a repository that has it")
    })?;
    if wanted.contains("prometheus") && Path::new("/run/systemd/system").exists() {
        // Only the program is wanted, not a service at the next boot.
        let _no_such_unit = run::output(run::command("systemctl").args(["disable", "prometheus.service"]));
    }
    Ok(())
}

/// Debian starts what it installs unless this file says no (policy-rc.d(8)); here only programs are wanted.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn begin() -> Self {
        let file = PathBuf::from("/usr/sbin/policy-rc.d");
        // create_new: one that is there is the administrator's, or another setup's, and stays.
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&file);
        Self(made.and_then(|mut policy| policy.write_all(b"#!/bin/sh\nexit 101\n")).is_ok().then_some(file))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _gone = fs::remove_file(file);
        }
    }
}

/// The compiler for the eBPF object, with the sources of `core`.
fn nightly(pin: &Pin) -> Result<()> {
    if run::find("rustup").is_none() {
        bail!("no rustup here: the eBPF object needs {}, so install rustup, and with it cargo", pin.nightly);
    }
    if let Some(name) = pinned_toolchain(pin) {
        if has_rust_src(&name)? {
            println!("  ok       {name}: rustc {}, rust-src", pin.rustc);
            return Ok(());
        }
        return run::progress(
            &format!("rustup component add rust-src --toolchain {name}"),
            run::command("rustup").args(["component", "add", "rust-src", "--toolchain", &name]),
        )
        .with_context(|| format!("adding rust-src to {name} failed; is there a way to the internet?"));
    }
    run::progress(
        &format!("rustup toolchain install {}", pin.nightly),
        run::command("rustup").args(["toolchain", "install", &pin.nightly, "--profile", "minimal"]).args([
            "--component",
            "rust-src",
            "--no-self-update",
        ]),
    )
    .with_context(|| format!("installing {} failed; is there a way to the internet?", pin.nightly))?;
    if pinned_toolchain(pin).is_none() {
        bail!(
            "{} is installed and is not rustc {}: ebpf-toolchain.toml contradicts itself",
            pin.nightly,
            pin.rustc
        );
    }
    Ok(())
}

/// The pinned toolchain's name here: the dated one, or the plain one where it is the same compiler.
fn pinned_toolchain(pin: &Pin) -> Option<String> {
    [pin.nightly.as_str(), "nightly"].into_iter().map(str::to_owned).find(|name| {
        // Without this variable, asking for a toolchain may install it, unseen.
        let mut rustc = run::command("rustup");
        rustc.env("RUSTUP_AUTO_INSTALL", "0").args(["run", name, "rustc", "--version"]);
        run::output(&mut rustc).is_ok_and(|out| {
            out.status.success() && String::from_utf8_lossy(&out.stdout).contains(&pin.rustc)
        })
    })
}

fn has_rust_src(toolchain: &str) -> Result<bool> {
    let sysroot =
        run::capture(run::command("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]))?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir())
}

/// bpf-linker, built against the LLVM of the pinned rustc.
fn bpf_linker(pin: &Pin) -> Result<()> {
    let version = run::output(run::command("bpf-linker").arg("--version"))
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().trim_start_matches("bpf-linker ").to_owned())
        .unwrap_or_default();
    if version == pin.bpf_linker {
        println!("  ok       bpf-linker {version}");
        return Ok(());
    }
    if !version.is_empty() {
        println!("  note     bpf-linker {version} is here; {} takes its place", pin.bpf_linker);
    }
    let prefix = llvm(&pin.llvm)?;
    run::progress(
        &format!("cargo install bpf-linker {} (about a minute)", pin.bpf_linker),
        build::cargo()?
            .args([
                "install",
                "bpf-linker",
                "--version",
                &pin.bpf_linker,
                "--locked",
                "--no-default-features",
            ])
            .args(["--features", &format!("llvm-{}", pin.llvm)])
            // The first is what its build script reads, the second what the llvm-sys crate does, named for the
            // major version and a minor one of 1 (LLVM's first release of a major is .1).
            .env("LLVM_PREFIX", &prefix)
            .env(format!("LLVM_SYS_{}1_PREFIX", pin.llvm), &prefix),
    )
    .context("building bpf-linker failed")?;
    if run::find("bpf-linker").is_none() {
        bail!("bpf-linker is built, but cargo's bin directory is not in PATH: add it (usually ~/.cargo/bin)");
    }
    Ok(())
}

/// Where programs of PyPI are.
const PYTHON: &str = "target/tools/python";

/// Programs of crates.io, each with its version and what cargo is to leave out of it or add.
fn programs_by_cargo(purpose: Purpose) -> Result<()> {
    const AUDITABLE: (&str, &str, &[&str]) = ("cargo-auditable", "0.7.7", &[]);
    let wanted: &[(&str, &str, &[&str])] = match purpose {
        Purpose::Book => &[("mdbook", "0.5.4", &["--no-default-features", "--features", "search"])],
        Purpose::Release | Purpose::Vm | Purpose::VmArm64 => &[AUDITABLE],
        Purpose::Dist | Purpose::DistTest => {
            &[AUDITABLE, ("cargo-deb", "3.8.0", &[]), ("cargo-generate-rpm", "0.21.1", &[])]
        }
        Purpose::Deny => &[("cargo-deny", "0.20.2", &[])],
        _ => &[],
    };
    if wanted.is_empty() {
        return Ok(());
    }
    let installed = run::capture(build::cargo()?.args(["install", "--list"]))?;
    for (name, version, features) in wanted {
        if !installed.lines().any(|line| line.trim_end_matches(':') == format!("{name} v{version}")) {
            run::progress(
                &format!("cargo install {name} {version} (some minutes)"),
                build::cargo()?.args(["install", name, "--version", version, "--locked"]).args(*features),
            )
            .with_context(|| format!("building {name} failed"))?;
        }
        println!("  ok       {name} {version}");
    }
    Ok(())
}

/// Rust's libraries for the static programs, which bring a C library and what starts a program.
fn targets(architectures: &[&str]) -> Result<()> {
    let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".into());
    let list = ["target", "list", "--installed", "--toolchain", &toolchain];
    let installed = run::capture(run::command("rustup").args(list))?;
    for target in architectures.iter().map(|architecture| release::target(architecture)) {
        if !installed.lines().any(|line| line == target) {
            run::progress(
                &format!("rustup target add {target}"),
                run::command("rustup").args(["target", "add", &target, "--toolchain", &toolchain]),
            )?;
        }
        println!("  ok       {target}");
    }
    Ok(())
}

/// Where LLVM's development files are, installed if need be.
fn llvm(major: &str) -> Result<PathBuf> {
    // bpf-linker's wrapper around LLVM is C++; the others are what LLVM's static libraries want.
    let dev = format!("llvm-{major}-dev");
    let polly = format!("libpolly-{major}-dev");
    let packages = [dev.as_str(), polly.as_str(), "zlib1g-dev", "libzstd-dev", "g++"];
    let missing: Vec<&str> = packages.into_iter().filter(|package| !is_installed(package)).collect();
    if !missing.is_empty() {
        apt_install(&missing)
            .with_context(|| format!("bpf-linker needs LLVM {major}, the compiler's own version"))?;
    }
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    if !prefix.is_dir() {
        bail!("LLVM {major} is not in {}, where Debian puts it", prefix.display());
    }
    Ok(prefix)
}

fn is_installed(package: &str) -> bool {
    run::output(run::command("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|out| out.stdout == b"installed")
}

/// A program of PyPI, in a folder of its own below `target`, where the tests look for what has Kubernetes' schemas.
fn programs_by_pip(name: &str, version: &str) -> Result<()> {
    let root = run::root()?;
    let wanted = format!("{name}=={version}");
    let pip = |arguments: &[&str]| {
        let mut pip = Command::new(python(&root, "pip"));
        pip.args(arguments);
        pip
    };
    let installed = run::output(&mut pip(&["freeze"]));
    if !installed.as_ref().is_ok_and(|out| out.status.success()) {
        let folder = root.join(PYTHON);
        let make =
            |python: &str| run::capture(run::command(python).args(["-m", "venv", "--clear"]).arg(&folder));
        if make("python3").is_err() {
            // Debian's Python comes without what a new folder needs.
            apt_install(&["python3-venv"])?;
            make("/usr/bin/python3")?;
        }
    }
    if !installed.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).lines().any(|line| line == wanted)) {
        run::progress(&format!("pip install {wanted}"), &mut pip(&["install", "-q", &wanted]))
            .with_context(|| format!("{name} cannot be had"))?;
    }
    println!("  ok       {name} {version}");
    Ok(())
}

/// A program that is there by `setup`.
pub(crate) fn python(root: &Path, name: &str) -> PathBuf {
    root.join(PYTHON).join("bin").join(name)
}

/// What xtask/src/dashboard/package.json names, in a folder of its own below `target`.
fn packages_by_npm() -> Result<()> {
    let root = run::root()?;
    let (file, folder) = (root.join("xtask/src/dashboard/package.json"), npm(&root));
    let read = |file: &Path| -> Result<Value> {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("understanding {}", file.display()))
    };
    let wanted = read(&file)?["dependencies"].as_object().cloned().unwrap_or_default();
    // npm writes down what it has installed when it is done.
    let missing = || {
        let installed = read(&folder.join("node_modules/.package-lock.json")).unwrap_or_default();
        let has = |name: &str| installed["packages"][format!("node_modules/{name}")]["version"].clone();
        wanted.iter().find(|(name, version)| has(name) != **version).map(|(name, _)| name.clone())
    };
    if missing().is_some() {
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        fs::copy(&file, folder.join("package.json")).context("copying package.json")?;
        run::progress(
            "npm install (about a minute)",
            run::command("npm")
                .current_dir(&folder)
                // What is installed runs nothing here until it is called.
                .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]),
        )?;
    }
    if let Some(name) = missing() {
        bail!("npm is done, and {name} is not there as {} has it", file.display());
    }
    for (name, version) in &wanted {
        println!("  ok       {name} {}", version.as_str().unwrap_or_default());
    }
    Ok(())
}

/// Where packages of npm are by `setup`.
pub(crate) fn npm(root: &Path) -> PathBuf {
    root.join("target/tools/dashboard")
}

/// Formatter and linter; rust-toolchain.toml asks for them, and a toolchain of before may lack them.
fn cargo_tools() -> Result<()> {
    for component in ["rustfmt", "clippy"] {
        let verb = component.trim_start_matches("rust");
        if run::output(build::cargo()?.args([verb, "--version"]))?.status.success() {
            continue;
        }
        let toolchain = env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "stable".into());
        run::progress(
            &format!("rustup component add {component}"),
            run::command("rustup").args(["component", "add", component, "--toolchain", &toolchain]),
        )?;
    }
    println!("  ok       rustfmt, clippy");
    Ok(())
}
