//! An address prefix, as users write it.
//!
//! Owns the grammar (`192.0.2.0/24`, `192.0.2.1`, `2001:db8::/32`) and what is refused: bits behind the prefix, and IPv4 addresses written as
//! IPv6 ones, which no packet has as its source.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A prefix without bits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(pub IpNet);

impl Prefix {
    /// True where so many addresses are in it that they are hardly all meant: an IPv4 prefix shorter than 8 bits, an IPv6 one shorter than
    /// 32.
    pub fn is_very_wide(self) -> bool {
        self.0.prefix_len() < if self.0.addr().is_ipv4() { 8 } else { 32 }
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let net = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_| {
                format!("{text:?} is no address and no prefix: write it like 192.0.2.0/24 or 2001:db8::/32")
            })?,
        };
        if net != net.trunc() {
            return Err(format!("{text:?} has bits behind its prefix; the prefix is {}", net.trunc()));
        }
        if let IpAddr::V6(address) = net.addr()
            && let (Some(v4), 96..) = (address.to_ipv4_mapped(), net.prefix_len())
        {
            return Err(format!(
                "{text:?} is an IPv4 address written as an IPv6 one, which no packet has; write {v4}/{}",
                net.prefix_len() - 96
            ));
        }
        Ok(Self(net))
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Prefix;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a prefix in quotes, like \"192.0.2.0/24\"")
            }

            // Refused in here, it is this item of a list that the error points at, and not the list.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prefix, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_with_bits_behind_it_is_refused_with_the_one_that_was_meant() {
        let error = "192.0.2.10/24".parse::<Prefix>().expect_err("bits behind it");
        assert!(error.contains("the prefix is 192.0.2.0/24"), "{error}");
        let error = "::ffff:192.0.2.1".parse::<Prefix>().expect_err("no packet has it");
        assert!(error.contains("write 192.0.2.1/32"), "{error}");
        for text in ["192.0.2.1", "192.0.2.0/24", "::/0", "2001:db8::/32"] {
            assert!(text.parse::<Prefix>().is_ok(), "{text}");
        }
    }

    #[test]
    fn prefixes_of_more_than_a_network_are_very_wide() {
        let wide = |text: &str| text.parse::<Prefix>().expect("a prefix").is_very_wide();
        assert_eq!(["10.0.0.0/8", "10.0.0.0/7", "0.0.0.0/0"].map(wide), [false, true, true]);
        assert_eq!(["2001:db8::/32", "2000::/31", "::/0"].map(wide), [false, true, true]);
    }
}
