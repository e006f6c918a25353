//! Owns pages of the documentation as transcripts: the commands on a page are run, and their output has to be as on the page.
//!
//! In a block of ```` ```console ```` a line that begins with `# ` is run on the host, one that begins with `client# ` at the other end of the
//! wire, and the lines below it are its output, on either stream. `…` stands for any lines, or at the end of a line for its rest. A number is
//! equal to any number except 0, and in a time of day also to 0; runs of spaces are equal. So rates, counts and widths are not compared.
//!
//! Comments are steps that a reader does not see: `<!-- host: COMMAND -->` and `<!-- client: COMMAND -->` are run and have to succeed, and
//! `<!-- file: NAME -->` writes the block after it to a file in the folder in which all commands run. A page is one run, from its top.

use std::path::Path;
use std::process::Command;

use crate::ctl;
use crate::folder::Folder;
use crate::netns::Namespace;
use crate::process;

/// Where the commands of a page are run.
pub struct World<'w> {
    /// Where `icmp-ctl` belongs.
    pub host: &'w Namespace,
    /// Where the pings come from.
    pub client: &'w Namespace,
}

/// What a page has to be done.
enum Step<'p> {
    /// A command, and the lines that it has to print; `None` where it has only to succeed.
    Run { on_host: bool, command: &'p str, line: usize, prints: Option<Vec<&'p str>> },
    /// A file to be written.
    Write { name: &'p str, text: Vec<&'p str> },
}

impl World<'_> {
    /// Runs a page, up to the first command that does not print what the page says, which is the error. With `ICMP_TESTS_BLESS` in the
    /// environment, the page is made to say what is printed instead.
    ///
    /// # Errors
    /// See above.
    ///
    /// # Panics
    /// The page cannot be read or written, or a command cannot be started.
    pub fn run(&self, page: &Path) -> Result<(), String> {
        let text = std::fs::read_to_string(page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        let mut lines: Vec<_> = text.lines().collect();
        let folder = Folder::new();
        let is_blessing = std::env::var_os("ICMP_TESTS_BLESS").is_some();
        let mut blessed = Vec::new();
        for step in steps(&text) {
            match step {
                Step::Write { name, text } => {
                    let _path = folder.file(name, &(text.join("\n") + "\n"));
                }
                Step::Run { on_host, command, line, prints } => {
                    let (code, printed) = self.command(on_host, command, folder.path());
                    match prints {
                        None if code == Some(0) => {}
                        Some(prints) if matches(&prints, &printed.lines().collect::<Vec<_>>()) => {}
                        Some(prints) if is_blessing => blessed.push((line, prints.len(), printed)),
                        prints => {
                            let said = prints.unwrap_or_default().join("\n");
                            let page = page.display();
                            return Err(format!(
                                "{page}:{line}: {command}\nprints\n{printed}\nwhere it says\n{said}"
                            ));
                        }
                    }
                }
            }
        }
        for (line, printed_before, printed) in blessed.iter().rev() {
            lines.splice(*line..line + printed_before, printed.lines());
        }
        if is_blessing {
            std::fs::write(page, lines.join("\n") + "\n")
                .unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        }
        Ok(())
    }

    fn command(&self, on_host: bool, command: &str, folder: &Path) -> (Option<i32>, String) {
        let namespace = if on_host { self.host } else { self.client };
        let tools = ctl::program().parent().expect("a program lies in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = namespace.command("sh");
        // Both outputs in one, as a terminal shows them.
        shell.args(["-c", &format!("exec 2>&1\n{command}")]);
        shell.current_dir(folder).env("PATH", format!("{}:{path}:/usr/sbin:/sbin", tools.display()));
        let finished = process::run(shell.env("NO_COLOR", "1").env("COLUMNS", "80"));
        let folder = folder.to_str().expect("a path in UTF-8");
        (finished.code, finished.stdout.replace(folder, "/root"))
    }
}

/// What pages have started ends with their world.
impl Drop for World<'_> {
    fn drop(&mut self) {
        for namespace in [self.host, self.client] {
            let left = Command::new("ip").args(["netns", "pids", namespace.name()]).output();
            let left = left.map(|left| left.stdout).unwrap_or_default();
            for process in String::from_utf8_lossy(&left).split_whitespace() {
                let _gone = Command::new("kill").args(["-9", process]).status();
            }
        }
    }
}

