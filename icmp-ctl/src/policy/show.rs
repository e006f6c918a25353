//! A rule as text.

use std::fmt::Write as _;

use icmp_common::abi::Limit;
use icmp_common::types::Family;
use ipnet::IpNet;

use crate::kernel::clock::Tick;
use crate::policy::limits::limit_text;
use crate::policy::rules::{ANY_HOP_LIMIT, ANY_LENGTH, Rule};
use crate::policy::types::TypeName;

/// Prefixes shown one by one; of more than these the number is shown.
pub(super) const FEW: usize = 4;

impl Rule {
    /// What it asks of a message, as text.
    pub fn conditions(&self) -> String {
        let mut text = String::new();
        for (what, nets) in [("from", &self.from), ("to", &self.to)] {
            let _ = match nets.as_deref() {
                None => continue,
                Some([]) => write!(text, "{what} nobody "),
                Some(nets) if nets.len() <= FEW => {
                    let nets: Vec<_> = nets.iter().map(ToString::to_string).collect();
                    write!(text, "{what} {} ", nets.join(","))
                }
                Some(nets) => write!(text, "{what} {} prefixes ", nets.len()),
            };
        }
        if let [family] = &self.families[..]
            && (self.types.is_empty() || !self.tells(*family))
        {
            let _ = write!(text, "family {} ", family.name());
        }
        if !self.types.is_empty() {
            let mut names: Vec<_> = self.types.iter().map(TypeName::to_string).collect();
            names.dedup();
            let _ = write!(text, "type {} ", names.join(","));
        }
        if !self.vlans.is_empty() {
            let vlans: Vec<_> = self.vlans.iter().map(ToString::to_string).collect();
            let _ = write!(text, "vlan {} ", vlans.join(","));
        }
        if self.length != ANY_LENGTH {
            let _ = write!(text, "length {} ", range_text(self.length.start(), self.length.end(), &u16::MAX));
        }
        if self.hop_limit != ANY_HOP_LIMIT {
            let _ = write!(
                text,
                "hop-limit {} ",
                range_text(self.hop_limit.start(), self.hop_limit.end(), &u8::MAX)
            );
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// Whether the prefixes of a rule that is about one family, or the names of its types, say already which one.
    fn tells(&self, family: Family) -> bool {
        let both = [Family::V4, Family::V6];
        let is_of_one = |name: &TypeName| {
            let name = name.to_string();
            !TypeName::is_number(&name) && TypeName::all(&name, &both).is_ok_and(|all| all.len() == 1)
        };
        let is_of_family = |net: &IpNet| net.addr().is_ipv4() == (family == Family::V4);
        let mut lists = [&self.from, &self.to].into_iter().flatten().filter(|nets| !nets.is_empty());
        lists.any(|nets| nets.iter().all(is_of_family)) || self.types.iter().all(is_of_one)
    }

    /// The whole rule in a line.
    pub fn text(&self, tick: Tick) -> String {
        let mut text = format!("{}: {} -> {}", self.name, self.conditions(), self.action.name());
        if self.limit != Limit::UNLIMITED {
            let _ = write!(text, " limit {}", limit_text(&self.limit, tick));
        }
        if self.audit {
            text.push_str(" (audit)");
        }
        text
    }
}

pub(super) fn range_text<T: PartialEq + std::fmt::Display>(first: &T, last: &T, open: &T) -> String {
    if first == last {
        first.to_string()
    } else if last == open {
        format!("{first}-")
    } else {
        format!("{first}-{last}")
    }
}
