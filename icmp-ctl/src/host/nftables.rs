//! nftables' rules, from `nft -j -t list ruleset` (libnftables-json(5)).
//!
//! Owns the meaning of each expression for a packet of a ping, and which maps must be known for that. An unknown expression may match.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use icmp_common::types::Family;
use serde_json::Value;

use crate::host::firewall::{Chain, Match, Packet, Rule, Verdict, refuses};

/// Elements of verdict maps, by `FAMILY TABLE NAME`.
pub(super) type VerdictMaps = BTreeMap<String, Vec<Value>>;

/// The verdict maps that decide about one of the packets, as `FAMILY TABLE NAME`. Of a set, what is in it decides nothing here: its
/// members are what rules ask about, for example senders, and those are not known.
pub(super) fn deciding_maps(ruleset: &Value, packets: &[Packet]) -> BTreeSet<String> {
    let decides = |map: &Value| packets.iter().any(|packet| !is_of_another_protocol(&map["key"], *packet));
    let mut deciding = BTreeSet::new();
    for rule in of_kind(ruleset, "rule") {
        let maps = rule["expr"].as_array().into_iter().flatten().map(|expression| &expression["vmap"]);
        let names = maps.filter(|map| decides(map)).filter_map(|map| named(&map["data"]));
        deciding.extend(names.map(|name| name_in_table(rule, name)));
    }
    deciding
}

/// What is in the one map of an answer of `nft -j list map`.
pub(super) fn elements(answer: &Value) -> Option<Vec<Value>> {
    // Of an empty one nft says nothing.
    of_kind(answer, "map").next().map(|map| map["elem"].as_array().cloned().unwrap_or_default())
}

/// The chains that a packet may meet. `ruleset` lists no elements; `maps` has those that are known of what `deciding_maps` names. `listing`
/// is the output of `nft -a -t list ruleset`, for the rules' text.
pub(super) fn chains(ruleset: &Value, maps: &VerdictMaps, listing: &str, packet: Packet) -> Vec<Chain> {
    let texts = texts(listing);
    let dormant = dormant(listing);
    let families: &[_] = match packet.family {
        Family::V4 => &["ip", "inet", "netdev", "bridge"],
        Family::V6 => &["ip6", "inet", "netdev", "bridge"],
    };
    // Read once: rulesets of hosts with many services have thousands of chains.
    let mut rules: HashMap<String, Vec<Rule>> = HashMap::new();
    for rule in of_kind(ruleset, "rule") {
        rules.entry(name_in_table(rule, word(&rule["chain"]))).or_default().push(Rule {
            text: texts
                .get(&(table_of(rule), rule["handle"].as_u64().unwrap_or_default()))
                .map_or_else(|| rule["expr"].to_string(), |text| (*text).to_owned()),
            outcomes: outcomes(rule, packet, maps),
        });
    }
    of_kind(ruleset, "chain")
        .filter(|chain| families.contains(&word(&chain["family"])))
        .filter(|chain| !dormant.contains(&table_of(chain).as_str()))
        .map(|chain| {
            let name = name_in_table(chain, word(&chain["name"]));
            Chain {
                rules: rules.remove(&name).unwrap_or_default(),
                name,
                title: format!("chain {} of table {}", word(&chain["name"]), table_of(chain)),
                hooked: packet.meets(word(&chain["hook"]), chain["type"] == "nat"),
                some_devices: word(&chain["family"]) == "bridge"
                    || ["ingress", "egress"].contains(&word(&chain["hook"])),
                drops: chain["policy"] == "drop",
            }
        })
        .collect()
}

fn of_kind<'a>(answer: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let objects = answer["nftables"].as_array().into_iter().flatten();
    objects.map(move |object| &object[kind]).filter(|it| !it.is_null())
}

