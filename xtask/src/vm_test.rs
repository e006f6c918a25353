//! `cargo xtask vm-test`: the program under other kernels than this machine's.
//!
//! Owns the initramfs and QEMU. `vm_init.sh` and the scripts that it sources have the checks, and `vm_systemd.sh` those with systemd. Debian's
//! kernels come from `debian.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::cpio::Archive;
use crate::debian::{Apt, find};
use crate::{dist, interrupt, release, run, setup, vm_systemd};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which kernel
    #[arg(long, value_name = "KERNEL", default_value = "all")]
    kernel: Choice,

    /// For which processor; for arm64, what is checked is attaching and pings
    #[arg(long, value_name = "ARCHITECTURE", default_value = "amd64")]
    arch: Architecture,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// As Rust calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Packages of the one and of the other are apart.
    fn folder(self) -> &'static str {
        match self {
            Self::Amd64 => "target/vm",
            Self::Arm64 => "target/vm-arm64",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
    /// 6.1, with Debian's systemd and the units
    Systemd,
    All,
}

/// A kernel series of Debian 12, and what runs on it.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    series: &'static str,
    /// The package that depends on the newest image of the series, without the architecture; the images themselves come and go.
    meta_package: &'static str,
    has_systemd: bool,
}

impl Kernel {
    const V6_1: Self = Self { series: "6.1", meta_package: "linux-image-cloud", has_systemd: false };
    const V6_12: Self = Self { series: "6.12", meta_package: "linux-image-6.12-cloud", has_systemd: false };
    const SYSTEMD: Self = Self { has_systemd: true, ..Self::V6_1 };
    /// The one that takes least time last.
    pub(crate) const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::SYSTEMD];

    fn name(self, release: &str) -> String {
        format!("Linux {release}{}", if self.has_systemd { " with systemd" } else { "" })
    }
}

/// Two VMs at a time: one takes a core or a bit more.
const AT_A_TIME: usize = 2;
/// Longer than any takes whose processor is emulated on a machine that is busy with other things: it is for those that hang.
const LIMIT: Duration = Duration::from_secs(3600);
/// How often a VM is booted whose kernel dies before it has run anything.
const BOOTS: u32 = 3;
const INIT: &str = include_str!("vm_init.sh");
/// For what needs those of the programs and modules below that come with this machine.
const SCRIPTS: [(&str, &str); 3] = [
    ("vm_chain.sh", include_str!("vm_chain.sh")),
    ("vm_vlans.sh", include_str!("vm_vlans.sh")),
    ("vm_masters.sh", include_str!("vm_masters.sh")),
];
const ICMP_CTL: &str = "bin/icmp-ctl";
/// Programs of this machine that busybox has no match for, and where they lie in the VM.
const PROGRAMS: [(&str, &str); 7] = [
    ("ip", "sbin/ip"),
    ("bridge", "bin/bridge"),
    ("ethtool", "bin/ethtool"),
    ("teamnl", "bin/teamnl"),
    ("bpftool", "bin/bpftool"),
    ("xdp-loader", "bin/xdp-loader"),
    ("strace", "bin/strace"),
];
/// The XDP programs of this machine's xdp-tools, which are in the same place in the VM, where libxdp looks for its dispatcher.
const OBJECTS: [&str; 3] = [
    "usr/lib/x86_64-linux-gnu/bpf/xdp-dispatcher.o",
    "usr/lib/x86_64-linux-gnu/bpf/xdpfilt_alw_all.o",
    "usr/lib/x86_64-linux-gnu/bpf/xdpfilt_dny_all.o",
];
/// Modules that are loaded, with those they depend on.
const MODULES: [&str; 10] = [
    "veth",
    "8021q",
    "bridge",
    "bonding",
    "team",
    "team_mode_activebackup",
    "macvlan",
    "ipvlan",
    "vrf",
    "dummy",
];
/// The driver of the network cards, which is loaded when they are wanted: QEMU's takes VLAN tags out of frames.
const CARDS: &str = "vmxnet3";

