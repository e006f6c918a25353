//! The stages of a frame's path through the program, as text and as JSON.
//!
//! Owns the words. Each stage is made from the record of the packet path, from the tables that it read, and from the tables of types and
//! reasons.

use std::net::IpAddr;

use icmp_common::abi::{AddressKind, GATE_UNTIL, INTERFACE_SHARED, INTERFACE_STRIPS_TAGS, Scope};
use icmp_common::path::apart::OWN;
use icmp_common::path::{Target, looked_up};
use icmp_common::reason::{Reason, Verdict};
use icmp_common::types::{FIRST_TYPE_ROW, row_labels};
use serde_json::{Map, Value, json};

use crate::explain::decode::Decoded;
use crate::explain::explanation::Explanation;
use crate::explain::levels::Charging;
use crate::explain::subject::{Here, Subject};
use crate::explain::watched::Note;
use crate::finding::{Finding, State};
use crate::host::address_table::OwnAddress;
use crate::host::conflicts::Ping;
use crate::host::passed::{self, Passed};
use crate::output::folded;
use crate::policy::rows::{check_rows, rows};
use crate::policy::rules::Rule;

/// What is told of a stage that the frame did not come to.
const NOT_ASKED: &str = "not asked: the frame has ended before";
/// Columns before a stage's text.
const INDENT: usize = 11;

/// A stage.
struct Stage {
    name: &'static str,
    json: Value,
    lines: Vec<String>,
}

fn stage(name: &'static str, json: Value, line: impl Into<String>) -> Stage {
    Stage { name, json, lines: vec![line.into()] }
}

impl Explanation {
    /// All stages, for programs and for people.
    #[must_use]
    pub fn told(&self, subject: &Subject) -> (Map<String, Value>, Vec<String>) {
        let decoded = Decoded::of(&self.given);
        let stages = [
            stage("frame", decoded.json(), decoded.text()),
            interface(subject, &decoded),
            self.owned(subject, &decoded),
            self.class(subject, &decoded),
            self.checks(subject),
            self.rule(subject),
            self.limits(subject, &decoded),
            self.known(),
            self.verdict(),
            self.answer(),
            self.kernel(),
            self.stack(subject, &decoded),
        ];
        let mut json = Map::new();
        let mut lines = Vec::new();
        for Stage { name, json: value, lines: told } in stages {
            for (i, line) in told.iter().enumerate() {
                let head = format!("{:<1$}", if i == 0 { name } else { "" }, INDENT - 1);
                // Further than what is another line of the stage.
                lines.extend(folded(&head, line, INDENT + 2));
            }
            json.insert(name.to_owned(), value);
        }
        (json, lines)
    }

    /// Whom the packet path has taken the frame to be for; `None` where it did not come as far.
    fn owner(&self) -> Option<Result<Target, Reason>> {
        let said = self.run.notes.iter().find_map(|note| match note {
            Note::Ended(OWN, said) => Some(looked_up(*said)),
            _ => None,
        });
        let first = || self.run.notes.contains(&Note::OwnFirst).then_some(Ok(Target::Own));
        said.or_else(first)
    }

    fn owned(&self, subject: &Subject, decoded: &Decoded<'_>) -> Stage {
        let table = decoded.addresses().map(|(_, to)| in_table(subject, to)).unwrap_or_default();
        let vip = decoded.addresses().and_then(|(_, to)| {
            let vips = subject.snapshot.policy.vips().into_iter().filter(|vip| vip.net.contains(&to));
            vips.map(|vip| vip.net).max_by_key(ipnet::IpNet::prefix_len)
        });
        // None where the gate is taken for healthy, or nobody has said so far that it is.
        let holds = self.run.notes.iter().find_map(|note| match note {
            Note::Gate(word) => Some(*word & GATE_UNTIL).filter(|until| *until > 0),
            _ => None,
        });
        let holds = holds.map(|until| until.saturating_sub(self.now) as f64 / subject.tick.per_second);
        let (name, text) = match self.owner() {
            None => (None, NOT_ASKED.to_owned()),
            Some(Err(reason)) => (Some(reason.name()), format!("not touched: {}", plain(reason))),
            Some(Ok(target)) => {
                let (name, text) = words(target);
                (Some(name), text.to_owned())
            }
        };
        let mut lines = vec![text];
        if let Some((_, to)) = decoded.addresses().filter(|_| self.owner().is_some()) {
            lines.extend(table.iter().map(|what| format!("{to} is {what}")));
            lines.extend(vip.map(|net| format!("{to} is in the VIP prefix {net}")));
            lines.extend(holds.map(|left| {
                if left > 0.0 {
                    format!("its check holds for {left:.1} s more")
                } else {
                    "its check does not hold".to_owned()
                }
            }));
            if table.is_empty() && vip.is_none() && !matches!(self.owner(), Some(Ok(Target::Group))) {
                lines.push(format!("{to} is in no table of addresses"));
            }
        }
        let json = json!({ "as": name, "why": lines[0], "addresses": table, "vip": vip, "check_holds_seconds": holds });
        Stage { name: "owned", json, lines }
    }

