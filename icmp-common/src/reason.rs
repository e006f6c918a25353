//! Why a frame ended the way it did: one list for the program, the CLI, JSON, the metrics and the documentation.
//!
//! Owns the reasons, their names and the verdict of each. Every frame ends in exactly one reason, every reason belongs to exactly one verdict,
//! and the frames received equal the sum over the reasons.

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Handed to the kernel's stack, unmodified.
    Pass,
    /// Turned into its reply and sent back through the interface it came from.
    Answer,
    /// Discarded because the policy says so.
    Drop,
    /// Discarded because a limit was exceeded.
    Limit,
}

impl Verdict {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Answer, Self::Pass, Self::Drop, Self::Limit];

    /// The name in JSON, metrics and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Answer => "answer",
            Self::Drop => "drop",
            Self::Limit => "limit",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal $verdict:ident)+) => {
        /// Why a frame ended the way it did. The discriminant is the index in the counter map (docs/map-abi.md).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// All reasons in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The reason with this discriminant; what has none passes.
            #[inline(always)]
            pub fn from_number(number: u8) -> Self {
                Self::ALL.get(number as usize).copied().unwrap_or(Self::Unconfigured)
            }

            /// The name in JSON, metrics and tables.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for people.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+),)+ }
            }

            /// What becomes of a frame that ends in this reason.
            #[inline(always)]
            pub const fn verdict(self) -> Verdict {
                // They lie together by verdict (a test holds that), so three comparisons tell.
                let number = self as u8;
                if number < FIRST_ANSWER {
                    Verdict::Pass
                } else if number < FIRST_DROP {
                    Verdict::Answer
                } else if number < FIRST_LIMIT {
                    Verdict::Drop
                } else {
                    Verdict::Limit
                }
            }

            /// The verdict the list gives each reason.
            const fn listed_verdict(self) -> Verdict {
                match self { $(Self::$variant => Verdict::$verdict,)+ }
            }
        }
    };
}

reasons! {
    /// IPv4 or IPv6, but another protocol than ICMP.
    NotIcmp "not-icmp" Pass
    /// Neither IPv4 nor IPv6: another EtherType, or an 802.3 length.
    NotIp "not-ip" Pass
    /// Tagged for a VLAN this interface is not configured for, or an echo request in several tags of which one is of VLAN 0.
    UnknownVlan "unknown-vlan" Pass
    /// The tag may have been removed before XDP, so an untagged answer could reach the wrong VLAN.
    StrippedVlan "stripped-vlan" Pass
    /// Cut off before its headers end.
    Truncated "truncated" Pass
    /// Goes on in further buffers than the first.
    MultiBuffer "multi-buffer" Pass
    /// Invalid IP version or header length.
    BadIpHeader "bad-ip-header" Pass
    /// IPv4 header with options.
    IpOptions "ip-options" Pass
    /// The IPv4 flag bit that must be zero is set.
    ReservedFlag "reserved-flag" Pass
    /// A fragment; the first one within the limits.
    Fragment "fragment" Pass
    /// IPv6 with an extension header: an echo request within the limits, or nothing that the kernel acts on as ICMPv6.
    ExtensionHeader "extension-header" Pass
    /// IP length beyond the frame, or too short for an ICMP header.
    BadLength "bad-length" Pass
    /// IPv4 header checksum that does not verify.
    BadIpChecksum "bad-ip-checksum" Pass
    /// The frame is for another host's MAC address.
    ForeignMac "foreign-mac" Pass
    /// Unicast packet in a broadcast or multicast frame.
    LinkGroup "link-group" Pass
    /// Addressed to another host, or to an address of another interface.
    NotOwnAddress "not-own-address" Pass
    /// Source address that no single other host can have.
    MartianSource "martian-source" Pass
    /// Source address or source MAC address is this host's own.
    OwnSource "own-source" Pass
    /// No configuration for it: no settings, no interface, or a lookup failed.
    Unconfigured "unconfigured" Pass
    /// The policy passes this type.
    PolicyPass "policy-pass" Pass
    /// Within the budget of its kind.
    WithinLimit "within-limit" Pass
    /// Echo request to a broadcast or multicast address: the kernel decides.
    GroupEcho "group-echo" Pass
    /// Echo request with a code other than zero.
    EchoCode "echo-code" Pass
    /// Its answer would be longer than the MTU of the link, or than a path MTU that was reported in the last ten minutes.
    BeyondPathMtu "beyond-path-mtu" Pass
    /// ICMP checksum that does not verify.
    BadIcmpChecksum "bad-icmp-checksum" Pass
    /// A rule passes it.
    RulePass "rule-pass" Pass
    /// Echo request to a VIP that is not healthy.
    UnhealthyVip "unhealthy-vip" Pass
    /// Would be answered if the preset were not `observe`.
    WouldAnswer "would-answer" Pass
    /// Would be dropped if the preset were not `observe`.
    WouldDrop "would-drop" Pass
    /// Would be over a limit if the preset were not `observe`.
    WouldLimit "would-limit" Pass
    /// Answered.
    Answered "answered" Answer
    /// The policy drops this type.
    PolicyDrop "policy-drop" Drop
    /// A rule drops it.
    RuleDrop "rule-drop" Drop
    /// An error about a packet that this host cannot have sent.
    BadQuote "bad-quote" Drop
    /// A path MTU smaller than any link's.
    BadPathMtu "bad-path-mtu" Drop
    /// Neighbour discovery that is malformed, or from beyond the link.
    BadDiscovery "bad-discovery" Drop
    /// A router advertisement from none of the named routers.
    RouterGuard "router-guard" Drop
    /// Echo request to a VIP that is not healthy, and is configured to drop then.
    UnhealthyVipDrop "unhealthy-vip-drop" Drop
    /// Over the limit of the rule that it matches.
    LimitedRule "limited-rule" Limit
    /// Its source is over the per-source limit.
    LimitedSource "limited-source" Limit
    /// Its source's prefix is over the per-prefix limit.
    LimitedPrefix "limited-prefix" Limit
    /// The total reply budget is exhausted.
    LimitedTotal "limited-total" Limit
    /// The budget of its kind of message is exhausted.
    LimitedBudget "limited-budget" Limit
}

const FIRST_ANSWER: u8 = first(Verdict::Answer);
const FIRST_DROP: u8 = first(Verdict::Drop);
const FIRST_LIMIT: u8 = first(Verdict::Limit);

/// The first reason of a verdict, as a number.
const fn first(verdict: Verdict) -> u8 {
    let mut number = 0;
    while Reason::ALL[number].listed_verdict() as u8 != verdict as u8 {
        number += 1;
    }
    number as u8
}

/// How many reasons there are.
pub const REASONS: usize = Reason::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_are_the_positions_in_the_list_of_all() {
        for (i, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i, "{}", reason.name());
        }
    }

    #[test]
    fn reasons_lie_together_by_verdict() {
        for reason in Reason::ALL {
            assert_eq!(reason.verdict(), reason.listed_verdict(), "{}", reason.name());
        }
    }

    #[test]
    fn no_two_reasons_share_a_name() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            for b in &Reason::ALL[i + 1..] {
                assert_ne!(a.name(), b.name());
            }
        }
    }
}
