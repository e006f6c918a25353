//! The look of the live view.
//!
//! Owns the layout, from 80 columns and 24 lines on. No information is given by colour alone: what matters is in bold and in words, so it reads
//! the same on light and dark, and without colours.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Wrap};

use crate::observe::rates::three_digits;
use crate::observe::sources::{Number, Sources};
use crate::top::model::{Budget, COLUMNS, Model, Table};

/// Names of the columns of the history and of the table of types.
const NAMES: [&str; COLUMNS] = ["received", "answer", "pass", "drop", "limit"];
/// Columns from which on two tables are shown.
const WIDE: u16 = 120;
const NAME_WIDTH: usize = 26;
const RATE_WIDTH: usize = 10;
/// Width of a gauge.
const GAUGE: usize = 10;
/// Eighths of a line's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const KEYS: &str = "q quit  p pause  i interface  t table  s sort  / filter  ? help";
const HELP: &[&str] = &[
    "What the program does now. Rates are of the last span of time.",
    "",
    "  q, Ctrl-C   leave",
    "  p, space    pause: the screen stays as it is",
    "  i           all interfaces, then one after the other",
    "  t, Tab      types, sources that send most, sources that are limited most",
    "  s           sort types by the next column",
    "  /           show only lines with what is typed; Esc shows all again",
    "  ?           this help",
    "",
    "Bars are the rates of the last minutes, each line to its own maximum, on the",
    "right. A gauge is what is left of a budget: at 0 % it limits. Sources are",
    "sampled, and rare ones left out: `icmp-ctl show sources` says how exact it is.",
    "",
    "Any key goes on.",
];

/// Draws all of it. `colour` is for what needs attention, and nothing depends on it.
pub fn draw(frame: &mut Frame<'_>, model: &Model, colour: bool) {
    let area = frame.area();
    let budgets = model.seen.budgets.len().div_ceil(2) as u16;
    let [head, state, history, gauges, tables, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(COLUMNS as u16),
        Constraint::Length(budgets + 1),
        Constraint::Min(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title(model), head);
    let attention = attention(model, colour, usize::from(area.width));
    frame.render_widget(Paragraph::new(attention).wrap(Wrap { trim: true }), state);
    frame.render_widget(Paragraph::new(histories(model, usize::from(area.width))), history);
    frame.render_widget(Paragraph::new(budget_lines(model)), gauges);
    draw_tables(frame, model, tables);
    frame.render_widget(keys(model), foot);
    if model.is_helping {
        draw_help(frame, area);
    }
}

fn title(model: &Model) -> Line<'_> {
    let interfaces: Vec<_> =
        model.interfaces().map(|interface| format!("{} {}", interface.name, interface.mode)).collect();
    let mut spans = vec![
        Span::from("icmp-ctl top").bold(),
        format!("  {}", interfaces.join(", ")).into(),
        format!("  every {:?}", model.interval).into(),
    ];
    if model.is_narrowed() {
        spans.push("  (one interface)".into());
    }
    if model.is_paused {
        spans.push(Span::from("  PAUSED").bold());
    }
    Line::from(spans)
}