    fn class(&self, subject: &Subject, decoded: &Decoded<'_>) -> Stage {
        let row = self.run.outcome.row;
        if row < FIRST_TYPE_ROW {
            return stage("class", Value::Null, NOT_ASKED);
        }
        let (family, name) = row_labels(usize::from(row));
        let of_row = |with_code: bool| {
            let (family, icmp_type, code) = decoded.message()?;
            rows(&subject.snapshot.policy.settings).into_iter().find(|policy| {
                policy.counter_row() == row
                    && policy.name.contains(family, icmp_type, code)
                    && policy.name.code.is_some() == with_code
            })
        };
        let Some(policy) = of_row(true).or_else(|| of_row(false)) else {
            return stage("class", json!({ "family": family, "type": name }), format!("{family} {name}"));
        };
        let budget = policy.charged_to();
        let charged = budget.map(|budget| format!(", budget {budget}")).unwrap_or_default();
        let json = json!({
            "family": family, "type": name, "title": policy.row.title, "action": policy.action.name(), "budget": budget,
            "clause": policy.clause,
        });
        let text = format!("{family} {name}: {}{charged}; {}", policy.action.name(), policy.clause);
        stage("class", json, text)
    }

    fn checks(&self, subject: &Subject) -> Stage {
        let counters = self.run.tables.rule_counters();
        let all = check_rows(&subject.snapshot.policy.settings, &counters);
        let failed: Vec<_> = all.filter(|(.., failed)| *failed > 0).collect();
        let json = failed.iter().map(|(name, mode, _)| json!({ "check": name, "mode": mode })).collect();
        if self.run.outcome.row < FIRST_TYPE_ROW {
            return stage("checks", Value::Null, NOT_ASKED);
        }
        let lines = if failed.is_empty() {
            vec!["it fails none".to_owned()]
        } else {
            failed.iter().map(|(name, mode, _)| format!("it fails {name}, which is set to {mode}")).collect()
        };
        Stage { name: "checks", json, lines }
    }

    fn rule(&self, subject: &Subject) -> Stage {
        let rules = slots(subject);
        if self.run.outcome.row < FIRST_TYPE_ROW {
            return stage("rule", Value::Null, NOT_ASKED);
        }
        let counters = self.run.tables.rule_counters();
        let hit = rules.iter().find(|(slot, _)| counters[*slot as usize].hits > 0);
        let would = rules.iter().find(|(slot, _)| counters[*slot as usize].would_hit > 0);
        let mut lines = vec![match hit {
            Some((_, rule)) => rule.text(subject.tick),
            None if rules.is_empty() => "there is none".to_owned(),
            None => format!("none of {} decides", rules.len()),
        }];
        lines
            .extend(would.map(|(_, rule)| {
                format!("would decide, were it no audit rule: {}", rule.text(subject.tick))
            }));
        let name = |rule: Option<&(u32, Rule)>| rule.map(|(_, rule)| rule.name.clone());
        let text = hit.map(|(_, rule)| rule.text(subject.tick));
        let json = json!({ "name": name(hit), "text": text, "would": name(would), "rules": rules.len() });
        Stage { name: "rule", json, lines }
    }

    fn limits(&self, subject: &Subject, decoded: &Decoded<'_>) -> Stage {
        let charging = Charging {
            settings: &subject.snapshot.policy.settings,
            rules: &slots(subject),
            source: decoded.addresses().map(|(from, _)| from),
            memory: &self.memory,
            now: self.now,
            run: &self.run,
        };
        let levels = charging.levels();
        if self.run.outcome.row < FIRST_TYPE_ROW {
            return stage("limits", Value::Null, NOT_ASKED);
        }
        let json = levels.iter().map(|level| level.json(subject.tick, self.now)).collect();
        let mut lines: Vec<_> = levels.iter().map(|level| level.text(subject.tick, self.now)).collect();
        if lines.is_empty() {
            lines.push("it was held against none".to_owned());
        }
        Stage { name: "limits", json, lines }
    }

