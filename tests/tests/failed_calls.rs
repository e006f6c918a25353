//! Calls to the kernel that fail: afterwards the state is the old one or the new one, the command says which, and nothing stays behind.
//!
//! Owns the verbs that end; `failed_calls_of_serve.rs` has `serve`, and `faults.rs` makes calls fail.

use icmp_tests::faults::{CALLS, SECOND_IF, State, Tried, World, chosen, told};
use icmp_tests::xdp::PassLink;

/// Opens the instance to change it, and has nothing to do: so whatever a command has left to the next one is done.
const NEXT: &str = "rollback";

/// What is untrue of all states here, and would be said if what could not be read were taken for what is not there.
const UNTRUE: [&str; 3] =
    ["nothing awaits confirmation:", "which icmp-ctl has not put there", "not one of the pinned ones"];

/// What is tried with calls that fail.
#[derive(Clone, Copy)]
struct Case<'a> {
    /// The second interface has another's program, by a link of the test.
    beside_another: bool,
    /// What is done before.
    before: &'a [&'a str],
    /// What is tried.
    verb: &'a str,
    /// What a command may say that had to leave it half-way, and how that state is made.
    half_way: &'a [(&'a str, &'a [&'a str])],
}

impl Case<'_> {
    /// Has calls fail, one in each run, and holds what is said against what is.
    fn try_it(self) {
        let Some(world) = World::new() else { return };
        let Self { beside_another, before, verb, half_way } = self;
        let host = &world.pair.host;
        let _other = beside_another.then(|| host.enter(|| PassLink::attach(SECOND_IF)));
        let old = world.prepare(before);
        let (done, trace) = world.traced(verb, &CALLS.join(","), &[]);
        let _said = done.expect_success();
        let new = State::of(host);
        let replaced = old.programs != new.programs;
        // The state that a failed command has left is that of before, and need not be made again.
        let mut old = world.prepare(before);
        let mut tried = Tried::default();
        for (call, number, error) in chosen(&trace) {
            // It may have fewer calls this time.
            let done = world.failing(verb, call, number, error);
            if let Some(done) = &done {
                tried.cases += 1;
                if done.stderr.contains("next command that changes something") {
                    let _nothing_to_do = world.run(NEXT);
                }
                if done.stderr.contains("the same `icmp-ctl detach` again") {
                    let _may_have_nothing = world.run(verb);
                }
                let state = State::of(host);
                let half_way = half_way.iter().find(|(says, _)| done.stderr.contains(says));
                let is_true = !UNTRUE.iter().any(|untrue| done.stderr.contains(untrue));
                let right = is_true
                    && match (done.code, half_way) {
                        (Some(0), _) => state.is_like(&new) && (state.programs != old.programs) == replaced,
                        (_, Some((_, made))) => state.is_like(&world.prepare(made)),
                        _ => state == old,
                    };
                if !right {
                    let [of_old, of_new] = [&old, &new].map(|other| state.apart_from(other));
                    tried.fault(&format!(
                        "{call} number {number} fails with {error}: {done}\napart from before: {of_old}\napart from after: {of_new}"
                    ));
                }
            }
            if State::of(host) != old {
                old = world.prepare(before);
            }
        }
        tried.end(verb);
    }
}

/// As [`Case::try_it`], of what is done whole or not at all.
fn each_call_fails(before: &[&str], verb: &str) {
    Case { beside_another: false, before, verb, half_way: &[] }.try_it();
}

#[test]
fn attach_is_done_or_not_and_says_which() {
    each_call_fails(&[], "attach host0 -f @a");
}

#[test]
fn attach_to_several_is_done_or_not_and_says_which() {
    each_call_fails(&[], "attach host0 second0 -f @a");
}

#[test]
fn joining_what_is_in_force_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a"], "attach second0 --mode generic");
}

#[test]
fn detach_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a"], "detach --all");
}

#[test]
fn detaching_several_is_done_or_not_or_says_how_far_it_has_come() {
    let before = &["attach host0 second0 -f @a"][..];
    let half_way = [
        ("host0 detached, and nothing else", &[before[0], "detach host0"][..]),
        ("second0 detached, and nothing else", &[before[0], "detach second0"]),
    ];
    Case { beside_another: false, before, verb: "detach --all", half_way: &half_way }.try_it();
}

#[test]
fn going_in_front_of_another_program_is_done_or_not_and_says_which() {
    let verb = "attach second0 --chain -f @a";
    Case { beside_another: true, before: &[], verb, half_way: &[] }.try_it();
}

