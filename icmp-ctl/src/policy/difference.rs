//! The difference of two policies, as lines of text.

use icmp_common::types::Budget;
use std::collections::HashSet;
use std::hash::Hash;

use icmp_common::abi::{PEER_WAYS, SETTINGS_ECHO, SETTINGS_OWN_HOST, SETTINGS_VERIFY_FULL};
use icmp_common::path::checks::{Check, Mode, mode_shift};

use crate::instance::compiled::Compiled;
use crate::kernel::clock::Tick;
use crate::policy::gates;
use crate::policy::limits::limit_text;
use crate::policy::peers;
use crate::policy::rows::{CONFIGURED, preset_of, rows};
use crate::policy::show::FEW;

/// Lines of what is in force that are no longer, and of what comes in their place.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Goes.
    pub removed: Vec<String>,
    /// Comes.
    pub added: Vec<String>,
}

impl Difference {
    /// Adds what differs between two policies.
    pub fn add(&mut self, before: Option<&Compiled>, after: &Compiled, tick: Tick) {
        let lines = |policy: &Compiled| describe(policy, tick);
        let (before, after) = (before.map(lines).unwrap_or_default(), lines(after));
        let (removed, added) = difference(&before, &after);
        self.removed.extend(removed.into_iter().cloned());
        self.added.extend(added.into_iter().cloned());
    }

    /// Adds that the limiter is to have another size, in bytes, than it was loaded with.
    pub fn add_memory(&mut self, loaded: u64, wanted: u64) {
        self.removed.push(format!("limits.memory = {} KiB", loaded >> 10));
        self.added.push(format!("limits.memory = {} KiB, when the program is loaded again", wanted >> 10));
    }

    /// Adds that the table of peers is to have more places than it was loaded with.
    pub fn add_peers(&mut self, loaded: u32, wanted: u32) {
        let places = |buckets: u32| u64::from(buckets) * PEER_WAYS as u64;
        self.removed.push(format!("places of peers = {}", places(loaded)));
        self.added.push(format!("places of peers = {}, when the program is loaded again", places(wanted)));
    }

    /// True where nothing differs.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// As it is shown: a line each, or that there is none.
    pub fn lines(&self) -> Vec<String> {
        if self.is_empty() {
            return vec!["no change".to_owned()];
        }
        let removed = self.removed.iter().map(|line| format!("- {line}"));
        removed.chain(self.added.iter().map(|line| format!("+ {line}"))).collect()
    }
}

/// Lines that are in one of two descriptions only, each in its order: what a change takes away, and what it adds.
///
/// Its work grows with the lines, not with their square: a list of 50,000 prefixes is a line for each.
fn difference<'a, T: Eq + Hash>(before: &'a [T], after: &'a [T]) -> (Vec<&'a T>, Vec<&'a T>) {
    let only = |lines: &'a [T], others: &'a [T]| {
        let others: HashSet<&T> = others.iter().collect();
        lines.iter().filter(|line| !others.contains(line)).collect()
    };
    (only(before, after), only(after, before))
}