/// The name of a set or map that stands where its elements could stand.
fn named(data: &Value) -> Option<&str> {
    data.as_str()?.strip_prefix('@')
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// As nft writes it behind the word `table`.
fn table_of(object: &Value) -> String {
    format!("{} {}", word(&object["family"]), word(&object["table"]))
}

/// A name that no chain, or no map, of another table has.
fn name_in_table(of_table: &Value, name: &str) -> String {
    format!("{} {name}", table_of(of_table))
}

/// Tables that are switched off. nft 1.0.6 has the family in the place of flags where it writes JSON.
fn dormant(listing: &str) -> Vec<&str> {
    let mut table = "";
    let mut dormant = Vec::new();
    for line in listing.lines() {
        if let Some(opened) = line.strip_prefix("table ") {
            table = opened.split(" {").next().unwrap_or_default();
        } else if line
            .trim()
            .strip_prefix("flags ")
            .is_some_and(|flags| flags.split(',').any(|flag| flag == "dormant"))
        {
            dormant.push(table);
        }
    }
    dormant
}

/// The rules' text by table and handle: of each line that ends with a handle, inside the table that was opened last.
fn texts(listing: &str) -> BTreeMap<(String, u64), &str> {
    let mut table = "";
    let mut texts = BTreeMap::new();
    for line in listing.lines() {
        let Some((text, handle)) = line.rsplit_once(" # handle ") else { continue };
        if let Some(name) = text.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
        } else if let Ok(handle) = handle.trim().parse()
            && !text.ends_with('{')
        {
            texts.insert((table.to_owned(), handle), text.trim());
        }
    }
    texts
}

/// Statements behind which a rule goes on, whatever the packet.
const FOR_EVERY_PACKET: [&str; 9] =
    ["counter", "last", "log", "notrack", "dup", "ct helper", "ct timeout", "ct expectation", "xt"];

/// What a rule may do with a packet: its conditions hold together, then comes one verdict, or a map of them.
fn outcomes(rule: &Value, packet: Packet, maps: &VerdictMaps) -> Vec<(Match, Verdict)> {
    let mut so_far = Match::Always;
    let mut outcomes = Vec::new();
    for expression in rule["expr"].as_array().into_iter().flatten() {
        let Some((kind, body)) = expression.as_object().and_then(|object| object.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "match" => so_far = so_far.min(condition(body, packet)),
            // nft has put a condition before it that it does not list.
            "mangle" if is_of_another_protocol(&body["key"], packet) => so_far = Match::Never,
            "mangle" => {
                let how = so_far.min(rewrites(body)).min(finds(&body["value"], packet));
                outcomes.push((how, Verdict::Refuse));
            }
            "xt" if body["type"] == "match" => so_far = so_far.min(extension(word(&body["name"]))),
            "vmap" => {
                let elements = match named(&body["data"]) {
                    Some(name) => maps.get(&name_in_table(rule, name)),
                    None => body["data"]["set"].as_array().filter(|elements| !elements.is_empty()),
                };
                if elements.is_none() && !is_of_another_protocol(&body["key"], packet) {
                    outcomes.push((so_far.min(Match::Maybe), Verdict::Refuse));
                }
                for element in elements.into_iter().flatten() {
                    let how = so_far.min(equals(&body["key"], &element[0], packet));
                    outcomes.extend(verdict(rule, &element[1], packet).map(|verdict| (how, verdict)));
                }
            }
            _ => match verdict(rule, expression, packet) {
                Some(verdict) => outcomes.push((so_far.min(finds(&body["addr"], packet)), verdict)),
                None if FOR_EVERY_PACKET.contains(&kind.as_str()) => {}
                // Limits, meters and what is entered into a set end the rule for some packets and not for others.
                None => so_far = so_far.min(Match::Maybe),
            },
        }
    }
    outcomes
}

fn verdict(rule: &Value, expression: &Value, packet: Packet) -> Option<Verdict> {
    let (kind, body) = expression.as_object()?.iter().next()?;
    let other_family = match packet.family {
        Family::V4 => "ip6",
        Family::V6 => "ip",
    };
    let target = || name_in_table(rule, word(&body["target"]));
    Some(match kind.as_str() {
        "accept" => Verdict::Accept,
        // What is answered by another host, or by a process that may as well drop it, is not answered by the kernel.
        "drop" | "reject" | "queue" | "fwd" | "tproxy" => Verdict::Refuse,
        "dnat" if body["family"] != other_family => Verdict::Refuse,
        "jump" => Verdict::Jump(target()),
        "goto" => Verdict::Goto(target()),
        "return" => Verdict::Return,
        "xt" if refuses(word(&body["name"])) => Verdict::Refuse,
        _ => return None,
    })
}

