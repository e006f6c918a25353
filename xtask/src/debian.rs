//! Debian's packages for the VMs and chroots, beside those of this machine.
//!
//! Owns a private apt: the machine's own is only read, for its archive and how to reach it; lists, cache and packages are in a folder of their
//! own. Owns also how a small Debian is made. The callers choose the packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::{interrupt, run};

/// Both series are in this release; on another one its name stands in for the machine's own.
const RELEASE: &str = "bookworm";
/// How old package lists may be.
const LISTS_AGE: Duration = Duration::from_secs(12 * 3600);

/// A private apt: the machine's archive and its way there, and nothing else of the machine's.
pub(crate) struct Apt {
    folder: PathBuf,
    config: PathBuf,
}

impl Apt {
    /// Of packages for an architecture, as Debian calls it.
    pub(crate) fn prepare(folder: &Path, architecture: &str) -> Result<Self> {
        let apt = Self { folder: folder.to_path_buf(), config: folder.join("apt/apt.conf") };
        let own = folder.join("apt");
        for directory in ["lists/partial", "cache/archives/partial", "sources"] {
            let directory = own.join(directory);
            fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        }
        let sources = sources()?;
        for (name, text) in [
            // Hooks of the machine's configuration act on the machine's own cache; its proxy and the like are kept.
            ("apt.conf", config(&own, architecture)),
            ("status", String::new()),
            ("sources/machine.list", sources.lines),
            ("sources/machine.sources", sources.stanzas),
        ] {
            let file = own.join(name);
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        let stamp = own.join("updated");
        let age = fs::metadata(&stamp).and_then(|stamp| stamp.modified()).ok();
        let age = age.and_then(|then| SystemTime::now().duration_since(then).ok());
        if age.is_some_and(|age| age < LISTS_AGE) {
            println!("  ok       package lists");
        } else {
            apt.update()?;
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = run::command(program);
        // Read after the machine's own configuration, so that ours wins.
        command.arg("-c").arg(&self.config).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn update(&self) -> Result<()> {
        match run::progress("apt-get update, for the VMs alone", self.command("apt-get").arg("update")) {
            Ok(()) => {
                fs::write(self.folder.join("apt/updated"), "").context("noting when the lists were updated")
            }
            // Lists and packages of an earlier run may be all that is needed.
            Err(error) => {
                interrupt::check()?;
                println!("  warning  {error:#}");
                Ok(())
            }
        }
    }

    /// The package with the newest kernel of a series, on which the meta package depends.
    pub(crate) fn image(&self, series: &str, meta_package: &str) -> Result<String> {
        let missing = || {
            format!(
                "the apt sources of this machine offer no kernel {series} ({meta_package}): they have to name Debian's {RELEASE} and \
                 {RELEASE}-security (or another release's, which is then replaced by these)"
            )
        };
        let depends =
            run::capture(self.command("apt-cache").args(["depends", meta_package])).with_context(missing)?;
        let wanted = format!("linux-image-{series}.");
        depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|package| package.starts_with(&wanted))
            .map(str::to_owned)
            .with_context(missing)
    }

    fn version(&self, package: &str) -> Result<String> {
        let shown = run::capture(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        shown
            .lines()
            .find_map(|line| line.strip_prefix("Version: "))
            .map(str::to_owned)
            .with_context(|| format!("apt knows no version of {package}"))
    }

    /// The folder with a package's files, downloaded and unpacked if it is not there yet.
    pub(crate) fn unpacked(&self, package: &str) -> Result<PathBuf> {
        let version = self.version(package)?;
        let folder = self.folder.join("packages").join(format!("{package}_{}", version.replace(':', "_")));
        if folder.is_dir() {
            println!("  ok       {package} {version}");
            return Ok(folder);
        }
        if self.download(package, &folder).is_err() {
            interrupt::check()?;
            // The archive replaces versions; lists of this morning may name one that is gone.
            self.update()?;
            return self.download_newest(package);
        }
        Ok(folder)
    }

    fn download_newest(&self, package: &str) -> Result<PathBuf> {
        let version = self.version(package)?;
        let folder = self.folder.join("packages").join(format!("{package}_{}", version.replace(':', "_")));
        self.download(package, &folder)?;
        Ok(folder)
    }

    fn download(&self, package: &str, folder: &Path) -> Result<()> {
        let partial = self.folder.join("packages").join(format!("{package}.partial"));
        let _not_there = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).with_context(|| format!("making {}", partial.display()))?;
        run::progress(
            &format!("download {package}"),
            self.command("apt-get").args(["download", package]).current_dir(&partial),
        )?;
        let deb = find(&partial, &|name| name.ends_with(".deb")).context("apt-get downloaded no package")?;
        run::capture(run::command("dpkg-deb").arg("-x").arg(&deb).arg(&partial))?;
        fs::remove_file(&deb).with_context(|| format!("removing {}", deb.display()))?;
        // A folder of this name is whole: it gets the name last.
        fs::rename(&partial, folder).with_context(|| format!("making {}", folder.display()))
    }
}

fn config(own: &Path, architecture: &str) -> String {
    let own = own.display();
    format!(
        r#"#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "{own}";
Dir::State::lists "{own}/lists";
Dir::State::status "{own}/status";
Dir::Cache "{own}/cache";
Dir::Cache::archives "{own}/cache/archives";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{own}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "root";
"#
    )
}

/// The machine's Debian archives in both notations, as sources.list(5) has them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sources {
    lines: String,
    stanzas: String,
}

impl Sources {
    /// `deb [options] uri suite component…`
    fn add_lines(&mut self, text: &str, codename: &str) {
        for line in text.lines().filter(|line| line.starts_with("deb ")) {
            let rest = line.split_once(']').map_or(line.trim_start_matches("deb "), |(_, rest)| rest);
            if rest.split_whitespace().nth(1).is_some_and(|suite| is_of(suite, codename)) {
                self.lines.push_str(&to_release(line, codename));
                self.lines.push('\n');
            }
        }
    }

