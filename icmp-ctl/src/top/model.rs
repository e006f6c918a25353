//! The state of the screen, and how keys change it.
//!
//! Owns the history of rates, the choice of interface, table, order and filter. It draws nothing, reads no map and knows no terminal.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use icmp_common::reason::Verdict;
use icmp_common::types::row_labels;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::observe::rates::{Rows, Totals};
use crate::observe::sources::Sources;

/// Moments that the history goes back, which is as much as the widest screen shows.
const HISTORY: usize = 300;

/// How late what was read may be before the screen says that it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was seen in one span of time.
#[derive(Default)]
pub struct Seen {
    /// How long it was.
    pub span: Duration,
    /// What has come, by interface.
    pub interfaces: Vec<Interface>,
    /// What is left of each budget.
    pub budgets: Vec<Budget>,
    /// Who sent it; `None` where nothing is known of it.
    pub sources: Option<Sources>,
    /// Whether the reply budget is exhausted; `None` where that cannot be known.
    pub under_pressure: Option<bool>,
    /// How long until a policy that awaits confirmation is taken back.
    pub pending: Option<Duration>,
}

/// One interface.
#[derive(Clone)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// How the program is attached.
    pub mode: String,
    /// What has come in on it.
    pub rows: Rows,
}

/// One budget.
pub struct Budget {
    /// Its name in `[limits]`.
    pub name: String,
    /// What is left, from 0 to 1; `None` where there is no limit.
    pub left: Option<f64>,
}

/// The tables of which a small screen has room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// ICMP types.
    Types,
    /// Sources that send most.
    Sources,
    /// Sources that are limited most.
    Limited,
}

impl Table {
    const ALL: [Self; 3] = [Self::Types, Self::Sources, Self::Limited];
}

/// What a key press means beyond what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To go on.
    Stay,
    /// To leave.
    Leave,
}

/// The columns of types: all frames, then those of each verdict.
pub const COLUMNS: usize = 1 + Verdict::ALL.len();

/// A line of the table of types: family, type, and rates by column.
pub type TypeLine = (String, [f64; COLUMNS]);

/// All that the screen shows.
pub struct Model {
    /// Time between two readings.
    pub interval: Duration,
    /// The latest.
    pub seen: Seen,
    /// How old that is; `None` where there is nothing yet.
    age: Option<Duration>,
    /// Why there is nothing newer.
    pub trouble: Option<String>,
    /// Nothing newer is taken.
    pub is_paused: bool,
    /// The help is shown.
    pub is_helping: bool,
    /// What is shown where there is room for one table.
    pub table: Table,
    /// The column that types are in order of.
    pub order: usize,
    /// Only lines with this in them.
    pub filter: String,
    /// The filter is being typed.
    pub is_filtering: bool,
    /// Only this interface.
    interface: Option<String>,
    /// Rates by interface, the latest last: all frames, then by verdict.
    history: BTreeMap<String, VecDeque<[f64; COLUMNS]>>,
}

