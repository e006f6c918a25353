//! Tries the packages.
//!
//! Owns the properties: in a chroot of this Debian, each package installs, its program attaches, an upgrade under a flood of pings loses none
//! and keeps a changed configuration, and removing leaves nothing but that. And checkers of each form find no fault.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Release, files, make_anew, names, packages};
use crate::netns::{HOST_V4, INTERFACE, Namespace, Pair};
use crate::release::ARCHITECTURES;
use crate::{debian, run};

/// What an upgrade has to keep; and no ping of the flood is one too many, nor an answer that comes back.
const CONFIG: &str = "interfaces = [\"veth0\"]

[limits]
per-source = { rate = \"1M/s\", burst = 1000000 }
per-prefix = { rate = \"1M/s\", burst = 1000000 }
queries = { rate = \"1M/s\", burst = 1000000 }
";

/// Most that an architecture's image may have, in bytes, as it is pulled.
const IMAGE: u64 = 12 << 20;

/// A user who may do nothing.
const NOBODY: &str = "65534";

/// A capture of one echo request, from 192.0.2.1 to 192.0.2.2.
const PING: &[u8] = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0\
    \x01\0\0\0\0\0\0\0\x2a\0\0\0\x2a\0\0\0\
    \x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0\
    \x45\0\0\x1c\0\x01\0\0\x40\x01\xf6\xdc\xc0\0\x02\x01\xc0\0\x02\x02\
    \x08\0\xe5\xca\x12\x34\0\x01";

pub(super) fn all(release: &Release) -> Result<()> {
    run::require_root("trying the packages makes a chroot and network namespaces, and")?;
    forms(release)?;
    without_root(release)?;
    FAMILIES.iter().try_for_each(|family| in_a_chroot(release, family))
}

/// How the packages of a family of systems are made, installed and removed.
struct Family {
    package: &'static str,
    make: fn(&Release, &str, &str, &Path) -> Result<PathBuf>,
    /// Also in the place of an older one.
    install: &'static [&'static str],
    remove: &'static [&'static str],
    /// Where a configuration that was changed is, after that.
    kept: &'static str,
    purge: &'static [&'static str],
}

/// Debian has rpm too, which finds none of the packages there that another one needs.
const FAMILIES: [Family; 2] = [
    Family {
        package: ".deb",
        make: packages::deb,
        install: &["dpkg", "-i"],
        remove: &["dpkg", "-r", "icmp-ctl"],
        kept: "etc/icmp-ctl/config.toml",
        purge: &["dpkg", "-P", "icmp-ctl"],
    },
    Family {
        package: ".rpm",
        make: packages::rpm,
        install: &["rpm", "-U", "--nodeps", "--force-debian"],
        remove: &["rpm", "-e", "icmp-ctl"],
        kept: "etc/icmp-ctl/config.toml.rpmsave",
        purge: &["rm", "-r", "/etc/icmp-ctl"],
    },
];

/// What programs that know the forms say.
fn forms(release: &Release) -> Result<()> {
    run::heading("Packages and image, by programs that know them");
    let folder = release.folder();
    run::capture(
        run::command("sha256sum").args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(&folder),
    )?;
    let of_kind = |kind: &str| -> Result<Vec<PathBuf>> {
        let names = files(&folder)?.into_iter().filter(|name| name.ends_with(kind));
        Ok(names.map(|name| folder.join(name)).collect())
    };
    for deb in of_kind(".deb")? {
        let said = run::capture(
            run::command("lintian")
                .args(["--fail-on", "error,warning", "--tag-display-limit", "0"])
                .arg(&deb),
        )?;
        ensure!(said.trim().is_empty(), "lintian says of {}: {said}", deb.display());
    }
    let installed = installed(&release.root.join("target/dist-tree"), Path::new("/"))?;
    for rpm in of_kind(".rpm")? {
        let said = run::capture(run::command("rpm").args(["-qpl"]).arg(&rpm))?;
        let mut there: Vec<_> = said.lines().map(str::to_owned).collect();
        there.sort();
        ensure!(there == installed, "{} has {there:#?}, and is to have {installed:#?}", rpm.display());
    }
    let image = format!("oci-archive:{}:{}", release.file("-oci.tar").display(), release.image());
    for architecture in ARCHITECTURES {
        let pulled = release.root.join("target/dist-pulled");
        make_anew(&pulled)?;
        let (to, name) = (format!("dir:{}", pulled.display()), names(architecture)?.oci);
        run::capture(run::command("skopeo").args(["--override-arch", name, "copy", &image, &to]))?;
        let said = run::capture(run::command("skopeo").args(["inspect", &to]))?;
        let said: Value = serde_json::from_str(&said).context("understanding what skopeo says")?;
        ensure!(
            said["Architecture"] == name,
            "the image for {architecture} is one for {}",
            said["Architecture"]
        );
        let sizes = files(&pulled)?
            .iter()
            .map(|file| Ok(fs::metadata(pulled.join(file))?.len()))
            .collect::<Result<Vec<_>>>()?;
        let size: u64 = sizes.iter().sum();
        ensure!(size <= IMAGE, "the image for {architecture} has {size} bytes, and may have {IMAGE}");
    }
    println!("  lintian, rpm and skopeo find nothing wrong");
    Ok(())
}