    fn known(&self) -> Stage {
        let text = match self.known {
            None => "its source is not asked about: no reply to it depends on the reply budget",
            Some(true) => {
                "its source is known: while the reply budget is exhausted it has a share of its own"
            }
            Some(false) => "its source is not known: while the reply budget is exhausted it is refused",
        };
        stage("known", json!(self.known), text)
    }

    fn verdict(&self) -> Stage {
        let reason = self.reason();
        let json =
            json!({ "verdict": reason.verdict().name(), "reason": reason.name(), "why": plain(reason) });
        stage("verdict", json, format!("{}, {}: {}", reason.verdict().name(), reason.name(), plain(reason)))
    }

    fn answer(&self) -> Stage {
        match self.reply() {
            None => stage("reply", Value::Null, "none from the program"),
            Some(reply) => {
                let decoded = Decoded::of(reply);
                stage("reply", decoded.json(), decoded.text())
            }
        }
    }

    fn kernel(&self) -> Stage {
        let Some(judged) = &self.in_kernel else {
            return stage("kernel", Value::Null, "not asked: this is what the same code says on the host");
        };
        let reason = judged.outcome.reason;
        let disagreement = self.disagreement();
        let json = json!({
            "verdict": reason.verdict().name(), "reason": reason.name(), "agrees": disagreement.is_none(), "cpu": self.cpu,
        });
        let agreed = || format!("the program in the kernel says the same, on CPU {}", self.cpu);
        stage("kernel", json, disagreement.unwrap_or_else(agreed))
    }

    /// What may stop a frame in the kernel's stack, to which it was passed.
    fn stack(&self, subject: &Subject, decoded: &Decoded<'_>) -> Stage {
        if self.reason().verdict() != Verdict::Pass {
            return stage("stack", Value::Null, "not asked: the kernel does not get it");
        }
        let Some(here) = subject.here() else {
            return stage("stack", Value::Null, "not asked: it is another host's");
        };
        let taken_in_by = here.taken_in_by(decoded.vlans());
        let ping = decoded.ping().zip(self.owner().and_then(Result::ok));
        let ping =
            ping.map(|((family, code), owner)| Ping { family, code, is_to_group: owner == Target::Group });
        let findings = passed::findings(&Passed {
            reason: self.reason(),
            addresses: decoded.addresses(),
            ping,
            is_shared: subject.interface.flags & INTERFACE_SHARED != 0,
            interface: taken_in_by.map(|link| (link.index, link.name.as_str())),
            without_ipv6: taken_in_by.is_some_and(|link| link.without_ipv6),
            vrf: taken_in_by.and_then(|link| here.vrf_of(link)),
            behind: here.behind.as_deref(),
        });
        let not_fine = findings.iter().filter(|finding| finding.state != State::Fine);
        let mut lines: Vec<_> = not_fine.map(Finding::text).collect();
        if lines.is_empty() {
            let nothing = if ping.is_some() {
                "nothing that is known of stops it there"
            } else {
                "no route stops it there; switches and packet filters are not asked about, which they are of echo requests"
            };
            lines.push(nothing.to_owned());
        }
        Stage { name: "stack", json: findings.iter().map(Finding::json).collect(), lines }
    }
}

fn interface(subject: &Subject, decoded: &Decoded<'_>) -> Stage {
    let flags = subject.interface.flags;
    let shared = flags & INTERFACE_SHARED != 0;
    let strips = flags & INTERFACE_STRIPS_TAGS != 0;
    let mut lines = vec![subject.interface().to_owned()];
    if shared {
        lines.push("frames for other hosts come in on it as well".to_owned());
    }
    if strips {
        lines.push("VLAN tags may be missing from its frames".to_owned());
    }
    if let Some(mtu) = subject.here().and_then(Here::mtu).filter(|mtu| decoded.ip_length() > *mtu as usize) {
        lines.push(format!(
            "a packet of this length comes in fragments, because the MTU of the interface is {mtu}, and fragments are passed; what follows is of a packet in one piece"
        ));
    }
    let way = subject.here().map(|here| here.way.as_slice()).unwrap_or_default();
    lines.extend(way.iter().filter(|finding| finding.state != State::Fine).map(Finding::text));
    let findings: Vec<_> = way.iter().map(Finding::json).collect();
    let json =
        json!({ "name": subject.interface(), "shared": shared, "strips_tags": strips, "findings": findings });
    Stage { name: "interface", json, lines }
}

