//! Values on the command line: numbers, addresses, VLANs, names of limits, and the time to confirm.
//!
//! Owns only the values that the configuration does not have; rates, spans and words are in `config/`.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use icmp_common::abi::CAPTURED_BYTES;
use ipnet::IpNet;

use crate::config::span::Span;
use crate::config::units::Rate;
use crate::policy::limits::LimitName;

/// The names of limits, for the help and for suggestions.
pub(super) fn limit_names() -> impl TypedValueParser<Value = LimitName> {
    PossibleValuesParser::new(LimitName::settable().map(LimitName::name)).try_map(|name| name.parse())
}

/// A whole number that is typed, of a type without a sign.
pub(super) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let most = u64::MAX >> (u64::BITS as usize - 8 * size_of::<T>());
    text.parse().map_err(|_| format!("{text:?} is no whole number from 0 to {most}"))
}

/// One that counts something of which none is nothing.
pub(super) fn from_1<T: FromStr + PartialEq + Default>(text: &str) -> Result<T, String> {
    let number = whole(text)?;
    if number == T::default() { Err("it is 1 or more".to_owned()) } else { Ok(number) }
}

/// A rate at which there is something.
pub(super) fn above_0(text: &str) -> Result<Rate, String> {
    match text.parse()? {
        Rate::PerSecond(0.0) => Err("at a rate of 0 no frame is captured; write it like 100/s".to_owned()),
        rate => Ok(rate),
    }
}

/// How much of a frame is captured.
pub(super) fn captured_bytes(text: &str) -> Result<u32, String> {
    let bytes = whole(text)?;
    if (1..=CAPTURED_BYTES as u32).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("{bytes} bytes of a frame cannot be captured; 1 to {CAPTURED_BYTES} can"))
}

/// An address.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address: write it like 192.0.2.1 or 2001:db8::1"))
}

/// An address, with the length of its prefix or without.
pub(super) fn own_address(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let own = address.or_else(|_| text.parse());
    own.map_err(|_| format!("{text:?} is no address: write it like 192.0.2.1, 192.0.2.1/24 or 2001:db8::1"))
}

/// The identifier of a VLAN.
pub(super) fn vlan(text: &str) -> Result<u16, String> {
    let id = text.parse().ok().filter(|id| *id < 4095);
    id.ok_or_else(|| format!("{text:?} is no VLAN: write a number from 0 to 4094"))
}

/// How long to wait for a confirmation, as it is typed: `60s`, `5min`, `250ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmTimeout(pub Duration);

impl FromStr for ConfirmTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Span(within) = text.parse()?;
        if within > Self::LONGEST {
            return Err(format!("{text:?} is too long: a confirmation is waited for up to 24h"));
        }
        Ok(Self(within))
    }
}

impl ConfirmTimeout {
    const LONGEST: Duration = Duration::from_secs(86_400);
}