/// The paths of all files below a folder, as they are named below another one, sorted.
fn installed(folder: &Path, named: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in files(folder)? {
        let (path, named) = (folder.join(&name), named.join(&name));
        if path.is_dir() {
            all.extend(installed(&path, &named)?);
        } else {
            all.push(named.to_string_lossy().into_owned());
        }
    }
    all.sort();
    Ok(all)
}

/// What needs no root works without, and for another architecture by QEMU.
fn without_root(release: &Release) -> Result<()> {
    run::heading("The programs, without root");
    let capture = release.root.join("target/dist-ping.pcap");
    fs::write(&capture, PING).with_context(|| format!("writing {}", capture.display()))?;
    let capture = capture.to_string_lossy();
    let configured = ["-f", "deploy/config.toml", "--own", "192.0.2.2"];
    for architecture in ARCHITECTURES {
        let program = release.file(&format!("-{architecture}-linux"));
        let called = |arguments: &[&str]| {
            let mut command = run::command("setpriv");
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
            if architecture != ARCH {
                command.arg(format!("qemu-{architecture}-static"));
            }
            run::capture(command.arg(&program).args(arguments).args(configured).current_dir(&release.root))
        };
        for arguments in [&["replay", &capture][..], &["explain", "--pcap", &capture]] {
            let said = called(arguments)?;
            ensure!(said.contains("answered"), "{architecture}: {arguments:?} says: {said}");
        }
        println!("  {architecture}: replay and explain agree that a ping is answered");
    }
    Ok(())
}