fn steps(text: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    let mut file = None;
    while let Some((number, line)) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            match comment.split_once(": ") {
                Some(("file", name)) => file = Some(name),
                Some((place @ ("host" | "client"), command)) => {
                    steps.push(Step::Run { on_host: place == "host", command, line: number, prints: None });
                }
                _ => {}
            }
        } else if let Some(kind) = line.strip_prefix("```") {
            let block: Vec<_> = lines.by_ref().take_while(|(_, line)| *line != "```").collect();
            if let Some(name) = file.take() {
                steps.push(Step::Write { name, text: block.into_iter().map(|(_, line)| line).collect() });
            } else if kind == "console" {
                for (line, text) in block {
                    match (command(text), steps.last_mut()) {
                        (Some((on_host, command)), _) => {
                            steps.push(Step::Run { on_host, command, line, prints: Some(Vec::new()) });
                        }
                        (None, Some(Step::Run { prints: Some(prints), .. })) => prints.push(text),
                        (None, _) => {}
                    }
                }
            }
        }
    }
    steps
}

/// A block of code that a reader of a page sees.
pub struct Block<'p> {
    /// The line that it begins with, or the one before.
    pub line: usize,
    /// What stands behind its first fence; `None` where it is indented instead.
    pub kind: Option<&'p str>,
    /// What is in it.
    pub lines: Vec<&'p str>,
}

/// All blocks of a page, but for those in comments.
pub fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut lines = text.lines().enumerate();
    let mut before = "";
    while let Some((line, now)) = lines.next() {
        if now == "<!--" {
            lines.by_ref().find(|(_, line)| *line == "-->");
        } else if let Some(kind) = now.strip_prefix("```") {
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            blocks.push(Block { line: line + 1, kind: Some(kind), lines: inside.collect() });
        } else if let Some(code) = now.strip_prefix("    ") {
            match blocks.last_mut() {
                Some(block) if block.kind.is_none() && block.line + block.lines.len() == line => {
                    block.lines.push(code.trim_start());
                }
                _ if before.is_empty() => {
                    blocks.push(Block { line, kind: None, lines: vec![code.trim_start()] });
                }
                _ => {}
            }
        }
        before = now;
    }
    blocks
}

/// The command that a line of a block is, and whether it is for the host.
fn command(line: &str) -> Option<(bool, &str)> {
    line.strip_prefix("# ")
        .map(|command| (true, command))
        .or_else(|| line.strip_prefix("client# ").map(|command| (false, command)))
}

fn matches(expected: &[&str], printed: &[&str]) -> bool {
    match expected {
        [] => printed.is_empty(),
        ["…", rest @ ..] => (0..=printed.len()).any(|from| matches(rest, &printed[from..])),
        [line, rest @ ..] => printed.split_first().is_some_and(|(first, others)| {
            let (line, first) = (plain(line), plain(first));
            let is_like = line.strip_suffix('…').map_or(line == first, |begin| first.starts_with(begin));
            is_like && matches(rest, others)
        }),
    }
}

/// A line with each number, its unit and the tags of programs replaced, and runs of spaces and bars made one.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line.trim_end();
    while let Some(first) = rest.chars().next() {
        let hexadecimal = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (length, stands) = match first {
            ' ' => (rest.len() - rest.trim_start_matches(' ').len(), ' '),
            '▁'..='█' => (rest.len() - rest.trim_start_matches(|c| ('▁'..='█').contains(&c)).len(), '█'),
            _ if hexadecimal >= 12 => (hexadecimal, 'f'),
            '0'..='9' => {
                let unit = rest[number..].chars().next();
                let is_zero = rest[..number].bytes().all(|digit| b"0.".contains(&digit));
                let length = number + usize::from(matches!(unit, Some('k' | 'M' | 'G')));
                // Of a time of day each part may be zero.
                let is_time = matches!(unit, Some(':' | 'Z'));
                (length, if is_zero && !is_time { '0' } else { '1' })
            }
            other => (other.len_utf8(), other),
        };
        plain.push(stands);
        rest = &rest[length..];
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spaces_may_differ_and_words_may_not() {
        assert!(matches(&["eth0  1.61M/s", "…", "end …"], &["eth0 950k/s", "a", "b", "end of it"]));
        assert!(matches(&["tag ee6c1bd133edb30a"], &["tag 0123456789abcdef"]));
        for printed in
            [&["eth0 950k/s"][..], &["eth1 950/h", "end"], &["eth0 0/s", "end"], &["eth0 1/s", "end", "more"]]
        {
            assert!(!matches(&["eth0 1/s", "…", "end"], printed), "{printed:?}");
        }
    }
}
