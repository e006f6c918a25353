//! Owns that the policy in force can be written as a configuration: as a new text or into another one, it means the same when it is read again.

use icmp_ctl::config::edit::edit;
use icmp_ctl::config::file::Config;
use icmp_ctl::host::defaults::HostDefaults;
use icmp_ctl::instance::compiled::Compiled;
use icmp_ctl::kernel::clock::Tick;
use icmp_ctl::policy::compile::compile_policy;
use icmp_ctl::policy::decompile::configuration;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Guards are another test's.
const BREAKS: &str =
    "allow-break = [\"pmtud\", \"errors\", \"neighbour-discovery\", \"multicast-listener\"]\n";

const HOST: HostDefaults = HostDefaults { ttl: 64, hop_limit: 64 };

fn compiled(text: &str, ticks: f64) -> anyhow::Result<(Config, Compiled)> {
    let config = Config::parse(text, "c.toml")?;
    let policy = compile_policy(&config, Tick { per_second: ticks }, HOST, 3)?;
    Ok((config, policy))
}

/// What is in force, written into a text; and whether anything had to be changed for that.
fn written(policy: &Compiled, into: &str, ticks: f64) -> (String, bool) {
    let there = Config::parse(into, "c.toml").expect("a configuration");
    let wanted = configuration(policy, &there, HOST, Tick { per_second: ticks });
    let edited = edit(into, &there, &wanted).expect("it can be written");
    (edited.text, !edited.changed.is_empty())
}

fn maybe<S: Strategy<Value = String> + 'static>(line: S) -> BoxedStrategy<String> {
    prop_oneof![Just(String::new()), line.prop_map(|line| line + "\n")].boxed()
}

fn lines(all: Vec<BoxedStrategy<String>>) -> impl Strategy<Value = String> {
    all.prop_map(|lines| lines.concat())
}

