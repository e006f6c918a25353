//! A finding: the result of one check of the host, for `doctor` and for the verbs that check before they act.
//!
//! Owns its states, and its form as a sentence, as lines and as JSON. The checks are in `kernel/requirements.rs`, `host/checks` and `instance`,
//! once for all verbs.

use serde_json::{Value, json};

use crate::diagnostics::{note, warn};
use crate::output::folded;

/// Columns before the text of a finding: its state, and what was checked.
const INDENT: usize = 24;

/// How bad it is, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing is in the way.
    Fine,
    /// It could not be looked at, or depends on what cannot be seen from here.
    Unknown,
    /// Pings are answered, but slower than this host could: by the kernel, or by a program in a slower place.
    Slow,
    /// The program cannot be attached, pings are lost, or pings are answered that must not be.
    Broken,
}

impl State {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Unknown => "unknown",
            Self::Slow => "slow",
            Self::Broken => "broken",
        }
    }
}

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of what was checked, the same in every release.
    pub check: &'static str,
    /// The interface it is about; `None` where it is about the host.
    pub interface: Option<String>,
    /// How bad it is.
    pub state: State,
    /// What is so.
    pub what: String,
    /// What follows from it, and what can be done; empty where it is fine.
    pub why: String,
    /// The command line that ends it, where one does.
    pub fix: Option<String>,
}

impl Finding {
    /// Nothing is in the way.
    pub fn fine(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, State::Fine, what, "")
    }

    /// Something is.
    pub fn new(check: &'static str, state: State, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { check, interface: None, state, what: what.into(), why: why.into(), fix: None }
    }

    /// About an interface.
    pub fn on(self, interface: &str) -> Self {
        Self { interface: Some(interface.to_owned()), ..self }
    }

    /// Ended by this command line.
    pub fn fixed_by(self, command: impl Into<String>) -> Self {
        Self { fix: Some(command.into()), ..self }
    }

    /// As a sentence.
    pub fn text(&self) -> String {
        let mut text = self.interface.as_ref().map_or_else(String::new, |interface| format!("{interface}: "));
        text.push_str(&self.what);
        if !self.why.is_empty() {
            text.push_str("; ");
            text.push_str(&self.why);
        }
        if let Some(command) = &self.fix {
            text.push_str(&format!("; `{command}` helps"));
        }
        text
    }

    /// As lines that fit a terminal, for whoever has named the interface above; the command that helps is on one line, to be copied.
    pub fn lines(&self) -> Vec<String> {
        let head = format!("{:<8}{}", self.state.name(), self.check);
        let text =
            if self.why.is_empty() { self.what.clone() } else { format!("{}; {}", self.what, self.why) };
        let mut lines = folded(&format!("{head:<0$}", INDENT - 1), &text, INDENT);
        lines.extend(self.fix.iter().map(|command| format!("{:INDENT$}fix: {command}", "")));
        lines
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "check": self.check, "interface": self.interface, "state": self.state.name(), "what": self.what, "why": self.why,
                "fix": self.fix })
    }
}

/// Says what is not fine.
pub fn report(findings: &[Finding]) {
    for finding in findings {
        match finding.state {
            State::Fine => {}
            State::Unknown => note(&finding.text()),
            State::Slow | State::Broken => warn(&finding.text()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::WIDTH;

    #[test]
    fn a_finding_fits_a_terminal_and_its_command_stays_whole() {
        let command = format!("icmp-ctl {}", "x".repeat(100));
        let why = "one source's pings come in on one CPU only, ".repeat(5);
        let finding = Finding::new("queues", State::Slow, "one receive queue", why.trim()).on("eth0");
        let lines = finding.clone().fixed_by(&command).lines();
        let (fix, text) = lines.split_last().expect("lines");
        assert!(text.len() > 3 && text.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        assert!(text[0].starts_with("slow    queues          one receive queue;"), "{lines:#?}");
        assert!(fix.trim_start().starts_with("fix: ") && fix.ends_with(&command), "{fix}");
        assert!(finding.text().starts_with("eth0: one receive queue; one source's"), "{}", finding.text());
    }

    #[test]
    fn states_are_ordered_by_how_bad_they_are() {
        assert!(State::Fine < State::Unknown && State::Unknown < State::Slow && State::Slow < State::Broken);
    }
}
