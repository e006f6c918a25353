//! A Debian for a test VM, with systemd as its first process: the units are tried as they are shipped.
//!
//! Owns what is installed in it. `vm_systemd.sh` has the checks, `vm_test.rs` the VM.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cpio::Archive;
use crate::dist::{make_anew, tree};
use crate::{debian, run};

/// Modules that are loaded, with those they depend on.
pub(crate) const MODULES: [&str; 2] = ["veth", "nf_tables"];
const PACKAGES: &str = "systemd-sysv,kmod,iproute2,iputils-ping,nftables,procps";
const SCRIPT: &str = include_str!("vm_systemd.sh");
const SCRIPT_PATH: &str = "usr/local/sbin/check";
const UNITS: &str = "etc/systemd/system";
/// Runs the script when all else has started, and what it says goes to the serial port.
const UNIT: &str = "[Unit]
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/bash /usr/local/sbin/check
StandardOutput=file:/dev/ttyS0
StandardError=inherit
";

/// Makes it in a folder, and the initramfs of it; modules are in the order of loading.
pub(crate) fn initramfs(root: &Path, icmp_ctl: &Path, modules: &[Vec<u8>]) -> Result<Vec<u8>> {
    make_anew(root)?;
    debian::small(root, PACKAGES)?;
    tree::lay(&run::root()?, icmp_ctl, root)?;
    let write = |path: &str, content: &[u8]| {
        let path = root.join(path);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))
    };
    write(SCRIPT_PATH, SCRIPT.as_bytes())?;
    write(&format!("{UNITS}/check.service"), UNIT.as_bytes())?;
    fs::create_dir(root.join("modules")).context("making a folder for modules")?;
    for (number, module) in modules.iter().enumerate() {
        // Numbered, because each comes after what it depends on.
        write(&format!("modules/{number:02}.ko"), module)?;
    }
    let wanted = root.join(UNITS).join("default.target.wants");
    fs::create_dir_all(&wanted).with_context(|| format!("making {}", wanted.display()))?;
    for (to, link) in [
        ("/lib/systemd/systemd", root.join("init")),
        ("../check.service", wanted.join("check.service")),
        // Nobody logs in, and the port is the script's.
        ("/dev/null", root.join(UNITS).join("serial-getty@ttyS0.service")),
    ] {
        symlink(to, &link).with_context(|| format!("linking {}", link.display()))?;
    }
    let mut archive = Archive::default();
    archive.folder(root, Path::new(""))?;
    // The kernel opens it for the first process before anything is mounted.
    archive.character_device("dev/console", (5, 1));
    Ok(archive.finish())
}