/// What needs attention, and how many sources there are; before that, how old all of it is where nothing newer comes. It has two lines, of
/// which each has whole notices, and a sentence goes on in the second one.
fn attention(model: &Model, colour: bool, width: usize) -> Vec<Line<'static>> {
    let alarm = if colour { Style::new().fg(Color::Red).bold() } else { Style::new().bold() };
    let mut alarms = Vec::new();
    if let Some(age) = model.overdue() {
        alarms.push(format!("FIGURES ARE {} s OLD", age.as_secs()));
    }
    if let Some(trouble) = &model.trouble {
        alarms.push(trouble.clone());
        return vec![Line::styled(alarms.join("  "), alarm)];
    }
    let sources = model.seen.sources.as_ref();
    if let Some(left) = model.seen.pending {
        alarms.push(format!("CONFIRMATION PENDING, {} s left", left.as_secs()));
    }
    if model.seen.under_pressure == Some(true) {
        alarms.push("UNDER PRESSURE: replies exhausted".to_owned());
    }
    if sources.is_some_and(Sources::is_flood_from_everywhere) {
        alarms.push("FLOOD FROM EVERYWHERE".to_owned());
    }
    let sources = sources.map(|sources| match sources.number {
        // There may be some: one request in so many is looked at.
        Number::About(0) => "no source sampled".to_owned(),
        Number::About(1) => sources.number.to_string(),
        number => format!("{number}, {:.0} % from the largest", sources.largest * 100.0),
    });
    let alarms = alarms.into_iter().map(|words| Span::styled(words, alarm));
    let mut lines = vec![Line::default()];
    for words in alarms.chain(sources.map(Span::from)) {
        let line =
            lines.last_mut().filter(|line| line.width() == 0 || line.width() + 2 + words.width() <= width);
        match line {
            Some(line) if line.width() == 0 => line.push_span(words),
            Some(line) => line.extend([Span::from("  "), words]),
            None => lines.push(words.into()),
        }
    }
    lines
}

fn histories(model: &Model, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    // Name, rate, a gap at both sides of the bars, and the maximum.
    let bars = width.saturating_sub(10 + RATE_WIDTH + 4 + 10);
    for (column, name) in NAMES.iter().enumerate() {
        let history = model.history(column);
        let now = history.last().copied().unwrap_or(0.0);
        let shown = &history[history.len().saturating_sub(bars)..];
        let most = shown.iter().copied().fold(0.0, f64::max);
        lines.push(Line::from(vec![
            format!("{name:<10}").into(),
            Span::from(format!("{:>RATE_WIDTH$}", per_second(now))).bold(),
            format!("  {:>bars$}  max {}", sparkline(shown, most), three_digits(most)).into(),
        ]));
    }
    lines
}

fn sparkline(rates: &[f64], most: f64) -> String {
    let bar = |rate: &f64| match rate {
        _ if *rate <= 0.0 => ' ',
        _ => BARS[((rate / most * 8.0).ceil() as usize).clamp(1, 8) - 1],
    };
    rates.iter().map(bar).collect()
}

/// Two budgets to a line.
fn budget_lines(model: &Model) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from("")];
    let half = model.seen.budgets.len().div_ceil(2);
    for left in 0..half {
        let pair = [model.seen.budgets.get(left), model.seen.budgets.get(left + half)];
        lines.push(Line::from(pair.into_iter().flatten().flat_map(gauge).collect::<Vec<_>>()));
    }
    lines
}

fn gauge(budget: &Budget) -> [Span<'static>; 3] {
    let name = format!("{:<20}", budget.name);
    let Some(left) = budget.left else {
        return [name.into(), format!("{:<20}", "unlimited").into(), "".into()];
    };
    let full = (left * GAUGE as f64).round() as usize;
    let bar = format!("{}{}", "█".repeat(full), "·".repeat(GAUGE - full));
    // What limits is less than a packet: in words it is empty.
    let percent = format!(" {:>3.0} %", (left * 100.0).floor());
    let percent = if left < 0.01 { Span::from(percent).bold() } else { percent.into() };
    [name.into(), bar.into(), Span::styled(format!("{:<10}", percent.content), percent.style)]
}

fn draw_tables(frame: &mut Frame<'_>, model: &Model, area: Rect) {
    let draw = |frame: &mut Frame<'_>, table: Table, area: Rect| {
        let rows = usize::from(area.height).saturating_sub(2);
        frame.render_widget(Paragraph::new(table_lines(model, table, rows)), area);
    };
    if area.width < WIDE {
        return draw(frame, model.table, area);
    }
    let [left, right] =
        Layout::horizontal([Constraint::Length(WIDE / 2 + 20), Constraint::Min(1)]).areas(area);
    draw(frame, Table::Types, left);
    draw(frame, if model.table == Table::Types { Table::Sources } else { model.table }, right);
}