/// How sure it is that a ping is not answered any more, or by another host, because of what a rule sets in it. TTL, DSCP, ECN and marks change nothing of
/// that.
fn rewrites(mangle: &Value) -> Match {
    let (payload, meta) = (&mangle["key"]["payload"], &mangle["key"]["meta"]["key"]);
    match (word(&payload["protocol"]), word(&payload["field"])) {
        // At the ingress the kernel takes nothing in after that.
        _ if payload.is_null() && meta == "pkttype" && mangle["value"] == "other" => Match::Maybe,
        _ if payload.is_null() => Match::Never,
        ("ip" | "ip6", "daddr" | "protocol" | "nexthdr") | ("icmp" | "icmpv6", "type") => Match::Always,
        ("ip", "id") | ("ether", "saddr") | (_, "ttl" | "hoplimit" | "dscp" | "ecn" | "flowlabel") => {
            Match::Never
        }
        // nft 1.0.6 has type and code of ICMP as a port of some transport protocol.
        _ => Match::Maybe,
    }
}

/// How sure it is that a rule finds the value that it needs, for example an address to translate to, which may be looked up in a map.
fn finds(value: &Value, packet: Packet) -> Match {
    match value["map"].get("key") {
        None => Match::Always,
        Some(key) if is_of_another_protocol(key, packet) => Match::Never,
        Some(_) => Match::Maybe,
    }
}

/// A match of iptables that nft cannot write as its own.
fn extension(name: &str) -> Match {
    if ["tcp", "udp", "udplite", "sctp", "dccp", "multiport", "esp", "ah"].contains(&name) {
        Match::Never
    } else {
        Match::Maybe
    }
}

fn condition(body: &Value, packet: Packet) -> Match {
    if is_of_another_protocol(&body["left"], packet) {
        return Match::Never;
    }
    let how = || equals(&body["left"], &body["right"], packet);
    match word(&body["op"]) {
        "==" | "in" => how(),
        "!=" => how().negated(),
        // Greater or less: what is not equal may be that.
        _ => Match::Maybe,
    }
}

/// How sure it is that what is on the left, of this packet, is what is on the right.
fn equals(left: &Value, right: &Value, packet: Packet) -> Match {
    if is_of_another_protocol(left, packet) {
        return Match::Never;
    }
    let (protocol, nfproto, ethernet): (&[Value], _, _) = match packet.family {
        Family::V4 => (&["icmp".into(), 1.into()], "ipv4", "ip"),
        Family::V6 => (&["ipv6-icmp".into(), "icmpv6".into(), 58.into()], "ipv6", "ip6"),
    };
    let (type_number, type_name) = packet.icmp_type();
    let (code_number, code_name) = packet.icmp_code();
    let is = |values: &[Value]| contains(right, values);
    let payload = &left["payload"];
    match (word(&left["meta"]["key"]), word(&payload["protocol"]), word(&payload["field"])) {
        ("l4proto", ..) | (_, "ip", "protocol") | (_, "ip6", "nexthdr") => is(protocol),
        ("nfproto", ..) => is(&[nfproto.into()]),
        ("protocol", ..) => is(&[ethernet.into()]),
        // Frames of the loopback interface never meet the program.
        ("iif" | "iifname" | "oif" | "oifname", ..) if right == "lo" => Match::Never,
        ("pkttype", ..) => is(&["host".into(), "unicast".into()]),
        (_, "icmp" | "icmpv6", "type") => is(&[type_number.into(), type_name.into()]),
        (_, "icmp" | "icmpv6", "code") => is(&[code_number.into(), code_name.into()]),
        _ if left["ct"]["key"] == "state" => {
            let states = packet.tracked_as();
            let matching =
                states.iter().filter(|state| contains(right, &[Value::from(**state)]) == Match::Always);
            Match::of(matching.count(), states.len())
        }
        _ => Match::Maybe,
    }
}

/// True where something is asked about that this packet does not have, for example a port.
fn is_of_another_protocol(left: &Value, packet: Packet) -> bool {
    let others: &[_] = match packet.family {
        Family::V4 => &["ip6", "icmpv6"],
        Family::V6 => &["ip", "icmp"],
    };
    match left {
        Value::Object(fields) => {
            let protocol = word(&left["payload"]["protocol"]);
            others.contains(&protocol)
                || ["tcp", "udp", "udplite", "sctp", "dccp", "esp", "ah", "comp", "igmp", "arp"]
                    .contains(&protocol)
                || left.get("tcp option").is_some()
                || fields.values().any(|field| is_of_another_protocol(field, packet))
        }
        Value::Array(parts) => parts.iter().any(|part| is_of_another_protocol(part, packet)),
        _ => false,
    }
}