fn one_of(key: &'static str, values: &'static [&'static str]) -> BoxedStrategy<String> {
    maybe(select(values).prop_map(move |value| format!("{key} = {value}")))
}

fn list_of(key: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = String> {
    subsequence(values, 0..=values.len()).prop_map(move |some| {
        let quoted: Vec<_> = some.iter().map(|value| format!("{value:?}")).collect();
        format!("{key} = [{}]", quoted.join(", "))
    })
}

fn rate() -> impl Strategy<Value = String> {
    let number = (1..999_999_u32, select(&["/s", "/min", "/h", "k/s"][..]));
    let number = number.prop_map(|(number, span)| {
        let scale = if span == "k/s" { 1e4 } else { 1e2 };
        format!("{}{span}", f64::from(number) / scale)
    });
    prop_oneof![4 => number, 1 => Just("0".to_owned()), 1 => Just("unlimited".to_owned())]
}

fn limit(name: &'static str, prefixes: bool) -> BoxedStrategy<String> {
    let prefixes = if prefixes { one_of("ipv6-prefix", &["56", "64"]) } else { Just(String::new()).boxed() };
    maybe((rate(), 100_000..200_000_u32, prefixes).prop_map(move |(rate, burst, prefixes)| {
        let prefixes = if prefixes.is_empty() { prefixes } else { format!(", {}", prefixes.trim()) };
        format!("{name} = {{ rate = {rate:?}, burst = {burst}{prefixes} }}")
    }))
}

fn vip(prefix: &'static str) -> BoxedStrategy<String> {
    let check = select(&["file:/run/healthy", "tcp:[::1]:443", "http://127.0.0.1/", "systemd:x.service"][..]);
    let more = lines(vec![
        one_of("interval", &["\"1s\"", "\"250ms\"", "\"1.5s\""]),
        one_of("timeout", &["\"1min\"", "\"10ms\""]),
        one_of("rise", &["1", "2"]),
        one_of("fall", &["3", "9"]),
        one_of("unhealthy", &["\"pass\"", "\"drop\""]),
    ]);
    maybe((check, more).prop_map(move |(check, more)| {
        format!("[[responder.vip]]\nprefix = {prefix:?}\ncheck = {check:?}\n{more}")
    }))
}

fn rule(name: &'static str) -> impl Strategy<Value = String> {
    // Types by families: a number needs one.
    let about = prop_oneof![
        one_of(
            "type",
            &["\"echo-request\"", "[\"host-unreachable\", \"echo-reply\"]", "\"port-unreachable\""]
        ),
        one_of("type", &["\"time-exceeded\"", "[\"time-exceeded\", \"parameter-problem\", \"redirect\"]"]),
        Just("family = \"ipv4\"\n".to_owned()),
        select(&["\"8\"", "[\"11-13\", \"3/1\", \"3/4\"]", "[\"redirect\", 5]"][..])
            .prop_map(|types| format!("family = \"ipv4\"\ntype = {types}\n")),
        select(&["\"128\"", "[\"1/0\", \"nd-redirect\"]"][..])
            .prop_map(|types| format!("family = \"ipv6\"\ntype = {types}\n")),
    ];
    let does = prop_oneof![
        Just("action = \"drop\"".to_owned()),
        Just("action = \"pass\"".to_owned()),
        rate().prop_map(|rate| format!("action = \"limit\"\nlimit = {rate:?}\nburst = 123456")),
    ];
    let from = list_of("from", &["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "2001:db8::/32", "fe80::1"]);
    (
        about,
        does,
        lines(vec![
            maybe(from),
            maybe(list_of("to", &["192.0.2.2/32", "2001:db8::2/128"])),
            one_of("vlan", &["0", "[100, 7]", "[\"1\", 4094]"]),
            one_of("length", &["\"64\"", "\"64-128\"", "\"1000-\""]),
            one_of("hop-limit", &["255", "\"1-10\"", "\"200-\""]),
            one_of("audit", &["true", "false"]),
        ]),
    )
        .prop_map(move |(about, does, more)| {
            format!("[[policy.rule]]\nname = {name:?}\n{about}{does}\n{more}\n")
        })
}

fn config() -> impl Strategy<Value = String> {
    let actions = &["\"pass\"", "\"drop\"", "\"limit\""];
    let modes = &["\"off\"", "\"count\"", "\"drop\""];
    let rules = ["a", "b", "c", "d"].map(|name| prop_oneof![Just(String::new()), rule(name)].boxed());
    let limits = [
        ("per-source", true),
        ("per-prefix", true),
        ("replies", false),
        ("errors", false),
        ("redirects", false),
    ];
    (
        list_of("interfaces", &["eth0", "eth1"]),
        lines(vec![
            one_of("echo", &["true", "false"]),
            one_of("verify", &["\"full\"", "\"header\""]),
            one_of("ttl", &["64", "1", "255"]),
            one_of("hop-limit", &["64", "3"]),
            maybe(list_of("vips", &["198.51.100.0/24", "192.0.2.10", "2001:db8:1::/64"])),
        ]),
        lines(["198.51.100.7", "198.51.100.8/30", "2001:db8:7::/64"].map(vip).to_vec()),
        lines(limits.map(|(name, prefixes)| limit(name, prefixes)).to_vec()),
        one_of("preset", &["\"host\"", "\"router\"", "\"strict\"", "\"observe\""]),
        lines(vec![
            one_of("echo-request", actions),
            one_of("\"13\"", actions),
            one_of("redirect", actions),
            one_of("\"44-252\"", actions),
            one_of("\"destination-unreachable/frag-needed\"", actions),
        ]),
        lines(vec![one_of("echo-reply", actions), one_of("\"202-254\"", actions), one_of("mld-listener-query", actions)]),
        lines(vec![
            one_of("quote", modes),
            one_of("path-mtu", modes),
            one_of("neighbour-discovery", modes),
            one_of("router-guard", &["\"off\"", "\"count\""]),
            maybe(list_of("routers", &["fe80::1", "fe80::2"])),
        ]),
        lines(rules.to_vec()),
    )
        .prop_map(|(interfaces, responder, vips, limits, preset, ipv4, ipv6, checks, rules)| {
            format!(
                "{interfaces}\n[responder]\n{responder}\n{vips}\n[limits]\n{limits}\n[policy]\n{BREAKS}{preset}\n[policy.ipv4]\n{ipv4}\n\
                 [policy.ipv6]\n{ipv6}\n[policy.checks]\n{checks}\n{rules}"
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_global_rejects: 100_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_in_force_means_the_same_when_it_is_read_again(
        in_force in config(),
        other in config(),
        ticks in select(&[100.0, 250.0, 1000.0][..]),
    ) {
        let Ok((_, policy)) = compiled(&in_force, ticks) else { return Err(TestCaseError::reject("none")) };
        let (same, changed) = written(&policy, &in_force, ticks);
        prop_assert!(!changed && same == in_force, "what says so already is left alone:\n{}\n{}", in_force, same);
        for into in ["", &other] {
            let (text, _) = written(&policy, into, ticks);
            let again = compiled(&text, ticks);
            prop_assert!(again.as_ref().is_ok_and(|(_, again)| *again == policy), "{:?}\n{}", again.map(|_| ()), text);
            let (twice, changed) = written(&policy, &text, ticks);
            prop_assert!(!changed && twice == text, "{}\n{}", text, twice);
        }
    }
}

#[test]
fn types_of_a_rule_of_one_family_are_written_by_name_and_the_family_only_where_it_is_needed() {
    for (about, types, family) in [
        (
            "family = \"ipv4\"\ntype = [\"8\", \"3/4\", \"11-13\", \"3/99\"]",
            "[\"destination-unreachable/frag-needed\", \"destination-unreachable/99\", \"echo-request\", \"11-13\"]",
            true,
        ),
        ("family = \"ipv6\"\ntype = \"2\"", "\"packet-too-big\"", false),
        ("from = \"2001:db8::/32\"\ntype = \"128\"", "\"echo-request\"", false),
    ] {
        let (_, policy) =
            compiled(&format!("[[policy.rule]]\nname = \"r\"\n{about}\naction = \"pass\"\n"), 250.0)
                .expect(about);
        let (text, _) = written(&policy, "", 250.0);
        assert!(text.contains(&format!("type = {types}")), "{about}: {text}");
        assert_eq!(text.contains("family = "), family, "{about}: {text}");
        assert!(compiled(&text, 250.0).is_ok_and(|(_, again)| again == policy), "{about}: {text}");
    }
}

#[test]
fn comments_of_a_text_without_a_key_stay_before_what_is_written_into_it() {
    let shipped = include_str!("../../deploy/config.toml");
    let parse = |text: &str| Config::parse(text, "c.toml").expect("a configuration");
    let (there, wanted) = (parse(shipped), parse("interfaces = [\"eth0\"]"));
    let edited = edit(shipped, &there, &wanted).expect("it can be written").text;
    assert_eq!(edited, format!("{shipped}\ninterfaces = [\"eth0\"]\n"));
    assert_eq!(edit(shipped, &there, &there).expect("it can be written").text, shipped);
}