#[test]
fn going_in_front_of_another_program_beside_a_link_is_done_or_not_and_says_which() {
    let before = &["attach host0 -f @a"][..];
    Case { beside_another: true, before, verb: "attach second0 --chain", half_way: &[] }.try_it();
}

#[test]
fn detaching_from_in_front_of_another_program_is_done_or_not_and_says_which() {
    let before = &["attach second0 --chain -f @a"][..];
    Case { beside_another: true, before, verb: "detach second0", half_way: &[] }.try_it();
}

#[test]
fn attach_with_a_configuration_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a"], "attach host0 -f @b");
}

#[test]
fn apply_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a"], "apply -f @b");
}

#[test]
fn vips_are_changed_or_not_and_it_is_said_which() {
    each_call_fails(&["attach host0 -f @v"], "apply -f @w");
}

#[test]
fn apply_over_what_awaits_confirmation_is_done_or_not_and_says_which() {
    let before = &["attach host0 -f @a", "apply -f @b --confirm 24h"][..];
    let half_way = [("what awaited confirmation is gone", &before[..1])];
    Case { beside_another: false, before, verb: "apply -f @c --confirm 24h", half_way: &half_way }.try_it();
}

#[test]
fn confirm_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a", "apply -f @b --confirm 24h"], "confirm");
}

#[test]
fn rollback_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 -f @a", "apply -f @b --confirm 24h"], "rollback");
}

#[test]
fn a_limit_is_set_or_not_and_it_is_said_which() {
    each_call_fails(&["attach host0 -f @a"], "limit set replies 5k/s --burst 6000");
}

#[test]
fn a_rule_is_added_or_not_and_it_is_said_which() {
    each_call_fails(
        &["attach host0 -f @a"],
        "rule add z --from 10.9.0.0/16 --type echo-request --action drop",
    );
}

#[test]
fn a_rule_is_removed_or_not_and_it_is_said_which() {
    each_call_fails(&["attach host0 -f @a"], "rule del a");
}

#[test]
fn a_rule_is_promoted_or_not_and_it_is_said_which() {
    each_call_fails(&["attach host0 -f @b"], "rule promote b");
}

#[test]
fn upgrade_is_done_or_not_and_says_which() {
    each_call_fails(&["attach host0 second0 -f @a"], "upgrade");
}

#[test]
fn upgrade_in_front_of_another_program_is_done_or_not_and_says_which() {
    let before = &["attach host0 -f @a", "attach second0 --chain"][..];
    Case { beside_another: true, before, verb: "upgrade", half_way: &[] }.try_it();
}

#[test]
fn what_is_looked_at_is_told_as_it_is_or_not_at_all() {
    let Some(world) = World::new() else { return };
    let _other = world.pair.host.enter(|| PassLink::attach(SECOND_IF));
    let old = world.prepare(&["attach host0 -f @a", "attach second0 --chain", "apply -f @w"]);
    let mut tried = Tried::default();
    for what in ["status", "show policy", "show addresses", "show limits", "show config", "rule list"] {
        let verb = format!("{what} -j");
        let (done, trace) = world.traced(&verb, &CALLS.join(","), &[]);
        let right = told(&done, None);
        for (call, number, error) in chosen(&trace) {
            let Some(done) = world.failing(&verb, call, number, error) else { continue };
            tried.cases += 1;
            if done.code == Some(0) && told(&done, Some(&right)) != right {
                tried.fault(&format!("{call} number {number} fails with {error}: {done}"));
            }
        }
    }
    tried.end("looks");
    assert_eq!(State::of(&world.pair.host), old);
}

#[test]
fn a_host_that_cannot_be_asked_about_its_interfaces_is_none_whose_interfaces_are_gone() {
    let Some(world) = World::new() else { return };
    let host = &world.pair.host;
    let before = world.prepare(&["attach host0 --mode native"]);
    let mut refused = 0;
    for (call, error) in
        [("sendto", "ENOMEM"), ("sendto", "EINTR"), ("recvfrom", "ENOMEM"), ("recvfrom", "ENOSPC")]
    {
        for number in 1.. {
            let verb = format!("limit set errors {}/s", 1000 + number);
            let Some(done) = world.failing(&verb, call, number, error) else { break };
            assert_eq!(State::of(host).programs, before.programs, "{done}");
            assert!(!done.stderr.contains("moved"), "{done}");
            refused += u32::from(done.code != Some(0));
        }
    }
    assert!(refused > 0, "some of these calls are needed");
    let _said = world.run("limit set errors 900/s").expect_success();
}