pub(crate) fn verb(args: &Args) -> Result<()> {
    setup::ready(match args.arch {
        Architecture::Amd64 => setup::Purpose::Vm,
        Architecture::Arm64 => setup::Purpose::VmArm64,
    })?;
    match (args.kernel, args.arch) {
        (Choice::V6_1, _) => check(&[Kernel::V6_1], args.arch),
        (Choice::V6_12, _) => check(&[Kernel::V6_12], args.arch),
        (Choice::Systemd, Architecture::Amd64) => check(&[Kernel::SYSTEMD], args.arch),
        (Choice::Systemd, Architecture::Arm64) => bail!("the units are tried on amd64 only"),
        (Choice::All, Architecture::Amd64) => check(&Kernel::ALL, args.arch),
        (Choice::All, Architecture::Arm64) => check(&[Kernel::V6_1, Kernel::V6_12], args.arch),
    }
}

/// Boot the kernels and judge what their VMs say. Expects `setup` to be done.
pub(crate) fn check(kernels: &[Kernel], architecture: Architecture) -> Result<()> {
    let folder = run::root()?.join(architecture.folder());
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;

    // As it is shipped, which also takes less time there than one that is not optimised: the processor is emulated.
    run::heading("icmp-ctl for the VMs");
    let contents = Contents::of(architecture)?;

    run::heading("Debian's kernels");
    let apt = Apt::prepare(&folder, dist::names(architecture.name())?.debian)?;
    let mut machines = Vec::new();
    for kernel in kernels {
        let machine = Machine::make(*kernel, architecture, &apt, &folder, &contents)
            .with_context(|| format!("no {} to test with, and it is required", kernel.name(kernel.series)))?;
        machines.push(machine);
    }

    run::heading("Boot, load, attach, ping");
    let mut failed = Vec::new();
    for group in machines.chunks(AT_A_TIME) {
        let verdicts: Vec<Result<()>> = thread::scope(|scope| {
            let running: Vec<_> = group.iter().map(|machine| scope.spawn(|| machine.run())).collect();
            running
                .into_iter()
                .map(|vm| vm.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the VM's thread panicked"))))
                .collect()
        });
        for (machine, verdict) in group.iter().zip(verdicts) {
            interrupt::check()?;
            if let Err(error) = verdict {
                println!("--- serial log of {} ({})", machine.name, machine.log.display());
                println!("{}", serial(&machine.log)?);
                println!("---");
                failed.push(format!("{}: {error:#}", machine.name));
            }
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// What is in a VM beside the kernel and busybox.
struct Contents {
    icmp_ctl: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
    modules: &'static [&'static str],
    cards: &'static [&'static str],
}

impl Contents {
    fn of(architecture: Architecture) -> Result<Self> {
        let icmp_ctl = release::program(architecture.name())?;
        if architecture == Architecture::Arm64 {
            // It is static; and this machine has no other program that would run there.
            let program = fs::read(&icmp_ctl).with_context(|| format!("reading {}", icmp_ctl.display()))?;
            let files = BTreeMap::from([(PathBuf::from(ICMP_CTL), program)]);
            return Ok(Self { icmp_ctl, files, modules: &["veth"], cards: &[] });
        }
        let mut programs = vec![(icmp_ctl.clone(), ICMP_CTL)];
        for (name, path) in PROGRAMS {
            programs.push((run::find(name).with_context(|| format!("{name} is not installed"))?, path));
        }
        let mut files = with_libraries(&programs)?;
        for object in OBJECTS {
            let path = Path::new("/").join(object);
            let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            files.insert(PathBuf::from(object), content);
        }
        for (name, script) in SCRIPTS {
            files.insert(PathBuf::from(name), script.into());
        }
        Ok(Self { icmp_ctl, files, modules: &MODULES, cards: &[CARDS] })
    }

    /// The initramfs whose first process is busybox.
    fn initramfs(&self, busybox: &[u8], kernel: &Path) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        let folders = ["bin", "cards", "dev", "modules", "proc", "run", "sys", "tmp"].map(PathBuf::from);
        let of_files = self.files.keys().flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned);
        // In order, so that a folder comes before what is in it.
        for folder in
            BTreeSet::from_iter(folders.into_iter().chain(of_files)).iter().filter(|f| f.iter().count() > 0)
        {
            archive.directory(&folder.to_string_lossy());
        }
        // The kernel opens it for /init before anything is mounted.
        archive.character_device("dev/console", (5, 1));
        archive.program("init", INIT.as_bytes());
        archive.program("bin/busybox", busybox);
        for (path, content) in &self.files {
            archive.program(&path.to_string_lossy(), content);
        }
        for (folder, names) in [("modules", self.modules), ("cards", self.cards)] {
            for (number, module) in collected(kernel, names)?.iter().enumerate() {
                // Numbered, because each comes after what it depends on.
                archive.program(&format!("{folder}/{number:02}.ko"), module);
            }
        }
        Ok(archive.finish())
    }
}