    /// Paragraphs of `Key: value`, parted by empty lines.
    fn add_stanzas(&mut self, text: &str, codename: &str) {
        for stanza in text.split("\n\n") {
            let suites = stanza.lines().find_map(|line| line.strip_prefix("Suites:")).unwrap_or_default();
            if suites.split_whitespace().any(|suite| is_of(suite, codename)) {
                self.stanzas.push_str(&to_release(stanza.trim(), codename));
                self.stanzas.push_str("\n\n");
            }
        }
    }
}

/// `bookworm`, `bookworm-updates`, `bookworm-security`, but no other vendor's suite.
fn is_of(suite: &str, codename: &str) -> bool {
    suite.strip_prefix(codename).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// A source of the machine's release, turned to the release that has the kernels.
fn to_release(source: &str, codename: &str) -> String {
    let words = source.split_inclusive(char::is_whitespace).map(|word| match word.strip_prefix(codename) {
        Some(rest) if is_of(word.trim_end(), codename) => format!("{RELEASE}{rest}"),
        _ => word.to_owned(),
    });
    words.collect()
}

fn sources() -> Result<Sources> {
    let system = fs::read_to_string("/etc/os-release").context("reading /etc/os-release")?;
    let field = |key: &str| {
        let value = system.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    if field("ID") != "debian" || run::find("apt-get").is_none() {
        bail!(
            "this is no Debian, whose kernels the VMs boot: run vm-test on Debian, for example in a container"
        );
    }
    let codename = field("VERSION_CODENAME");
    let mut sources = Sources::default();
    let parts =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let files: BTreeSet<PathBuf> = parts.chain(["/etc/apt/sources.list".into()]).collect();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.add_lines(&text, &codename),
            Some("sources") => sources.add_stanzas(&text, &codename),
            _ => {}
        }
    }
    ensure!(
        sources != Sources::default(),
        "the apt sources of this machine name no suite of Debian {codename}"
    );
    Ok(sources)
}

/// Makes a small Debian in an empty folder, of the version and from the place that this machine's is, with these packages.
pub(crate) fn small(root: &Path, packages: &str) -> Result<()> {
    let release = fs::read_to_string("/etc/os-release").context("which Debian this is")?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("this is no Debian")?;
    let mut make = run::command("mmdebstrap");
    make.args(["--mode=root", "--variant=essential", "--include"]).args([packages, name]).arg(root);
    make.args(
        ["/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"]
            .iter()
            .filter(|file| Path::new(file).is_file()),
    );
    run::progress("mmdebstrap", &mut make)
}

/// The first file below a folder whose name is right.
pub(crate) fn find(folder: &Path, is_right: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_dir() {
            if let Some(found) = find(&path, is_right) {
                return Some(found);
            }
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_right) {
            return Some(path);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machines_own_debian_is_copied_and_turned_to_the_release_with_the_kernels() {
        let mut sources = Sources::default();
        sources.add_lines(
            "deb [signed-by=/k arch=amd64] http://archive.example/debian trixie main\n\
             deb-src http://archive.example/debian trixie main\n\
             deb http://vendor.example/apt cloud-trixie main\n",
            "trixie",
        );
        sources.add_stanzas(
            "Types: deb\nURIs: http://archive.example/debian\nSuites: trixie-updates trixie\nComponents: main\n\n\
             Types: deb\nURIs: http://vendor.example\nSuites: nodistro\nComponents: main\n",
            "trixie",
        );
        assert_eq!(
            sources.lines,
            "deb [signed-by=/k arch=amd64] http://archive.example/debian bookworm main\n"
        );
        assert_eq!(
            sources.stanzas,
            "Types: deb\nURIs: http://archive.example/debian\nSuites: bookworm-updates bookworm\nComponents: main\n\n"
        );
    }
}