#[test]
fn a_host_that_cannot_be_asked_about_its_interfaces_is_none_with_the_usual_hop_limit() {
    let Some(world) = World::new() else { return };
    let host = &world.pair.host;
    let new = world.prepare(&["attach host0 -f @a", "apply -f @b"]);
    let mut refused = 0;
    for number in 1.. {
        let old = world.prepare(&["attach host0 -f @a"]);
        let Some(done) = world.failing("apply -f @b", "sendto", number, "ENOMEM") else { break };
        let is_done = done.code == Some(0);
        assert!(State::of(host).is_like(if is_done { &new } else { &old }), "{done}");
        refused += u32::from(!is_done);
    }
    assert!(refused > 0, "some of these calls are needed");
}

#[test]
fn another_program_is_told_as_it_is_or_not_at_all() {
    let Some(world) = World::new() else { return };
    let _other = world.pair.host.enter(|| PassLink::attach(SECOND_IF));
    let verb = "attach second0";
    let right = world.run(verb).stderr;
    assert!(right.contains("by link"), "{right}");
    let mut untold = 0;
    for number in 1.. {
        let Some(done) = world.failing(verb, "bpf", number, "ENOMEM") else { break };
        let is_told = done.stderr.contains("another XDP program is attached");
        assert!(!is_told || done.stderr == right, "{done}");
        untold += u32::from(!is_told);
    }
    assert!(untold > 0, "some of these calls are needed");
}

/// It asks about its map among the last calls of a capture that ends at once.
#[test]
fn a_capture_whose_map_cannot_be_asked_about_has_not_lost_it() {
    let Some(world) = World::new() else { return };
    let _attached = world.prepare(&["attach host0 -f @a"]);
    let verb = "capture -w /dev/null --time 1ms";
    let (done, trace) = world.traced(verb, "bpf", &[]);
    let _said = done.expect_success();
    let calls = trace.lines().filter(|line| line.contains(" bpf(")).count();
    let mut refused = 0;
    for number in calls.saturating_sub(20)..=calls {
        let Some(done) = world.failing(verb, "bpf", number, "ENOMEM") else { continue };
        assert!(!done.stderr.contains("has been removed or replaced"), "{done}");
        refused += u32::from(done.code != Some(0));
    }
    assert!(refused > 2, "some of these calls are needed");
}

#[test]
fn a_probe_that_has_failed_is_no_feature_that_the_kernel_lacks() {
    let Some(world) = World::new() else { return };
    // The types of BTF, of its functions and of those that are verified by themselves. Before them it asks about all links of the machine: where other
    // tests make some meanwhile, it is another call that fails.
    let mut told = 0;
    for _ in 0..30 {
        let (done, trace) = world.traced("attach host0", "bpf", &[]);
        let _said = done.expect_success();
        let _detached = world.run("detach host0").expect_success();
        let before = world.prepare(&[]);
        let mut calls = trace.lines().filter(|line| line.contains(" bpf("));
        let first = calls.position(|line| line.contains("BPF_BTF_LOAD")).expect("it asks") + 1;
        let done = world.failing("attach host0", "bpf", first + told, "ENOMEM").expect("it asks");
        if done.stderr.contains("which features of BPF it has") {
            assert_ne!(done.code, Some(0), "{done}");
            assert_eq!(State::of(&world.pair.host), before, "{done}");
            told += 1;
        } else {
            let _perhaps_attached = world.run("detach --all");
        }
        if told == 3 {
            return;
        }
    }
    panic!("{told} of 3 probes were told to have failed");
}

/// The three calls with which it enters the interface come before the first with which it is attached.
#[test]
fn an_interface_that_could_not_be_entered_is_not_in_the_table() {
    let Some(world) = World::new() else { return };
    let before = world.prepare(&["attach host0 -f @a"]);
    let (done, trace) = world.traced("attach second0 --mode generic", "bpf", &[]);
    let _said = done.expect_success();
    let calls: Vec<_> = trace.lines().filter(|line| line.contains(" bpf(")).collect();
    let linked = calls.iter().position(|line| line.contains("BPF_LINK_CREATE")).expect("it is attached");
    let _detached = world.run("detach second0").expect_success();
    let mut refused = 0;
    for number in linked.saturating_sub(20)..linked {
        let done = world.failing("attach second0 --mode generic", "bpf", number, "EBUSY").expect("it asks");
        if done.code == Some(0) {
            let _detached = world.run("detach second0").expect_success();
            continue;
        }
        refused += 1;
        assert!(State::of(&world.pair.host).is_like(&before), "{done}");
    }
    assert!(refused > 2, "some of these calls are needed");
}