/// Programs and the libraries they are linked with: where they lie in the VM, and what they are.
fn with_libraries(programs: &[(PathBuf, &str)]) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let mut files = BTreeMap::new();
    for (program, path) in programs {
        files.insert(PathBuf::from(path), read(program)?);
        let listed = run::capture(run::command("ldd").arg(program))?;
        let libraries: Vec<_> =
            listed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new).collect();
        let is_static = listed.contains("statically linked");
        ensure!(
            is_static || !libraries.is_empty(),
            "ldd names no library of {}:\n{listed}",
            program.display()
        );
        for library in libraries {
            files.insert(library.strip_prefix("/")?.to_owned(), read(library)?);
        }
    }
    Ok(files)
}

/// A VM that can be booted.
struct Machine {
    /// Its kernel, and what runs on it.
    name: String,
    architecture: Architecture,
    kernel: PathBuf,
    initramfs: PathBuf,
    /// In MiB.
    memory: u32,
    log: PathBuf,
}

impl Machine {
    fn make(
        kernel: Kernel,
        architecture: Architecture,
        apt: &Apt,
        folder: &Path,
        contents: &Contents,
    ) -> Result<Self> {
        let image = apt.image(
            kernel.series,
            &format!("{}-{}", kernel.meta_package, dist::names(architecture.name())?.debian),
        )?;
        let unpacked = apt.unpacked(&image)?;
        let vmlinuz = find(&unpacked, &|name| name.starts_with("vmlinuz"))
            .with_context(|| format!("{image} has no vmlinuz"))?;
        let content = if kernel.has_systemd {
            let modules = collected(&unpacked, &vm_systemd::MODULES)?;
            vm_systemd::initramfs(&folder.join("systemd"), &contents.icmp_ctl, &modules)?
        } else {
            let busybox = apt.unpacked("busybox-static")?.join("bin/busybox");
            let busybox = fs::read(&busybox).with_context(|| format!("reading {}", busybox.display()))?;
            contents.initramfs(&busybox, &unpacked)?
        };
        let file = kernel.name(kernel.series).replace(' ', "-");
        let initramfs = folder.join(format!("{file}.cpio"));
        fs::write(&initramfs, content).with_context(|| format!("writing {}", initramfs.display()))?;
        Ok(Self {
            name: kernel.name(image.trim_start_matches("linux-image-")),
            architecture,
            kernel: vmlinuz,
            initramfs,
            memory: if kernel.has_systemd { 1024 } else { 512 },
            log: folder.join(format!("{file}.log")),
        })
    }

    fn run(&self) -> Result<()> {
        let start = Instant::now();
        let mut report = self.boot()?;
        for _ in 1..BOOTS {
            if report.has_begun || !report.ended {
                break;
            }
            // The emulator's fault: an int3 where the kernel patches itself was seen at 3 s.
            println!("  again    {}: its kernel died before anything of ours was run", self.name);
            report = self.boot()?;
        }
        report.verdict()?;
        println!("  passed   {}: {} checks ({} s)", self.name, report.passed, start.elapsed().as_secs());
        Ok(())
    }

