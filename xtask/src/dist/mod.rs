//! `cargo xtask dist`: all files of a release, in `target/dist`.
//!
//! Owns the order, and that two builds of a commit are the same bytes: times are the commit's, lists are sorted, and nothing of this machine
//! gets in. [`tree`] owns which files are installed, [`packages`] and [`image`] the forms, [`trial`] tries them.

mod archive;
mod image;
mod packages;
pub(crate) mod tree;
mod trial;

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use image::Image;

use crate::release::{self, ARCHITECTURES};
use crate::{build, run, setup};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Then install, upgrade and remove the packages in a chroot, under pings, and have all forms looked at by their own programs
    #[arg(long)]
    test: bool,

    /// Then build the commit again in another folder, and compare
    #[arg(long)]
    check_reproducible: bool,
}

/// What is built.
struct Release {
    root: PathBuf,
    version: &'static str,
    /// When the commit was made: in seconds since 1970, by RFC 3339, and by RFC 2822.
    time: String,
    date: String,
    day: String,
    /// Who made the commit, which is who publishes it.
    maintainer: String,
}

impl Release {
    fn of_this_commit() -> Result<Self> {
        let root = run::root()?;
        let said = |format| {
            let show = ["show", "--no-patch", format, "HEAD"];
            run::capture(run::command("git").arg("-C").arg(&root).args(show))
                .map(|said| said.trim().to_owned())
        };
        let (time, date, day) = (said("--format=%ct")?, said("--format=%cI")?, said("--format=%cD")?);
        let maintainer = said("--format=%cN <%cE>")?;
        Ok(Self { root, version: env!("CARGO_PKG_VERSION"), time, date, day, maintainer })
    }

    /// Where what is built goes.
    fn folder(&self) -> PathBuf {
        self.root.join("target/dist")
    }

    /// What the image is called in its archive.
    fn image(&self) -> String {
        format!("icmp-ctl:{}", self.version)
    }

    /// A file there; `rest` follows name and version.
    fn file(&self, rest: &str) -> PathBuf {
        self.folder().join(format!("icmp-ctl-{}{rest}", self.version))
    }
}

/// An architecture by the names that others have for it.
pub(crate) struct Names {
    pub(crate) debian: &'static str,
    oci: &'static str,
}

pub(crate) fn names(architecture: &str) -> Result<Names> {
    match architecture {
        "x86_64" => Ok(Names { debian: "amd64", oci: "amd64" }),
        "aarch64" => Ok(Names { debian: "arm64", oci: "arm64" }),
        other => bail!("nothing is shipped for {other}"),
    }
}

pub(crate) fn verb(args: &Args) -> Result<()> {
    setup::ready(if args.test { setup::Purpose::DistTest } else { setup::Purpose::Dist })?;
    let release = Release::of_this_commit()?;
    make(&release)?;
    if args.check_reproducible {
        again(&release)?;
    }
    if args.test {
        trial::all(&release)?;
    }
    Ok(())
}

fn make(release: &Release) -> Result<()> {
    let folder = release.folder();
    make_anew(&folder)?;
    run::heading("The programs");
    let mut programs = BTreeMap::new();
    for architecture in ARCHITECTURES {
        let program = release::program(architecture)?;
        let file = release.file(&format!("-{architecture}-linux"));
        fs::copy(&program, &file).with_context(|| format!("writing {}", file.display()))?;
        programs.insert(architecture, program);
    }
    // The pages and completions are written by the program that runs here.
    let writer = programs
        .get(ARCH)
        .with_context(|| format!("nothing is shipped for {ARCH}, which this machine is"))?;
    run::heading("Archives, packages, an image");
    let mut image = Image::begin(release)?;
    for (architecture, program) in &programs {
        let tree = tree::make(release, program, writer)?;
        archive::compressed(
            release,
            &tree,
            &["etc", "usr"],
            &release.file(&format!("-{architecture}-linux.tar.gz")),
        )?;
        packages::deb(release, architecture, packages::REVISION, &folder)?;
        packages::rpm(release, architecture, packages::REVISION, &folder)?;
        image.add(architecture, &tree)?;
    }
    image.write()?;
    let sums = run::capture(run::command("sh").args(["-c", "LC_ALL=C sha256sum -- *"]).current_dir(&folder))?;
    fs::write(folder.join("SHA256SUMS"), sums).context("writing the checksums")?;
    for file in files(&folder)? {
        let size = fs::metadata(folder.join(&file))?.len();
        println!("  {:>8.1} MB  {}", size as f64 / 1e6, folder.join(&file).display());
    }
    Ok(())
}

/// Builds the commit in another folder, and compares.
fn again(release: &Release) -> Result<()> {
    run::heading("The same again, in another folder");
    let changed =
        run::capture(run::command("git").arg("-C").arg(&release.root).args(["status", "--porcelain"]))?;
    ensure!(changed.is_empty(), "only a commit can be built again; not committed are:\n{changed}");
    let other = release.root.join("target/dist-again");
    if other.exists() {
        fs::remove_dir_all(&other).with_context(|| format!("removing {}", other.display()))?;
    }
    run::capture(run::command("git").args(["clone", "--quiet"]).args([&release.root, &other]))?;
    run::stream(
        build::cargo()?.args(["xtask", "dist"]).current_dir(&other).env_remove("CARGO_MANIFEST_DIR"),
    )?;
    let there = other.join("target/dist");
    let (ours, theirs) = (files(&release.folder())?, files(&there)?);
    ensure!(ours == theirs, "the files differ: {ours:?}, {theirs:?}");
    for file in &ours {
        let read = |folder: &Path| fs::read(folder.join(file)).with_context(|| format!("reading {file}"));
        ensure!(
            read(&release.folder())? == read(&there)?,
            "{file} differs from the same in {}",
            there.display()
        );
    }
    println!("  {} files, the same bytes", ours.len());
    fs::remove_dir_all(&other).with_context(|| format!("removing {}", other.display()))
}

/// An empty folder, whatever was there.
pub(crate) fn make_anew(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))
}

/// The names in a folder, sorted.
fn files(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