/// Everything that can differ between two policies, a line each.
pub fn describe(policy: &Compiled, tick: Tick) -> Vec<String> {
    let settings = &policy.settings;
    let mut lines = vec![
        format!("responder.echo = {}", settings.flags & SETTINGS_ECHO != 0),
        format!(
            "responder.verify = {}",
            if settings.flags & SETTINGS_VERIFY_FULL != 0 { "full" } else { "header" }
        ),
        format!(
            "responder.own = {}",
            if settings.flags & SETTINGS_OWN_HOST != 0 { "host" } else { "interface" }
        ),
        format!("responder.ttl = {}", settings.ttl),
        format!("responder.hop-limit = {}", settings.hop_limit),
    ];
    lines.extend(policy.vips().iter().map(gates::line));
    for (name, level) in [("per-source", &settings.source), ("per-prefix", &settings.prefix)] {
        let limit = limit_text(&level.limit, tick);
        let v6 = level.mask.v6_high.count_ones() + level.mask.v6_low.count_ones();
        lines.push(format!("limits.{name} = {limit} /{} and /{v6}", level.mask.v4.count_ones()));
    }
    // The reserve for known sources follows from the replies.
    for budget in Budget::ALL.iter().filter(|budget| **budget != Budget::KnownSources) {
        let limit = limit_text(&settings.budgets[*budget as usize], tick);
        lines.push(format!("limits.{} = {limit}", budget.name()));
    }
    lines.push(peers::line(settings));
    lines.push(format!("policy.preset = {}", preset_of(settings).name()));
    for row in rows(settings).iter().filter(|row| row.clause == CONFIGURED) {
        lines.push(format!("policy.{}.{} = {}", row.row.family.name(), row.name, row.action.name()));
    }
    for check in Check::ALL {
        let mode = settings.checks >> mode_shift(*check) & 3;
        let mode = Mode::ALL.get(mode as usize).map_or("?", |mode| mode.name());
        lines.push(format!("policy.checks.{} = {mode}", check.name()));
    }
    for [high, low] in policy.rules.routers.iter().filter(|router| **router != [0, 0]) {
        let address = std::net::Ipv6Addr::from_bits(u128::from(*high) << 64 | u128::from(*low));
        lines.push(format!("policy.checks.routers: {address}"));
    }
    let rules = policy.rules();
    if !rules.is_empty() {
        let order: Vec<_> = rules.iter().map(|rule| rule.name.as_str()).collect();
        lines.push(format!("policy.rule order: {}", order.join(", ")));
    }
    for rule in &rules {
        lines.push(format!("policy.rule {}", rule.text(tick)));
        // Of many prefixes the text has the number only.
        for (what, nets) in [("from", &rule.from), ("to", &rule.to)] {
            let many = nets.iter().filter(|nets| nets.len() > FEW).flatten();
            lines.extend(many.map(|net| format!("policy.rule {} {what} {net}", rule.name)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::Hasher;

    use super::*;
    use crate::config::file::Config;
    use crate::host::defaults::HostDefaults;
    use crate::policy::compile::compile_policy;

    #[test]
    fn what_is_another_policy_is_told_as_one() {
        let tick = Tick { per_second: 250.0 };
        let rules = [
            "",
            "family = \"ipv4\"",
            "family = \"ipv6\"",
            "type = \"echo-request\"",
            "type = \"echo-request\"\nfamily = \"ipv4\"",
            "type = \"echo-request\"\nfamily = \"ipv6\"",
            "type = [\"echo-request\", \"timestamp-request\"]",
            "type = [\"echo-request\", \"timestamp-request\"]\nfamily = \"ipv4\"",
            "type = \"timestamp-request\"",
            "type = \"destination-unreachable/1\"\nfamily = \"ipv4\"",
            "type = \"destination-unreachable/1\"\nfamily = \"ipv6\"",
            "type = 200\nfamily = \"ipv4\"",
            "type = 200\nfamily = \"ipv6\"",
            "type = \"200-210\"\nfamily = \"ipv6\"",
            "type = \"echo-request\"\nfrom = [\"192.0.2.0/24\"]",
            "type = \"echo-request\"\nfrom = [\"192.0.2.0/24\", \"2001:db8::/32\"]",
            "type = \"echo-request\"\nfrom = [\"192.0.2.0/24\", \"2001:db8::/32\"]\nfamily = \"ipv6\"",
            "type = \"echo-request\"\nto = [\"192.0.2.0/24\"]",
            "type = \"echo-request\"\nfrom = []",
            "type = \"echo-request\"\nfrom = []\nfamily = \"ipv4\"",
            "vlan = [0, 7]",
            "length = \"64-\"",
            "length = 64",
            "hop-limit = \"1-255\"",
            "audit = true",
        ];
        let rules = rules.map(|rule| format!("[[policy.rule]]\nname = \"x\"\naction = \"drop\"\n{rule}\n"));
        let limited = ["\"0\"", "\"unlimited\"", "\"1/h\"", "\"100/s\"", "\"100/s\"\nburst = 7"];
        let limited = limited
            .map(|limit| format!("[[policy.rule]]\nname = \"x\"\naction = \"answer\"\nlimit = {limit}\n"));
        let others = [
            "",
            "[responder]\necho = false\n",
            "[responder]\nttl = 7\n",
            "[responder]\nhop-limit = 7\n",
            "[responder]\nown = \"host\"\n",
            "[responder]\nverify = \"header\"\n",
            "[responder]\nvips = [\"192.0.2.1/32\"]\n",
            "[[responder.vip]]\nprefix = \"192.0.2.1/32\"\ncheck = \"file:/x\"\n",
            "[[responder.vip]]\nprefix = \"192.0.2.1/32\"\ncheck = \"file:/x\"\nrise = 7\n",
            "[limits]\nper-source = { ipv6-prefix = 56 }\n",
            "[limits]\nper-source = { burst = 2001 }\n",
            "[limits]\nreplies = { rate = \"unlimited\" }\n",
            "[limits]\nreplies = { rate = \"0\" }\n",
            "[peers]\ntrack = 7\n",
            "[peers]\ntrack = [\"192.0.2.0/24\"]\n",
            "[peers]\ntrack = [\"0.0.0.0/0\"]\n",
            "[peers]\ntrack = [\"::/0\"]\n",
            "[policy]\npreset = \"strict\"\n",
            "[policy.ipv4]\n\"3/4\" = \"pass\"\n",
            "[policy.checks]\nrouter-guard = \"drop\"\nrouters = [\"fe80::1\"]\n",
            "[policy.checks]\nrouters = [\"fe80::1\", \"fe80::2\"]\n",
        ];
        let texts: Vec<_> = others.map(str::to_owned).into_iter().chain(rules).chain(limited).collect();
        let compiled = |text: &String| {
            let config = Config::parse(text, "x").expect("a configuration");
            let host = HostDefaults { ttl: 64, hop_limit: 64 };
            compile_policy(&config, tick, host, 1).expect("it can be")
        };
        let policies: Vec<_> = texts.iter().map(|text| (text, compiled(text))).collect();
        for (text, before) in &policies {
            for (other, after) in &policies {
                let mut told = Difference::default();
                told.add(Some(before), after, tick);
                assert_eq!(told.is_empty(), before.says_the_same_as(after), "{text}\n{other}");
            }
        }
    }

    #[test]
    fn a_difference_has_what_is_in_one_only_in_its_order() {
        let (before, after) = (["c", "a", "b"], ["d", "b", "c", "e"]);
        assert_eq!(difference(&before, &after), (vec![&"a"], vec![&"d", &"e"]));
    }

    /// A line that counts how often it is compared.
    struct Line<'a>(u32, &'a Cell<u64>);

    impl PartialEq for Line<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.1.set(self.1.get() + 1);
            self.0 == other.0
        }
    }

    impl Eq for Line<'_> {}

    impl Hash for Line<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    #[test]
    fn replacing_a_list_takes_a_few_comparisons_for_each_of_its_lines() {
        let lines = 20_000;
        let compared = Cell::new(0);
        let list = |first: u32| (first..first + lines).map(|i| Line(i, &compared)).collect::<Vec<_>>();
        // Half of the list stays.
        let (before, after) = (list(0), list(lines / 2));
        let (removed, added) = difference(&before, &after);
        assert_eq!((removed.len(), added.len()), (10_000, 10_000));
        assert!(compared.get() < u64::from(10 * lines), "{} comparisons of {lines} lines", compared.get());
    }
}