    /// What the VM has said when it has ended, or been ended.
    fn boot(&self) -> Result<Report> {
        let log = File::create(&self.log).with_context(|| format!("writing {}", self.log.display()))?;
        let (mut qemu, console) = match self.architecture {
            Architecture::Amd64 => {
                let card =
                    |netdev: &str, mac: &str| format!("{CARDS},netdev={netdev},mac=02:00:00:00:00:{mac}");
                let mut qemu = run::command("qemu-system-x86_64");
                // Two network cards, joined. QEMU's take frames for the MAC address that they are given here only.
                qemu.args(["-M", "q35", "-cpu", "max"])
                    .args(["-netdev", "hubport,id=a,hubid=0", "-device", &card("a", "0a")])
                    .args(["-netdev", "hubport,id=b,hubid=0", "-device", &card("b", "0b")]);
                (qemu, "ttyS0")
            }
            Architecture::Arm64 => {
                let mut qemu = run::command("qemu-system-aarch64");
                qemu.args(["-M", "virt", "-cpu", "cortex-a72"]);
                (qemu, "ttyAMA0")
            }
        };
        // Emulated: slower than KVM and the same everywhere, also where /dev/kvm is there and does not work.
        qemu.args(["-accel", "tcg,thread=multi", "-m", &self.memory.to_string(), "-smp", "2"])
            .args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", &format!("console={console} panic=-1 quiet")])
            .stdout(log.try_clone().context("the serial log")?)
            .stderr(log)
            .process_group(0);
        println!("  boot     {}", self.name);
        let mut child = qemu.spawn().context("starting QEMU")?;
        let ended = interrupt::wait(&mut child, Some(LIMIT), |_| ())?.is_some();
        Ok(Report { ended, ..Report::read(&serial(&self.log)?) })
    }
}

/// What a VM said about itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    passed: usize,
    failed: Vec<String>,
    done: bool,
    /// It got as far as our own first process.
    has_begun: bool,
    /// By itself.
    ended: bool,
}

impl Report {
    fn read(serial: &str) -> Self {
        let mut report = Self::default();
        for line in serial.lines().map(str::trim) {
            if line.starts_with("PASS ") {
                report.passed += 1;
            } else if let Some(what) = line.strip_prefix("FAIL ") {
                report.failed.push(what.to_owned());
            }
            report.done |= line == "DONE";
            report.has_begun |= line.starts_with("kernel ");
        }
        report
    }

    /// A VM that did not get to its end has failed, whatever passed before.
    fn verdict(&self) -> Result<()> {
        if !self.failed.is_empty() {
            bail!("{} checks failed, the first: {}", self.failed.len(), self.failed[0]);
        }
        if !self.done {
            let how = if self.ended {
                "it stopped by itself".to_owned()
            } else {
                format!("it was stopped after {LIMIT:?}")
            };
            bail!("the VM never said DONE ({how})");
        }
        ensure!(self.passed > 0, "the VM checked nothing");
        Ok(())
    }
}

fn serial(log: &Path) -> Result<String> {
    let bytes = fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

/// Modules and what they depend on, in the order of loading.
fn collected(unpacked: &Path, names: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    for name in names {
        collect_modules(unpacked, name, &mut files)?;
    }
    files
        .iter()
        .map(|file| {
            if file.extension().is_some_and(|extension| extension == "xz") {
                let output = run::output(run::command("xz").arg("-dc").arg(file))?;
                ensure!(output.status.success(), "unpacking {} failed", file.display());
                return Ok(output.stdout);
            }
            fs::read(file).with_context(|| format!("reading {}", file.display()))
        })
        .collect()
}

fn collect_modules(unpacked: &Path, name: &str, files: &mut Vec<PathBuf>) -> Result<()> {
    let is_it = |file: &str| {
        let stem = file.strip_suffix(".xz").unwrap_or(file);
        // modinfo writes underscores where the file may have dashes.
        stem.strip_suffix(".ko").is_some_and(|stem| stem.replace('-', "_") == name.replace('-', "_"))
    };
    let file =
        find(unpacked, &is_it).with_context(|| format!("the kernel's package has no module {name}"))?;
    let depends = run::capture(run::command("modinfo").args(["-F", "depends"]).arg(&file))?;
    for dependency in depends.trim().split(',').filter(|dependency| !dependency.is_empty()) {
        collect_modules(unpacked, dependency, files)?;
    }
    if !files.contains(&file) {
        files.push(file);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_that_never_says_done_has_failed() {
        let report = Report::read("PASS one\r\nPASS two\n");
        assert_eq!(report.passed, 2);
        let verdict = |serial: &str| Report { ended: true, ..Report::read(serial) }.verdict();
        assert!(report.verdict().is_err());
        assert!(verdict("PASS one\nDONE\n").is_ok());
        assert!(verdict("PASS one\nFAIL two\nDONE\n").is_err());
        assert!(verdict("DONE\n").is_err(), "nothing was checked");
        assert!(!Report::read("[    3.4] Oops: int3\n").has_begun && Report::read("kernel 6.1\n").has_begun);
    }
}
