//! Which interfaces a name stands for: one, by any of its names, or all that match a pattern with `*` and `?`.
//!
//! Owns what a pattern leaves out: interfaces that cannot be attached by name.

use wildmatch::WildMatch;

use crate::host::interfaces::aggregate;
use crate::host::netlink::Link;

/// Whether a name stands for whatever fits it.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// The interface that is called so. The kernel takes `*` and `?` in a name, and then it means that interface alone.
fn called<'a>(links: &'a [Link], name: &str) -> Option<&'a Link> {
    links.iter().find(|link| link.is_called(name))
}

/// The interfaces that a name means, by their index.
pub fn meant<'a>(links: &'a [Link], name: &str) -> Vec<&'a Link> {
    let named = called(links, name);
    if named.is_some() || !is_pattern(name) {
        return named.into_iter().collect();
    }
    let mut meant: Vec<_> =
        links.iter().filter(|link| fits(name, link) && can_be_attached(links, link)).collect();
    meant.sort_by_key(|link| link.index);
    meant
}

/// Whether a name or a pattern means what is called so: an interface that is here, by any of its names, or one that was.
pub fn means(links: &[Link], name: &str, other: &str) -> bool {
    if let Some(link) = called(links, name) {
        return link.name == other;
    }
    match links.iter().find(|link| link.name == other) {
        Some(link) => fits(name, link),
        None => WildMatch::new(name).matches(other),
    }
}

/// Whether one of an interface's names is this one, or fits it. No other letter of a name means more than itself.
fn fits(name: &str, link: &Link) -> bool {
    let pattern = WildMatch::new(name);
    pattern.matches(&link.name) || link.alternative_names.iter().any(|name| pattern.matches(name))
}

/// One whose name is no text is refused; loopback has an Ethernet address, and no frame of another host; frames of a bond's port are the bond's.
fn can_be_attached(links: &[Link], link: &Link) -> bool {
    link.mac.is_some() && !link.named_otherwise && !link.loopback && aggregate(links, link).is_none()
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::InfoKind;

    use super::*;

    #[test]
    fn a_pattern_means_the_ethernet_interfaces_that_fit_and_no_port_of_a_bond() {
        let link =
            |index, name: &str| Link { index, name: name.to_owned(), mac: Some([2; 6]), ..Link::default() };
        let links = [
            link(5, "eth1"),
            link(2, "eth0"),
            Link { controller: Some(9), ..link(3, "eth2") },
            Link { controller: Some(8), ..link(4, "eth3") },
            Link { kind: Some(InfoKind::Bridge), ..link(8, "br0") },
            Link {
                kind: Some(InfoKind::Bond),
                alternative_names: vec!["eth-bond".to_owned()],
                ..link(9, "bond0")
            },
            Link { loopback: true, ..link(1, "lo") },
            Link { mac: None, ..link(6, "eth-tun") },
        ];
        for (pattern, expected) in [
            ("eth*", &["eth0", "eth3", "eth1", "bond0"][..]),
            ("eth?", &["eth0", "eth3", "eth1"]),
            ("*", &["eth0", "eth3", "eth1", "br0", "bond0"]),
            ("eth0", &["eth0"]),
            ("lo", &["lo"]),
            ("en*", &[]),
        ] {
            let names: Vec<_> = meant(&links, pattern).iter().map(|link| link.name.as_str()).collect();
            assert_eq!(names, expected, "{pattern}");
        }
    }

    #[test]
    fn an_interface_whose_name_looks_like_a_pattern_is_meant_alone() {
        let link =
            |index, name: &str| Link { index, name: name.to_owned(), mac: Some([2; 6]), ..Link::default() };
        let links = [link(1, "eth0"), link(2, "eth*"), link(3, "eth1")];
        assert_eq!(meant(&links, "eth*"), [&links[1]]);
        let all = ["eth0", "eth*", "eth1"].map(|other| means(&links, "eth*", other));
        assert_eq!(all, [false, true, false]);
    }
}