fn table_lines(model: &Model, table: Table, rows: usize) -> Vec<Line<'static>> {
    let heading = |first: &str, columns: &[&str]| {
        let columns: String = columns.iter().map(|name| format!("{name:>RATE_WIDTH$}")).collect();
        vec![Line::from(""), Line::from(format!("{first:<NAME_WIDTH$}{columns}").bold())]
    };
    let line = |name: &str, rates: &[f64]| {
        let rates: String = rates.iter().map(|rate| format!("{:>RATE_WIDTH$}", per_second(*rate))).collect();
        Line::from(format!("{:<NAME_WIDTH$}{rates}", shortened(name, NAME_WIDTH - 1)))
    };
    match table {
        Table::Types => {
            let names: [String; COLUMNS] = std::array::from_fn(|i| {
                if i == model.order { format!("▼{}", NAMES[i]) } else { NAMES[i].to_owned() }
            });
            let mut lines = heading("TYPE", &names.each_ref().map(String::as_str));
            lines.extend(model.types().iter().take(rows).map(|(name, rates)| line(name, rates)));
            lines
        }
        Table::Sources | Table::Limited => {
            let title = if table == Table::Limited { "LIMITED MOST" } else { "SENDS MOST" };
            let mut lines = heading(title, &["requests", "limited"]);
            lines.extend(
                model
                    .sources(table)
                    .iter()
                    .take(rows)
                    .map(|(name, requests, limited)| line(name, &[*requests, *limited])),
            );
            lines
        }
    }
}

fn keys(model: &Model) -> Line<'_> {
    if model.is_filtering {
        return Line::from(format!("filter: {}▏  Enter keeps it, Esc shows all", model.filter)).bold();
    }
    if model.filter.is_empty() {
        return Line::from(KEYS);
    }
    Line::from(format!("{KEYS}  [{}]", model.filter))
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let [middle] = Layout::vertical([Constraint::Length(HELP.len() as u16)]).areas(area);
    frame.render_widget(Clear, area);
    frame
        .render_widget(Paragraph::new(HELP.iter().map(|line| Line::from(*line)).collect::<Vec<_>>()), middle);
}

/// Nothing at all is not worth a digit.
fn per_second(rate: f64) -> String {
    if rate <= 0.0 {
        return "-".to_owned();
    }
    format!("{}/s", three_digits(if rate >= 10.0 { rate.round() } else { rate }))
}

