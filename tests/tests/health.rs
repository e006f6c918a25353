//! VIPs that are answered while a check says that their service lives.
//!
//! Owns what becomes of echo requests to them, by their leases.

use std::collections::{BTreeMap, BTreeSet};

use icmp_common::abi::{GATE_UNTIL, Gate, UNHEALTHY_DROP, UNHEALTHY_PASS};
use icmp_common::reason::{Reason, Verdict};
use icmp_ctl::instance::compiled::{Compiled, Vip};
use icmp_ctl::instance::program::Entry;
use icmp_ctl::kernel::clock::Tick;
use icmp_ctl::policy::layout::{assemble, compile};
use icmp_tests::can_run;
use icmp_tests::ctl::UNLIMITED;
use icmp_tests::generate::{self, Random, seed};
use icmp_tests::host::{self, as_action};
use icmp_tests::vectors::to_hex;

/// A policy with these VIPs, each with a check of its own.
fn gated(vips: &[(&str, u32)]) -> Compiled {
    let policy = host::policy_of(&format!("[responder]\nwide-vips = true\n{UNLIMITED}"));
    let vips: Vec<_> = vips
        .iter()
        .map(|(net, unhealthy)| {
            let mut gate = Gate { interval: 1000, unhealthy: *unhealthy, ..Gate::NONE };
            gate.check[..net.len()].copy_from_slice(net.as_bytes());
            Vip { net: net.parse().expect("a prefix"), gate: Some(gate) }
        })
        .collect();
    let tick = Tick::of_this_kernel().expect("a clock");
    let rules = compile(&[]).expect("no rules");
    assemble(policy.settings, rules, policy.rules.routers, &vips, tick, 1).expect("few prefixes")
}

#[test]
fn kernel_and_host_agree_about_vips_of_any_health() {
    if !can_run(&[]) {
        return;
    }
    let mut random = Random::new(seed());
    let vips = [
        ("0.0.0.0/2", UNHEALTHY_PASS),
        ("64.0.0.0/2", UNHEALTHY_DROP),
        ("128.0.0.0/2", UNHEALTHY_PASS),
        ("192.0.0.0/2", UNHEALTHY_DROP),
        ("2000::/3", UNHEALTHY_DROP),
        ("::/1", UNHEALTHY_PASS),
    ];
    let policy = gated(&vips);
    let mut kernel = host::unconfigured();
    let mut ended = BTreeSet::new();
    for healthy in [0, 0b10_1010, 0b01_0101, 0b11_1111] {
        let host = kernel.policy(&policy, &[]);
        let counted = kernel.counters();
        for (number, gate) in policy.rules.gates.iter().enumerate().take(vips.len()) {
            let until = if healthy >> number & 1 == 1 { GATE_UNTIL } else { 0 };
            kernel.maps().gates.renew(&[(gate.id(), until)]).expect("the map can be written");
            host.tables().set_gate(number, gate.state(until).word);
        }
        for _ in 0..3000 {
            let frame = generate::frame(&mut random);
            let (verdict, after) = kernel.run(Entry::Xdp, &frame);
            let mut on_host = frame.clone();
            let outcome = host.run(&mut on_host);
            let told =
                format!("healthy {healthy:b}, {} on the host: {}", outcome.reason.name(), to_hex(&frame));
            assert_eq!(verdict, as_action(outcome.verdict()), "{told}");
            assert_eq!(to_hex(&after), to_hex(&on_host), "{told}");
            assert!(verdict == Verdict::Answer || after == frame, "{told}");
            ended.insert(outcome.reason.name());
        }
        let new: BTreeMap<_, _> = kernel
            .counters()
            .into_iter()
            .map(|(at, (packets, _))| (at, packets - counted.get(&at).map_or(0, |before| before.0)))
            .filter(|(_, packets)| *packets != 0)
            .collect();
        let on_host: BTreeMap<_, _> =
            host.counters().into_iter().map(|(at, (packets, _))| (at, packets)).collect();
        assert_eq!(new, on_host, "healthy {healthy:b}");
        // What is as it was keeps its lease, whichever buffer it is written to.
        let leases = |kernel: &mut host::InKernel| {
            policy.rules.gates.map(|gate| kernel.maps().gates.lease(&gate).ok())
        };
        let before = leases(&mut kernel);
        let _same = kernel.policy(&gated(&vips[..3]), &[]);
        let _same = kernel.policy(&policy, &[]);
        assert_eq!(leases(&mut kernel)[..3], before[..3]);
    }
    for reason in [Reason::Answered, Reason::UnhealthyVip, Reason::UnhealthyVipDrop] {
        assert!(ended.contains(reason.name()), "no frame ended for {}", reason.name());
    }
}