/// The rules in their order, each with its slot.
fn slots(subject: &Subject) -> Vec<(u32, Rule)> {
    let policy = &subject.snapshot.policy;
    policy.rules.rules.iter().map(|rule| rule.slot).zip(policy.rules()).collect()
}

/// A reason's sentence.
fn plain(reason: Reason) -> &'static str {
    reason.description().trim()
}

/// What a target is, as a name and as a sentence.
const fn words(target: Target) -> (&'static str, &'static str) {
    match target {
        Target::Own => ("own", "for the host: one of its addresses, or a VIP"),
        Target::Unanswerable => ("unanswerable", "for the host, from a source that cannot be answered"),
        Target::FromOwn => ("from-own", "for the host, from an address of its own"),
        Target::Elsewhere => (
            "elsewhere",
            "for an address that the host has on another interface, in a frame to another MAC address of the host, or through a device that is down; the \
             kernel alone answers",
        ),
        Target::Group => ("group", "for a group that the host belongs to"),
        Target::LinkGroup => ("link-group", "for an address of the host, in a frame to a group"),
        Target::Unhealthy => ("unhealthy", "for a VIP that is not healthy; echo requests are passed"),
        Target::UnhealthyDrop => {
            ("unhealthy-drop", "for a VIP that is not healthy; echo requests are dropped")
        }
    }
}