/// An IPv6 prefix may be longer than there is room for.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::*;
    use crate::top::picture::picture;
    use crate::top::scenes::{
        everything, everywhere, exhausted, flood, idle, one_source, pending, quiet, seen,
    };

    const SMALL: (u16, u16) = (80, 24);
    const LARGE: (u16, u16) = (200, 60);

    /// The screen as text.
    fn screen(model: &Model, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, model, true)).expect("drawn");
        let buffer = terminal.backend().buffer();
        let lines = (0..height).map(|y| {
            let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
            format!("{}\n", line.trim_end())
        });
        lines.collect()
    }

    /// Holds the picture in the documentation to a screen; `ICMP_TESTS_BLESS=1` draws it anew instead.
    fn is_drawn(name: &str, model: &Model, (width, height): (u16, u16)) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(frame, model, true)).expect("drawn");
        let drawn = picture(terminal.backend().buffer());
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        if std::env::var_os("ICMP_TESTS_BLESS").is_some() {
            return fs::write(&file, drawn).expect("written");
        }
        assert!(fs::read_to_string(&file).unwrap_or_default() == drawn, "docs/{name} shows another screen");
    }

    /// Holds a screen against the one in `screens/`; `ICMP_TESTS_BLESS=1` writes it there instead.
    fn is(name: &str, model: &Model, size: (u16, u16)) {
        let shown = screen(model, size);
        assert!(shown.lines().all(|line| line.chars().count() <= usize::from(size.0)));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/screens").join(name);
        if std::env::var_os("ICMP_TESTS_BLESS").is_some() {
            return fs::write(&file, shown).expect("written");
        }
        let wanted = fs::read_to_string(&file).unwrap_or_default();
        assert!(shown == wanted, "{name}:\n{shown}\nwhere it was:\n{wanted}");
    }

    fn press(model: &mut Model, keys: &str) {
        for key in keys.chars() {
            let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
            model.press(KeyEvent::new(code, KeyModifiers::NONE));
        }
    }

    #[test]
    fn a_flood_is_seen_at_a_glance_on_a_small_screen_and_a_large_one() {
        let mut model = flood();
        is("flood-80x24.txt", &model, SMALL);
        is("flood-200x60.txt", &model, LARGE);
        press(&mut model, "t");
        is("flood-sources-80x24.txt", &model, SMALL);
        press(&mut model, "ti");
        is("flood-limited-one-interface-80x24.txt", &model, SMALL);
    }

    #[test]
    fn pictures_in_the_handbook_are_of_what_is_shown() {
        is_drawn("top-idle.svg", &idle(), SMALL);
        let mut one = one_source();
        press(&mut one, "t");
        is_drawn("top-one-source.svg", &one, SMALL);
        is_drawn("top-everywhere.svg", &everywhere(), SMALL);
        is_drawn("top.svg", &exhausted(), SMALL);
        is_drawn("top-large.svg", &exhausted(), (132, 36));
        is_drawn("top-pending.svg", &pending(), SMALL);
    }

    #[test]
    fn nothing_that_needs_attention_is_cut_off_on_a_small_screen() {
        is("everything-80x24.txt", &everything(), SMALL);
        let mut model = flood();
        model.pass(Duration::from_secs(20));
        model.take(Err("nothing is loaded in this network namespace; `icmp-ctl attach IFACE` loads and attaches the program".to_owned()));
        is("detached-80x24.txt", &model, SMALL);
    }

    #[test]
    fn where_nobody_was_sampled_it_is_not_said_that_nobody_sends() {
        let shown = screen(&quiet(), SMALL);
        assert!(shown.contains("no source sampled\n"), "{shown}");
        assert!(!shown.contains("from the largest"), "{shown}");
    }

    #[test]
    fn a_source_of_which_one_request_was_sampled_by_chance_is_not_listed() {
        let mut model = exhausted();
        press(&mut model, "t");
        let shown = screen(&model, SMALL);
        assert!(shown.contains("192.0.2.10") && !shown.contains("203.0.113."), "{shown}");
    }

    #[test]
    fn before_anything_was_seen_and_where_nothing_can_be_read_there_is_a_screen() {
        let mut model = Model::new(Duration::from_secs(1));
        is("nothing-80x24.txt", &model, SMALL);
        model.take(Err(
            "nothing is loaded in this network namespace; `icmp-ctl attach IFACE` does".to_owned()
        ));
        is("trouble-80x24.txt", &model, SMALL);
    }

    #[test]
    fn figures_are_old_once_newer_ones_are_due_unless_it_is_paused() {
        let mut model = flood();
        let second = Duration::from_secs(1);
        model.pass(model.interval + second - Duration::from_nanos(1));
        assert_eq!(model.overdue(), None);
        model.pass(12 * second);
        is("old-80x24.txt", &model, SMALL);
        model.take(Err("`serve` has not answered within 25 s".to_owned()));
        is("old-trouble-80x24.txt", &model, SMALL);
        press(&mut model, "p");
        assert_eq!(model.overdue(), None);
        press(&mut model, "p");
        model.take(Ok(seen(0, 0.98, Vec::new())));
        assert_eq!(model.overdue(), None);
    }

    #[test]
    fn keys_pause_filter_sort_and_help() {
        let mut model = flood();
        press(&mut model, "p");
        model.take(Ok(seen(0, 0.98, Vec::new())));
        press(&mut model, "s/echo\n");
        is("paused-filtered-80x24.txt", &model, SMALL);
        press(&mut model, "?");
        is("help-80x24.txt", &model, SMALL);
        press(&mut model, "x");
        assert!(!model.is_helping);
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        let model = flood();
        for size in [(1, 1), (10, 3), (40, 10), (80, 5), (300, 100)] {
            let _drawn = screen(&model, size);
        }
    }
}