impl Model {
    /// Nothing seen yet.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            seen: Seen::default(),
            age: None,
            trouble: None,
            is_paused: false,
            is_helping: false,
            table: Table::Types,
            order: 0,
            filter: String::new(),
            is_filtering: false,
            interface: None,
            history: BTreeMap::new(),
        }
    }

    /// Takes what was seen, unless it is paused.
    pub fn take(&mut self, seen: Result<Seen, String>) {
        if self.is_paused {
            return;
        }
        let seen = match seen {
            Ok(seen) => seen,
            Err(trouble) => {
                self.trouble = Some(trouble);
                return;
            }
        };
        self.trouble = None;
        self.age = Some(Duration::ZERO);
        let gone = |name: &str| !seen.interfaces.iter().any(|interface| interface.name == name);
        self.history.retain(|name, _| !gone(name));
        if self.interface.as_deref().is_some_and(gone) {
            self.interface = None;
        }
        for interface in &seen.interfaces {
            let history = self.history.entry(interface.name.clone()).or_default();
            history.push_back(rates(&interface.rows.total(), seen.span));
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
        self.seen = seen;
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        if let Some(age) = &mut self.age {
            *age += time;
        }
    }

    /// How old the latest is, where something newer is due and nobody wanted it not to come.
    pub fn overdue(&self) -> Option<Duration> {
        self.age.filter(|age| *age >= self.interval + PATIENCE && !self.is_paused)
    }

    /// Does what a key asks for.
    pub fn press(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Wish::Leave;
        }
        if self.is_filtering {
            match key.code {
                KeyCode::Char(letter) => self.filter.push(letter),
                KeyCode::Backspace => _ = self.filter.pop(),
                KeyCode::Enter => self.is_filtering = false,
                KeyCode::Esc => {
                    self.is_filtering = false;
                    self.filter.clear();
                }
                _ => {}
            }
            return Wish::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Leave,
            KeyCode::Esc if !self.is_helping => self.filter.clear(),
            KeyCode::Char(' ' | 'p') => self.is_paused = !self.is_paused,
            KeyCode::Char('i') => self.next_interface(),
            KeyCode::Char('t') | KeyCode::Tab => self.table = after(&Table::ALL, self.table),
            KeyCode::Char('s') => self.order = (self.order + 1) % COLUMNS,
            KeyCode::Char('/') => self.is_filtering = true,
            _ => {}
        }
        self.is_helping = matches!(key.code, KeyCode::Char('?' | 'h')) && !self.is_helping;
        Wish::Stay
    }

    /// All of them, then one after the other.
    fn next_interface(&mut self) {
        let names = self.seen.interfaces.iter().map(|interface| Some(interface.name.clone()));
        let choices: Vec<_> = std::iter::once(None).chain(names).collect();
        let at = choices.iter().position(|choice| *choice == self.interface).unwrap_or(0);
        self.interface = choices[(at + 1) % choices.len()].clone();
    }

    /// The interfaces that are shown.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.seen
            .interfaces
            .iter()
            .filter(|interface| self.interface.as_deref().is_none_or(|chosen| chosen == interface.name))
    }

    /// True where one interface was chosen of several.
    pub fn is_narrowed(&self) -> bool {
        self.interface.is_some()
    }

    /// Frames a second that were received, or had a verdict, the latest last.
    pub fn history(&self, column: usize) -> Vec<f64> {
        let shown: Vec<_> =
            self.interfaces().filter_map(|interface| self.history.get(&interface.name)).collect();
        let longest = shown.iter().map(|history| history.len()).max().unwrap_or(0);
        let at = |back: usize| -> f64 {
            let moment = |history: &&VecDeque<[f64; COLUMNS]>| {
                history.iter().rev().nth(back).map(|rates| rates[column])
            };
            shown.iter().filter_map(moment).sum()
        };
        (0..longest).rev().map(at).collect()
    }

    /// Types that were seen, in order of a column.
    pub fn types(&self) -> Vec<TypeLine> {
        let mut rows: BTreeMap<u8, Totals> = BTreeMap::new();
        for (row, totals) in self.interfaces().flat_map(|interface| &interface.rows.0) {
            rows.entry(*row).or_default().add(totals);
        }
        let line = |(row, totals): (&u8, &Totals)| {
            let (family, icmp_type) = row_labels(usize::from(*row));
            let name = if icmp_type.is_empty() {
                format!("{family} without ICMP")
            } else {
                format!("{family} {icmp_type}")
            };
            (name, rates(totals, self.seen.span))
        };
        let mut lines: Vec<_> =
            rows.iter().map(line).filter(|(name, rates)| rates[0] > 0.0 && self.shows(name)).collect();
        lines.sort_by_key(|(_, rates)| Reverse((rates[self.order] * 1e3) as u64));
        lines
    }

    /// Sources in order of what they send, or of what is limited of that. In a flood from everywhere most have a single sample, by chance: their rates
    /// are not told from nothing, and they are left out.
    pub fn sources(&self, table: Table) -> Vec<(String, f64, f64)> {
        let key = |row: &(String, f64, f64)| if table == Table::Limited { row.2 } else { row.1 };
        let rows = self.seen.sources.iter().flat_map(|sources| &sources.rows);
        let rows = rows.filter(|row| row.requests > row.standard_error);
        let mut rows: Vec<_> = rows
            .map(|row| (row.source.clone(), row.requests, row.limited))
            .filter(|row| key(row) > 0.0 && self.shows(&row.0))
            .collect();
        rows.sort_by(|a, b| key(b).total_cmp(&key(a)));
        rows
    }

    fn shows(&self, line: &str) -> bool {
        line.contains(&self.filter)
    }
}

fn after<T: Copy + PartialEq>(all: &[T], one: T) -> T {
    let at = all.iter().position(|each| *each == one).unwrap_or(0);
    all[(at + 1) % all.len()]
}

fn rates(totals: &Totals, span: Duration) -> [f64; COLUMNS] {
    let seconds = span.as_secs_f64().max(f64::MIN_POSITIVE);
    let rate = |count: u64| count as f64 / seconds;
    std::array::from_fn(|column| match column {
        0 => rate(totals.received()),
        _ => rate(totals.packets[column - 1]),
    })
}
