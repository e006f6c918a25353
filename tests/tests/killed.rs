//! Verbs that are killed before one of their changes: what `status` says then is true, and the next verb puts it right.
//!
//! Owns the verbs that end, on interfaces of their own and in front of another program. The tests of each verb have the frames meanwhile;
//! `faults.rs` kills it.

use std::time::{Duration, Instant};

use icmp_tests::ctl;
use icmp_tests::faults::{SECOND_IF, State, Tried, World, errors, killed};
use icmp_tests::generate::{Random, seed};
use icmp_tests::xdp::PassLink;
use serde_json::Value;

const DONE: Option<i32> = Some(0);
const NOTHING_LOADED: Option<i32> = Some(3);
const LIMIT: Duration = Duration::from_secs(40);

/// About how many of a verb's changes it is killed before where it is not all.
const FEW: usize = 5;

/// What is killed.
#[derive(Clone, Copy, Debug)]
struct Case<'a> {
    /// The second interface has another's program, by a link of the test.
    beside_another: bool,
    /// What is done before.
    before: &'a [&'a str],
    /// What is killed.
    verb: &'a str,
    /// At any time the state is that of before or that of after, without anything to be put right.
    is_one_step: bool,
}

impl Case<'_> {
    fn try_it(self) {
        let Some(world) = World::new() else { return };
        let Self { beside_another, before, verb, is_one_step } = self;
        let host = &world.pair.host;
        let _other = beside_another.then(|| host.enter(|| PassLink::attach(SECOND_IF)));
        // Not before there was anything.
        let _before = world.prepare(before);
        let alone = world.prepare(&[]);
        let mut old = world.prepare(before);
        let (done, changes) = world.changes(verb);
        let _said = done.expect_success();
        let new = State::of(host);
        let mut random = Random::new(seed());
        let mut tried = Tried::default();
        for (call, number, line) in &changes {
            if errors().is_empty() && random.below(changes.len()) >= FEW {
                continue;
            }
            old = if State::of(host) == old { old } else { world.prepare(before) };
            if killed(ctl::program(), host, &world.line(verb), call, *number).code.is_some() {
                // It had fewer of them this time.
                continue;
            }
            tried.cases += 1;
            let mut found = vec![untruth(&world, &alone)];
            if is_one_step {
                let state = State::of(host);
                let is_one = state == old || state.is_like(&new);
                found.push((!is_one).then(|| format!("neither: {}", state.apart_from(&old))));
            }
            // The same again, or away with it.
            let (next, wanted) = if tried.cases % 2 == 0 { (verb, &new) } else { ("detach --all", &alone) };
            let done = world.run(next);
            let is_off = done.code == NOTHING_LOADED || done.stderr.contains("nothing of ours is attached");
            if done.code != DONE && !(next.starts_with("detach") && is_off) {
                found.push(Some(format!("{done}")));
            }
            let state = State::of(host);
            if !state.is_like(wanted) {
                found.push(Some(format!("then {next}: {}", state.apart_from(wanted))));
            }
            let found: Vec<_> = found.into_iter().flatten().collect();
            if !found.is_empty() {
                tried.fault(&format!("{call} number {number}, {line}:\n{}", found.join("\n")));
            }
        }
        tried.end(&format!("{verb}, of {} changes", changes.len()));
    }
}

/// What `status` does not tell as it is. A link without a pin goes with its process, some time later.
fn untruth(world: &World, alone: &State) -> Option<String> {
    let host = &world.pair.host;
    let asked = Instant::now();
    loop {
        let status = ctl::run(host, "status -j");
        let rows: Value = match status.code {
            DONE => serde_json::from_str(&status.stdout).expect("JSON"),
            NOTHING_LOADED => Value::Null,
            _ => return Some(format!("{status}")),
        };
        let rows = rows["interfaces"].as_array().cloned().unwrap_or_default();
        let runs = |row: &&Value| row["mode"] == "native" || row["mode"] == "generic";
        let mut told: Vec<_> =
            rows.iter().filter(runs).filter_map(|row| row["program_id"].as_u64()).collect();
        let links = host.ip("-d link");
        let programs = links.split("prog/xdp id ").skip(1);
        let mut there: Vec<u64> =
            programs.filter_map(|rest| rest.split_whitespace().next()?.parse().ok()).collect();
        there.retain(|id| !alone.programs.iter().any(|other| u64::from(*other) == *id));
        told.sort_unstable();
        there.sort_unstable();
        if told == there {
            return None;
        }
        if asked.elapsed() > LIMIT {
            return Some(format!("{status}\nbut there are {there:?}"));
        }
    }
}

#[test]
fn an_attach_that_is_killed_is_told_as_it_is_and_done_or_undone_by_the_next_verb() {
    Case { beside_another: false, before: &[], verb: "attach host0 second0 -f @a", is_one_step: false }
        .try_it();
}

#[test]
fn an_attach_that_joins_and_is_killed_is_told_as_it_is_and_done_or_undone_by_the_next_verb() {
    let before = &["attach host0 -f @a"];
    Case { beside_another: false, before, verb: "attach second0 -f @b", is_one_step: false }.try_it();
}

#[test]
fn a_detach_that_is_killed_is_told_as_it_is_and_done_by_the_next() {
    let before = &["attach host0 second0 -f @a"];
    Case { beside_another: false, before, verb: "detach --all", is_one_step: false }.try_it();
}

#[test]
fn going_in_front_of_another_that_is_killed_is_told_as_it_is_and_done_or_undone_by_the_next_verb() {
    let verb = "attach second0 --chain -f @a";
    Case { beside_another: true, before: &[], verb, is_one_step: false }.try_it();
}

#[test]
fn a_detach_from_in_front_of_another_that_is_killed_is_told_as_it_is_and_done_by_the_next() {
    let before = &["attach host0 -f @a", "attach second0 --chain"];
    Case { beside_another: true, before, verb: "detach second0", is_one_step: false }.try_it();
}

#[test]
fn an_apply_that_is_killed_before_any_of_its_changes_leaves_one_whole_policy() {
    let before = &["attach host0 -f @a"];
    Case { beside_another: false, before, verb: "apply -f @b", is_one_step: true }.try_it();
}

#[test]
fn an_upgrade_that_is_killed_before_any_of_its_changes_is_told_as_it_is_and_done_or_undone_by_the_next_verb()
{
    let before = &["attach host0 second0 -f @a"];
    Case { beside_another: false, before, verb: "upgrade", is_one_step: false }.try_it();
}

#[test]
fn an_upgrade_in_front_of_another_that_is_killed_is_told_as_it_is_and_done_or_undone_by_the_next_verb() {
    let before = &["attach host0 -f @a", "attach second0 --chain"];
    Case { beside_another: true, before, verb: "upgrade", is_one_step: false }.try_it();
}