/// What the address table says of an address: where it is on an interface that is attached, or else what it is on any.
fn in_table(subject: &Subject, address: IpAddr) -> Vec<String> {
    let all = subject.snapshot.addresses.addresses();
    let of_address: Vec<_> = all.iter().filter(|own| own.address == address).collect();
    let (anywhere, attached): (Vec<_>, Vec<_>) =
        of_address.into_iter().partition(|own| own.scope == Scope::ANYWHERE);
    let on_interface = |own: &&OwnAddress| {
        let what = if own.kind == AddressKind::Group { "a group" } else { "an own address" };
        let Scope(scope) = own.scope;
        let [outer, inner] = [scope >> 8 & 0xfff, scope >> 20];
        let vlan = match (outer, inner) {
            (0, _) => String::new(),
            (outer, 0 | Scope::SERVICE_ONLY) => format!(" in VLAN {outer}"),
            (outer, inner) => format!(" in VLAN {inner} within VLAN {outer}"),
        };
        format!("{what} of {}{vlan}", subject.name_of(scope & 0x1f))
    };
    if !attached.is_empty() {
        return attached.iter().map(on_interface).collect();
    }
    let on_any = |own: &&OwnAddress| match own.kind {
        AddressKind::Host => {
            "an own address of another interface, answered on this one where `own = \"host\"`"
        }
        AddressKind::Everywhere => "an own address that is answered on each interface",
        _ => "an own address of the host, on another interface or in a VIP prefix with a check",
    };
    anywhere.iter().map(|own| on_any(own).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use icmp_common::known_sources::Reputation;
    use icmp_common::limiter::{PairIndex, SECRET_WORDS, hash4};

    use super::*;
    use crate::config::file::Config;
    use crate::explain::explanation::Judged;
    use crate::explain::frame::{Fields, of_fields};

    /// A host with 192.0.2.2, and a frame to it.
    fn host(config: &str, icmp_type: &str) -> (Subject, Vec<u8>) {
        let config = Config::parse(config, "test").expect("a configuration");
        let [from, to] = ["198.51.100.7", "192.0.2.2"].map(|text| text.parse().expect("an address"));
        let frame = of_fields(&Fields { from, to, icmp_type, size: 8, vlans: &[], hop_limit: 9 });
        let frame = frame.expect("a frame").bytes;
        let own = ["192.0.2.2/24".parse().expect("a prefix")];
        (Subject::alone(&config, &frame, &own).expect("a host"), frame)
    }

    fn told(subject: &mut Subject, frame: &[u8]) -> Map<String, Value> {
        subject.explain(frame).expect("explained").told(subject).0
    }

    #[test]
    fn a_kernel_that_ends_a_frame_otherwise_or_leaves_other_bytes_disagrees() {
        let (mut subject, frame) = host("", "echo-request");
        let mut explained = subject.explain(&frame).expect("explained");
        assert_eq!(explained.disagreement(), None, "it was not asked");
        let right = Judged { outcome: explained.run.outcome, frame: explained.run.frame.clone() };
        let mut asked = |judged: Judged| {
            explained.in_kernel = Some(judged);
            explained.disagreement()
        };
        assert_eq!(asked(right.clone()), None);
        for reason in Reason::ALL.iter().filter(|reason| **reason != right.outcome.reason) {
            let mut wrong = right.clone();
            wrong.outcome.reason = *reason;
            let said = asked(wrong).expect("another reason");
            assert!(said.contains(&format!("({})", reason.name())), "{said}");
        }
        let mut wrong = right.clone();
        wrong.outcome.row += 1;
        assert!(asked(wrong).is_some_and(|said| said.contains("rows")));
        for at in 0..right.frame.len() {
            let mut wrong = right.clone();
            wrong.frame[at] ^= 1;
            assert!(asked(wrong).is_some_and(|said| said.contains("bytes")), "byte {at}");
        }
    }

    #[test]
    fn the_rule_that_decides_is_told_with_its_limit_and_the_audit_rule_that_would() {
        let rules = "
[[policy.rule]]
name = \"watched\"
from = [\"198.51.100.0/24\"]
action = \"drop\"
audit = true
[[policy.rule]]
name = \"monitors\"
from = [\"198.51.100.0/24\"]
type = [\"echo-request\"]
action = \"answer\"
limit = \"100/s\"
burst = 30
";
        let (mut subject, frame) = host(rules, "echo-request");
        let told = told(&mut subject, &frame);
        assert_eq!(told["rule"]["name"], "monitors");
        assert_eq!(told["rule"]["would"], "watched");
        let limits = json!([{ "limit": "rule", "of": "monitors", "rate": "100/s", "burst": 30, "before": 30, "after": 29,
                              "cpu_before": null, "cpu_after": null }]);
        assert_eq!(told["limits"], limits);
        assert_eq!(told["known"], Value::Null, "the rule's limit stands for all others");
    }

    #[test]
    fn of_a_budget_without_a_limit_no_cpu_has_anything_in_hand() {
        let (mut subject, frame) = host("[limits]\nreplies = { rate = \"unlimited\" }\n", "echo-request");
        let (json, lines) = subject.explain(&frame).expect("explained").told(&subject);
        let limits = json["limits"].as_array().expect("a list");
        let replies = limits.iter().find(|limit| limit["limit"] == "replies");
        assert!(replies.is_none_or(|replies| replies["cpu_after"] == 0), "{limits:?}");
        assert!(!lines.iter().any(|line| line.contains("in hand")), "{lines:?}");
    }

    #[test]
    fn a_check_that_a_message_fails_is_told_with_what_is_set() {
        for (config, mode, reason, limit) in [
            ("", "count", "within-limit", json!("unverified")),
            ("[policy.checks]\nquote = \"drop\"\n", "drop", "bad-quote", Value::Null),
        ] {
            let (mut subject, frame) = host(config, "destination-unreachable");
            let told = told(&mut subject, &frame);
            assert_eq!(told["checks"], json!([{ "check": "quote", "mode": mode }]));
            assert_eq!((&told["verdict"]["reason"], &told["limits"][0]["limit"]), (&json!(reason), &limit));
            assert_eq!(told["class"]["budget"], "errors");
        }
    }

    #[test]
    fn a_source_is_known_that_was_served_for_long_enough() {
        let (mut subject, frame) = host("", "echo-request");
        assert_eq!(told(&mut subject, &frame)["known"], false);
        // As it would be remembered now, after eight epochs in a row.
        let secret = subject.snapshot.options.secret;
        let hash = |n: usize| hash4([secret[n * SECRET_WORDS], secret[n * SECRET_WORDS + 1]], 0xc633_6407);
        let shift = 64 - subject.snapshot.options.lines.ilog2();
        let place = PairIndex::new(hash(1), shift + 1);
        let epoch = ((1_u64 << 32) >> subject.snapshot.policy.settings.epoch_shift) as u32;
        let tag = Reputation::tag(hash(0) >> 32);
        let first = Reputation(0).taken_over(tag, epoch - 7).expect("free");
        let entry = (epoch - 6..=epoch).fold(first, Reputation::served);
        let memory = &mut subject.snapshot.memory;
        Arc::make_mut(&mut memory.reputations)[place.line as usize].words[place.words[0]] = entry.0;
        memory.last_served.fill(u64::from(epoch));
        assert_eq!(told(&mut subject, &frame)["known"], true);
    }

    #[test]
    fn a_frame_that_ends_before_the_policy_is_told_where() {
        let (mut subject, mut frame) = host("", "echo-request");
        // 198.51.100.7 sends it to itself.
        frame.copy_within(26..30, 30);
        let told = told(&mut subject, &frame);
        assert_eq!(told["verdict"]["verdict"], "pass");
        assert_eq!((&told["class"], &told["rule"]), (&Value::Null, &Value::Null));
    }
}
