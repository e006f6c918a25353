//! The programs that cargo makes of the tests: built, and run several at a time.
//!
//! Owns how many run at once, which is one in CI, and what is printed of them. Most wait more than they compute, and they share only the
//! machine: each has its own network namespaces, folders and pins.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::build::{self, Built, Message};
use crate::{interrupt, run};

/// Where what the programs print is until they end.
const OUTPUT: &str = "target/test-output";

/// All test programs, and the icmp-ctl that they try.
pub(crate) struct TestPrograms {
    pub(crate) icmp_ctl: Built,
    programs: Vec<Program>,
}

struct Program {
    executable: PathBuf,
    /// The file that it is made of, in the repository.
    source: String,
    /// Where cargo would run it.
    folder: PathBuf,
}

/// What the test programs said at their ends, and which of them failed.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) lines: Vec<String>,
    pub(crate) failed: Vec<String>,
}

impl TestPrograms {
    /// Build them; cargo's own progress goes to the terminal.
    pub(crate) fn build() -> Result<Self> {
        let root = run::root()?;
        let messages = build::messages(build::cargo()?.args(["test", "--no-run"]))?;
        let mut programs: Vec<_> =
            messages.iter().filter_map(|message| Program::of(message, &root)).collect();
        programs.sort_by(|a, b| a.source.cmp(&b.source));
        Ok(Self { icmp_ctl: Built::of(&messages)?, programs })
    }

    /// Run them, with these arguments.
    pub(crate) fn run(&self, arguments: &[String], forbid_skips: bool) -> Result<Results> {
        let output = run::root()?.join(OUTPUT);
        fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
        // In CI one after the other, so that what fails there has failed by itself.
        let at_once =
            if forbid_skips { 1 } else { thread::available_parallelism().context("counting CPUs")?.get() };
        println!(
            "  {} programs, {} at a time; until one ends, its output is in {OUTPUT}",
            self.programs.len(),
            at_once
        );
        let queue = Mutex::new(self.programs.iter());
        let results = Mutex::new(Results::default());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<()> {
            while let Some(program) = next() {
                let mut command = Command::new(&program.executable);
                command.args(arguments).env("ICMP_CTL_BIN", &self.icmp_ctl.program);
                if forbid_skips {
                    command.env("ICMP_TESTS_NO_SKIP", "1");
                }
                let log = output.join(program.source.replace('/', "-"));
                let start = Instant::now();
                let passed = program.run(&mut command, &log)?;
                let said = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
                let said = String::from_utf8_lossy(&said);
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                println!("\n     Ran {} ({} s)\n{said}", program.source, start.elapsed().as_secs());
                results.lines.extend(result_lines(&said));
                results.failed.extend((!passed).then(|| program.source.clone()));
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
        })?;
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        examples(arguments, &mut results)?;
        Ok(results)
    }
}

impl Program {
    /// The one that a message of cargo's is about.
    fn of(message: &Message, root: &Path) -> Option<Self> {
        message.profile.test.then_some(())?;
        let source = message.target.src_path.strip_prefix(root).unwrap_or(&message.target.src_path);
        Some(Self {
            executable: message.executable.clone()?,
            source: source.display().to_string(),
            folder: message.manifest_path.parent()?.to_owned(),
        })
    }

    /// True if it passed; what it prints is in the log.
    fn run(&self, command: &mut Command, log: &Path) -> Result<bool> {
        let file = File::create(log).with_context(|| format!("making {}", log.display()))?;
        let errors = file.try_clone().context("duplicating a descriptor")?;
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(file).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("starting {}", self.executable.display()))?;
        Ok(interrupt::wait(&mut child, None, |_| ())?.is_some_and(|status| status.success()))
    }
}

/// Those in the documentation, which cargo alone can run.
fn examples(arguments: &[String], results: &mut Results) -> Result<()> {
    let mut cargo = build::cargo()?;
    cargo.args(["test", "--doc", "--no-fail-fast", "--"]).args(arguments);
    let outcome = run::output(cargo.stderr(Stdio::inherit()))?;
    interrupt::check()?;
    let said = String::from_utf8_lossy(&outcome.stdout);
    println!("{said}");
    results.lines.extend(result_lines(&said));
    if !outcome.status.success() {
        results.failed.push("examples in the documentation".to_owned());
    }
    Ok(())
}

fn result_lines(said: &str) -> impl Iterator<Item = String> {
    said.lines().filter(|line| line.starts_with("test result:")).map(str::to_owned)
}
