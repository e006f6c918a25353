//! `cargo xtask verifier`: the cost of each entry point for the kernel's verifier.
//!
//! Owns the measuring, on this machine's kernel, and the comparison with the bounds in `verifier-budget.toml` and with the stack of Linux 6.1
//! (`stack.rs`). The kernel gives up at a million instructions processed, and older verifiers need more of them for the same program.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use serde::Deserialize;

use crate::stack::{self, Functions};
use crate::{build, run, setup};

const BPFFS: &str = "/sys/fs/bpf";
const BUDGET: &str = "xtask/verifier-budget.toml";

pub(crate) fn verb() -> Result<()> {
    run::require_root("loading a program into the kernel")?;
    setup::ready(setup::Purpose::Verifier)?;
    run::heading("Verifier budget");
    check(&build::icmp_ctl(&[])?.object)
}

/// Measure an eBPF object and compare. Expects `setup` to be done.
pub(crate) fn check(object: &Path) -> Result<()> {
    let file = run::root()?.join(BUDGET);
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let budget: BTreeMap<String, Cost> =
        toml::from_str(&text).with_context(|| format!("understanding {BUDGET}"))?;

    let loaded = Loaded::new(object)?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("  on Linux {}", kernel.trim());
    println!(
        "  {:<16} {:>22} {:>22} {:>22} {:>20}",
        "entry point",
        "instructions / bound",
        "xlated bytes / bound",
        "jited bytes / bound",
        "stack on 6.1 / limit"
    );
    let functions =
        Functions::of(&fs::read(object).with_context(|| format!("reading {}", object.display()))?)?;
    let mut over = Vec::new();
    let programs = loaded.programs()?;
    for (name, cost) in &programs {
        let Some(bound) = budget.get(name) else {
            over.push(format!("{name} has no bound in {BUDGET}"));
            continue;
        };
        let mut row = format!("  {name:<16}");
        for (what, measured, bound) in [
            ("instructions processed", cost.instructions, bound.instructions),
            ("bytes translated", cost.xlated, bound.xlated),
            ("bytes compiled", cost.jited, bound.jited),
        ] {
            row.push_str(&format!(" {:>22}", format!("{measured} / {bound}")));
            if measured > bound {
                over.push(format!("{name} needs {measured} {what}, the bound is {bound}"));
            }
        }
        let stack = functions.deepest(name)?;
        row.push_str(&format!(" {:>20}", format!("{stack} / {}", stack::LIMIT)));
        if stack > stack::LIMIT {
            over.push(format!(
                "{name} and what it calls take {stack} bytes of stack on Linux 6.1, which has {}",
                stack::LIMIT
            ));
        }
        println!("{row}");
    }
    for name in budget.keys().filter(|name| !programs.contains_key(*name)) {
        over.push(format!("the object has no program {name}, which {BUDGET} names"));
    }
    ensure!(
        over.is_empty(),
        "{}: make it cheaper, or raise the bound in {BUDGET} and say why",
        over.join("; ")
    );
    Ok(())
}

/// What a program costs, or may cost.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
    /// That the verifier looked at, over all paths.
    instructions: u64,
    /// Size of the program as the verifier left it.
    xlated: u64,
    /// Size of its machine code.
    jited: u64,
}

/// The object's programs, loaded and pinned until this value goes.
struct Loaded {
    folder: PathBuf,
}

impl Loaded {
    fn new(object: &Path) -> Result<Self> {
        let kind = run::capture(run::command("stat").args(["--file-system", "--format=%T", BPFFS]))?;
        if kind.trim() != "bpf_fs" {
            run::capture(run::command("mount").args(["-t", "bpf", "bpf", BPFFS]))
                .context("the programs are pinned in bpffs while they are measured")?;
        }
        let loaded = Self { folder: Path::new(BPFFS).join(format!("icmp-xtask-{}", std::process::id())) };
        run::capture(run::command("bpftool").args(["prog", "loadall"]).args([object, &loaded.folder]))
            .context("the kernel did not take the object")?;
        Ok(loaded)
    }

    fn programs(&self) -> Result<BTreeMap<String, Cost>> {
        let mut programs = BTreeMap::new();
        for pin in fs::read_dir(&self.folder).with_context(|| format!("reading {}", self.folder.display()))? {
            let pin = pin.context("reading the pins")?.path();
            let name = pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
            programs.insert(name, cost(&pin)?);
        }
        Ok(programs)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _not_there = fs::remove_dir_all(&self.folder);
    }
}

fn cost(pin: &Path) -> Result<Cost> {
    #[derive(Deserialize)]
    struct Shown {
        bytes_xlated: u64,
        #[serde(default)]
        bytes_jited: u64,
    }
    let shown = run::capture(run::command("bpftool").args(["-j", "prog", "show", "pinned"]).arg(pin))?;
    let shown: Shown =
        serde_json::from_str(&shown).context("understanding bpftool's description of a program")?;
    Ok(Cost {
        instructions: verified_instructions(pin)?,
        xlated: shown.bytes_xlated,
        jited: shown.bytes_jited,
    })
}

/// From the open program's line in /proc, which is there since Linux 5.16 (commit aba64c7da983). Debian 12's bpftool does
/// not show it, and its debug log of the verifier is hundreds of megabytes.
fn verified_instructions(pin: &Path) -> Result<u64> {
    let program = open_pin(pin)?;
    let file = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("verified_insns:"));
    line.context("this kernel does not tell how many instructions it verified: Linux 5.16 and newer do")?
        .trim()
        .parse()
        .context("understanding verified_insns")
}

/// bpf(2), BPF_OBJ_GET: a pin can't be opened as a file is.
fn open_pin(pin: &Path) -> Result<OwnedFd> {
    const BPF_OBJ_GET: libc::c_int = 7;
    #[repr(C)]
    struct Attributes {
        path: u64,
        program: u32,
        flags: u32,
    }
    let path = CString::new(pin.as_os_str().as_bytes()).context("a pin's path")?;
    let mut attributes = Attributes { path: path.as_ptr() as u64, program: 0, flags: 0 };
    let size = size_of::<Attributes>();
    // SAFETY: the kernel reads `size` bytes of `attributes` and the string it points to; both live until after the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw mut attributes, size) };
    let Ok(fd @ 0..) = i32::try_from(fd) else {
        bail!("opening {}: {}", pin.display(), std::io::Error::last_os_error());
    };
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