fn in_a_chroot(release: &Release, family: &Family) -> Result<()> {
    run::heading(&format!("The {} in a chroot", family.package));
    let root = release.root.join("target/dist-chroot");
    make_anew(&root)?;
    debian::small(&root, "systemd,rpm")?;
    // The same, as the next package of the version.
    let package = |revision| {
        let package = (family.make)(release, ARCH, revision, &root.join("tmp"))?;
        let name = package.file_name().context("a package has a name")?;
        Ok::<_, anyhow::Error>(format!("/tmp/{}", name.to_string_lossy()))
    };
    let (old, new) = (package("1")?, package("2")?);

    let pair = Pair::make()?;
    let host = Chroot { root: &root, namespace: &pair.host };
    let install = |package: &str| host.run(&[family.install, &[package]].concat());
    install(&old)?;
    ensure!(program_of(&host)?.is_none(), "something is attached by the installation");
    host.run(&["getent", "group", "icmp-ctl"])?;
    println!("  installed; nothing is attached");

    let config = root.join("etc/icmp-ctl/config.toml");
    fs::write(&config, CONFIG).context("changing the configuration")?;
    // A frame that XDP sends over veth arrives only where the other end has a program as well.
    let client = Attached::begin(&pair.client, release.file(&format!("-{ARCH}-linux")), &config)?;
    host.run(&["icmp-ctl", "attach", "-f", "/etc/icmp-ctl/config.toml"])?;
    let before = program_of(&host)?.context("nothing is attached")?;
    let by_the_kernel = pair.host.stack_counter("IcmpInEchos")?;
    let flood = Flood::begin(&pair.client)?;
    let upgraded = install(&new);
    let (sent, received) = flood.end()?;
    upgraded?;
    let after = program_of(&host)?.context("the upgrade has taken the program off")?;
    ensure!(before != after, "the upgrade has left program {before} where it was");
    ensure!(sent > 1000 && sent == received, "{received} of {sent} pings were answered during the upgrade");
    ensure!(
        pair.host.stack_counter("IcmpInEchos")? == by_the_kernel,
        "the kernel has answered some of the pings"
    );
    ensure!(fs::read_to_string(&config)? == CONFIG, "the upgrade has changed the configuration");
    println!(
        "  upgraded: program {after} for program {before}, {sent} pings meanwhile, all answered by them"
    );

    host.run(family.remove)?;
    ensure!(program_of(&host)?.is_none(), "the program is there without its package");
    ensure!(
        fs::read_to_string(root.join(family.kept)).is_ok_and(|text| text == CONFIG),
        "removing the package has removed the configuration"
    );
    host.run(family.purge)?;
    let left = host.run(&[
        "find",
        "/etc",
        "/run",
        "/usr",
        "/var",
        "-name",
        "*icmp-ctl*",
        "-not",
        "-path",
        "/var/log/*",
    ])?;
    ensure!(left.trim().is_empty(), "left is: {left}");
    println!("  removed, with the program; nothing is left but the configuration that was changed");
    drop(client);
    drop(pair);
    fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))
}

/// The chroot, in a network namespace.
struct Chroot<'a> {
    root: &'a Path,
    namespace: &'a Namespace,
}

impl Chroot<'_> {
    /// The mounts go with the command.
    fn run(&self, command: &[&str]) -> Result<String> {
        const INSIDE: &str =
            "mount -t proc proc \"$1/proc\" && mount --rbind /sys \"$1/sys\" && exec chroot \"$@\"";
        let mut inside = self.namespace.command("unshare");
        inside.args(["--mount", "--propagation=private", "sh", "-c", INSIDE, "sh"]).arg(self.root);
        inside
            .args(command)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        run::capture(&mut inside)
    }
}

/// The kernel's number of the program on the interface.
fn program_of(host: &Chroot<'_>) -> Result<Option<u64>> {
    let links = run::capture(host.namespace.command("ip").args(["-j", "link", "show", INTERFACE]))?;
    let links: Value = serde_json::from_str(&links).context("understanding `ip -j link`")?;
    Ok(links[0]["xdp"]["prog"]["id"].as_u64())
}

/// The other end's program, until this value goes.
struct Attached<'a>(&'a Namespace, PathBuf);

impl<'a> Attached<'a> {
    fn begin(namespace: &'a Namespace, program: PathBuf, config: &Path) -> Result<Self> {
        run::capture(namespace.command(&program).arg("attach").arg("-f").arg(config))?;
        Ok(Self(namespace, program))
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let _with_the_namespace = run::output(self.0.command(&self.1).args(["detach", "--all"]));
    }
}

/// `ping -f`, until it is ended.
struct Flood(Child);

impl Flood {
    fn begin(client: &Namespace) -> Result<Self> {
        let mut ping: Command = client.command("ping");
        ping.args(["-f", "-q", "-w", "300", HOST_V4]).stdout(Stdio::piped());
        Ok(Self(ping.spawn().context("starting ping")?))
    }

    /// How many were sent, and how many answered.
    fn end(self) -> Result<(u64, u64)> {
        kill(Pid::from_raw(self.0.id().try_into()?), Signal::SIGINT).context("ending ping")?;
        let said = self.0.wait_with_output().context("waiting for ping")?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let number = |unit: &str| {
            let before = said.split(unit).next().filter(|before| before.len() < said.len())?;
            before.trim_end().rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        number("packets transmitted")
            .zip(number("received"))
            .with_context(|| format!("understanding ping: {said}"))
    }
}