/// How sure it is that one of some names for one thing is on the right: a value, a set, a range.
fn contains(right: &Value, names: &[Value]) -> Match {
    match right {
        Value::String(_) if named(right).is_some() => Match::Maybe,
        Value::String(_) | Value::Number(_) => {
            if names.contains(right) {
                Match::Always
            } else {
                Match::Never
            }
        }
        // There is none without elements: they were left out.
        Value::Array(values) => {
            values.iter().map(|value| contains(value, names)).max().unwrap_or(Match::Maybe)
        }
        Value::Object(_) => {
            if let Some(set) = right.get("set") {
                contains(set, names)
            } else if let Some(element) = right.get("elem") {
                contains(&element["val"], names)
            } else if let [Some(first), Some(last)] = [0, 1].map(|end| right["range"][end].as_u64()) {
                let within = |name: &Value| name.as_u64().is_some_and(|name| (first..=last).contains(&name));
                if names.iter().any(within) { Match::Always } else { Match::Never }
            } else {
                Match::Maybe
            }
        }
        _ => Match::Maybe,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::firewall::{self, Direction, Refusal, refusals};

    const REQUEST: Packet = Packet { family: Family::V4, direction: Direction::Request, code: 0 };

    /// Refusals of a base chain at the input, with these expressions as its rules.
    fn refused(policy: &str, rules: Value, packet: Packet) -> Vec<Refusal> {
        let table = json!({ "family": "inet", "table": "t" });
        let mut objects = vec![
            json!({ "chain": merged(&table, json!({ "name": "c", "hook": "input", "policy": policy })) }),
        ];
        for (i, expr) in rules.as_array().expect("rules").iter().enumerate() {
            objects
                .push(json!({ "rule": merged(&table, json!({ "chain": "c", "handle": i, "expr": expr })) }));
        }
        refusals(&chains(&json!({ "nftables": objects }), &VerdictMaps::new(), "", packet))
    }

    fn merged(one: &Value, other: Value) -> Value {
        let fields = [one, &other].map(|object| object.as_object().expect("an object").clone());
        Value::Object(fields.into_iter().flatten().collect())
    }

    fn is(left: Value, right: Value) -> Value {
        json!({ "match": { "op": "==", "left": left, "right": right } })
    }

    #[test]
    fn a_rule_that_may_refuse_a_ping_is_found_by_what_it_means() {
        let meta = |key: &str| json!({ "meta": { "key": key } });
        let payload =
            |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
        let state = || json!({ "ct": { "key": "state" } });
        for (refuses, conditions) in [
            (true, json!([])),
            (
                true,
                json!([is(payload("ip", "saddr"), json!({ "prefix": { "addr": "10.9.0.0", "len": 24 } }))]),
            ),
            (true, json!([is(payload("ip", "saddr"), json!("@bl"))])),
            (true, json!([is(meta("iifname"), json!("h0"))])),
            (
                true,
                json!([is(payload("icmp", "type"), json!({ "set": ["echo-request", "timestamp-request"] }))]),
            ),
            (true, json!([is(meta("l4proto"), json!({ "range": [1, 5] }))])),
            (true, json!([{ "limit": { "rate": 5 } }])),
            (true, json!([is(state(), json!("new"))])),
            (true, json!([{ "xt": { "type": "match", "name": "icmp" } }])),
            (true, json!([{ "match": { "op": ">", "left": meta("l4proto"), "right": 0 } }])),
            (true, json!([{ "match": { "op": "<", "left": payload("icmp", "type"), "right": 9 } }])),
            (false, json!([{ "match": { "op": "<", "left": payload("tcp", "dport"), "right": 9 } }])),
            (false, json!([is(payload("tcp", "dport"), json!(22))])),
            (false, json!([is(payload("ip6", "saddr"), json!("2001:db8::1"))])),
            (false, json!([is(payload("icmp", "type"), json!("redirect"))])),
            (false, json!([is(meta("l4proto"), json!("udp"))])),
            (false, json!([is(meta("nfproto"), json!("ipv6"))])),
            (false, json!([is(meta("iifname"), json!("lo"))])),
            (false, json!([is(state(), json!("invalid"))])),
            (false, json!([{ "match": { "op": "!=", "left": meta("l4proto"), "right": "icmp" } }])),
        ] {
            for verdict in
                [json!({ "drop": null }), json!({ "reject": null }), json!({ "dnat": { "family": "ip" } })]
            {
                let mut rule = conditions.as_array().expect("a list").clone();
                rule.push(verdict);
                assert_eq!(!refused("accept", json!([rule]), REQUEST).is_empty(), refuses, "{rule:?}");
            }
        }
    }

    #[test]
    fn what_refuses_some_pings_only_is_not_said_to_refuse_them() {
        let drop = json!({ "drop": null });
        let by_source = json!({ "set": { "op": "update", "elem": { "payload": { "protocol": "ip", "field": "saddr" } },
            "set": "@f", "stmt": [{ "limit": { "rate": 5, "inv": true } }] } });
        let dnat = |key: Value| json!([{ "dnat": { "family": "ip", "addr": { "map": { "key": key, "data": "@m" } } } }]);
        let field =
            |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
        for (refusals, rule) in [
            (Some(true), json!([{ "counter": null }, drop])),
            (
                Some(true),
                json!([{ "log": null }, { "mangle": { "key": { "meta": { "key": "mark" } } } }, drop]),
            ),
            (Some(false), json!([by_source, drop])),
            (Some(false), json!([{ "meter": { "name": "m" } }, drop])),
            (Some(false), json!([{ "a statement of tomorrow": null }, drop])),
            (Some(false), dnat(field("ip", "daddr"))),
            (None, dnat(field("tcp", "dport"))),
            (None, dnat(json!({ "concat": [field("ip", "daddr"), field("udp", "dport")] }))),
        ] {
            let found = refused("accept", json!([rule]), REQUEST);
            assert_eq!(found.first().map(|refusal| refusal.certain), refusals, "{rule}");
        }
    }

    #[test]
    fn a_rule_that_sets_something_in_pings_refuses_them_where_they_are_answered_no_more_or_by_another_host() {
        let payload =
            |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
        let meta = |key: &str| json!({ "meta": { "key": key } });
        let map = json!({ "map": { "key": payload("ip", "saddr"), "data": "@m" } });
        let raw = json!({ "payload": { "base": "th", "offset": 0, "len": 8 } });
        for (refusal, key, value) in [
            (Some(true), payload("ip", "daddr"), json!("192.0.2.99")),
            (Some(false), payload("ip", "daddr"), map),
            (Some(false), payload("ip", "saddr"), json!("192.0.2.99")),
            (Some(true), payload("icmp", "type"), json!("echo-reply")),
            (Some(false), payload("th", "sport"), json!({ "&": [payload("th", "sport"), 255] })),
            (Some(false), raw, json!(0)),
            (Some(false), payload("icmp", "id"), json!(3)),
            (Some(false), meta("pkttype"), json!("other")),
            (None, meta("pkttype"), json!("host")),
            (None, payload("ip6", "daddr"), json!("2001:db8::99")),
            (None, payload("tcp", "dport"), json!(22)),
            (None, payload("ip", "ttl"), json!(3)),
            (None, payload("ip", "id"), json!(3)),
            (None, payload("ether", "saddr"), json!("02:00:00:00:00:01")),
            (None, payload("ip", "dscp"), json!("cs1")),
            (None, payload("ip", "ecn"), json!("ect1")),
            (None, meta("mark"), json!(3)),
            (None, meta("priority"), json!("1:3")),
            (None, json!({ "ct": { "key": "mark" } }), json!(3)),
        ] {
            let rule = json!([{ "mangle": { "key": key, "value": value } }]);
            let found = refused("accept", json!([rule]), REQUEST);
            assert_eq!(found.first().map(|refusal| refusal.certain), refusal, "{rule}");
        }
        let refusing = ["DROP", "REJECT", "DNAT", "NETMAP", "DNPT", "SNPT", "NFQUEUE", "QUEUE", "TARPIT"];
        for (target, refuses) in refusing.map(|target| (target, true)).into_iter().chain([("TTL", false)]) {
            let rule = json!([{ "xt": { "type": "target", "name": target } }]);
            assert_eq!(!refused("accept", json!([rule]), REQUEST).is_empty(), refuses, "{rule}");
        }
        let of_tcp = json!([{ "mangle": { "key": payload("tcp", "dport"), "value": 22 } }, { "drop": null }]);
        assert_eq!(refused("accept", json!([of_tcp]), REQUEST), [], "it is a condition, too");
    }

    #[test]
    fn no_reply_meets_a_chain_of_nat() {
        for (kind, direction, refusals) in
            [("nat", Direction::Request, 1), ("nat", Direction::Reply, 0), ("filter", Direction::Reply, 1)]
        {
            let hook = if direction == Direction::Request { "prerouting" } else { "output" };
            let chain = json!({ "chain": { "family": "ip", "table": "t", "name": "c", "type": kind, "hook": hook, "policy": "drop" } });
            let packet = Packet { direction, ..REQUEST };
            let chains = chains(&json!({ "nftables": [chain] }), &VerdictMaps::new(), "", packet);
            assert_eq!(firewall::refusals(&chains).len(), refusals, "{kind} {direction:?}");
        }
    }

    #[test]
    fn a_chain_that_not_every_device_leads_to_refuses_nothing_for_sure() {
        for (family, hook, certain) in [
            ("inet", "input", true),
            ("inet", "ingress", false),
            ("netdev", "ingress", false),
            ("bridge", "input", false),
        ] {
            let chain = json!({ "chain": { "family": family, "table": "t", "name": "c", "hook": hook, "policy": "drop" } });
            let chains = chains(&json!({ "nftables": [chain] }), &VerdictMaps::new(), "", REQUEST);
            let found: Vec<_> = refusals(&chains).iter().map(|refusal| refusal.certain).collect();
            assert_eq!(found, [certain], "{family} {hook}");
        }
    }

    #[test]
    fn a_policy_that_drops_refuses_what_no_rule_accepts_for_sure() {
        let accept = |condition: Value| json!([[condition, { "accept": null }]]);
        let icmp_type =
            |name: &str| is(json!({ "payload": { "protocol": "icmp", "field": "type" } }), json!(name));
        let known = is(json!({ "ct": { "key": "state" } }), json!(["established", "related"]));
        assert_eq!(refused("drop", json!([]), REQUEST).len(), 1);
        assert_eq!(refused("drop", accept(known.clone()), REQUEST).len(), 1, "the first of a series is new");
        assert_eq!(refused("drop", accept(icmp_type("echo-request")), REQUEST).len(), 0);
        assert_eq!(refused("accept", json!([]), REQUEST).len(), 0);
        let v6 = Packet { family: Family::V6, ..REQUEST };
        assert_eq!(
            refused("drop", accept(icmp_type("echo-request")), v6).len(),
            1,
            "that accepts IPv4's only"
        );
        let code = |code: Value| is(json!({ "payload": { "protocol": "icmp", "field": "code" } }), code);
        for (of_packet, right, left_over) in [
            (0, json!("net-unreachable"), 0),
            (1, json!("net-unreachable"), 1),
            (1, json!("host-unreachable"), 0),
            (7, json!(7), 0),
            (7, json!({ "range": [1, 6] }), 1),
        ] {
            let packet = Packet { code: of_packet, ..REQUEST };
            assert_eq!(refused("drop", accept(code(right)), packet).len(), left_over, "code {of_packet}");
        }
        // The chain is at the input, which no reply meets.
        assert_eq!(refused("drop", json!([]), Packet { direction: Direction::Reply, ..REQUEST }).len(), 0);
    }

    #[test]
    fn the_verdicts_of_a_map_are_looked_at_one_by_one() {
        let map = |verdict: &str| {
            json!([[{ "vmap": { "key": { "ct": { "key": "state" } }, "data": { "set":
                [["invalid", { "drop": null }], ["new", { verdict: null }]] } } }]])
        };
        assert_eq!(refused("accept", map("accept"), REQUEST).len(), 0);
        assert_eq!(refused("accept", map("drop"), REQUEST).len(), 1);
    }

    #[test]
    fn what_a_set_or_map_has_that_is_not_known_may_refuse_where_it_decides_about_the_packet() {
        let vmap = |protocol: &str, data: Value| {
            let key = json!({ "payload": { "protocol": protocol, "field": "saddr" } });
            json!([[{ "vmap": { "key": key, "data": data } }]])
        };
        assert_eq!(refused("accept", vmap("ip", json!("@unknown")), REQUEST).len(), 1);
        assert_eq!(refused("accept", vmap("ip", json!({ "set": [] })), REQUEST).len(), 1);
        assert_eq!(refused("accept", vmap("ip6", json!("@unknown")), REQUEST).len(), 0);
        let left_out = is(json!({ "meta": { "key": "l4proto" } }), json!({ "set": [] }));
        assert_eq!(refused("accept", json!([[left_out, { "drop": null }]]), REQUEST).len(), 1);
    }
}
