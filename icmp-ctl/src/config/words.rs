//! Words that users choose from a list, and lists of words.

use icmp_common::types::Action;
use std::fmt;

use icmp_common::path::checks::Mode;
use icmp_common::policy::Preset;
use icmp_common::reason::{Reason, Verdict};
use icmp_common::types::Family;
use serde::{Deserialize, Serialize};

use crate::config::suggestions::did_you_mean;

/// One of a list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<T>(pub T);

/// Something with names that users choose from.
pub trait Named: Copy + 'static {
    /// What it is, for errors.
    const KIND: &'static str;
    /// All of them.
    const ALL: &'static [Self];
    /// The name of one.
    fn name(self) -> &'static str;
}

macro_rules! named {
    ($($kind:literal $type:ty = $all:expr;)+) => {
        $(impl Named for $type {
            const KIND: &'static str = $kind;
            const ALL: &'static [Self] = $all;
            fn name(self) -> &'static str {
                <$type>::name(self)
            }
        })+
    };
}

named! {
    "preset" Preset = Preset::ALL;
    "action" Action = &[Action::Answer, Action::Pass, Action::Limit, Action::Drop];
    "mode of a check" Mode = Mode::ALL;
    "family" Family = &[Family::V4, Family::V6];
    "reason" Reason = Reason::ALL;
    "verdict" Verdict = &Verdict::ALL;
}

impl<T: Named> std::str::FromStr for Word<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        T::ALL.iter().find(|one| one.name() == text).map(|one| Self(*one)).ok_or_else(|| {
            let names: Vec<_> = T::ALL.iter().map(|one| one.name()).collect();
            format!(
                "{text:?} is no {}; there are {}{}",
                T::KIND,
                names.join(", "),
                did_you_mean(text, names.iter().copied())
            )
        })
    }
}

impl<'de, T: Named> Deserialize<'de> for Word<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<T: Named> Serialize for Word<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

/// One word or number, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneOrMany(pub Vec<String>);

/// What stands where a list of words may stand: a list has no lists in it.
struct Words {
    may_be_a_list: bool,
}

impl<'de> serde::de::DeserializeSeed<'de> for Words {
    type Value = OneOrMany;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<OneOrMany, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Words {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.may_be_a_list {
            "text in quotes, a number, or a list of these"
        } else {
            "text in quotes or a number"
        })
    }

    fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![text.to_owned()]))
    }

    fn visit_i64<E>(self, number: i64) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![number.to_string()]))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
        if !self.may_be_a_list {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let mut words = Vec::new();
        while let Some(OneOrMany(word)) = items.next_element_seed(Words { may_be_a_list: false })? {
            words.extend(word);
        }
        Ok(OneOrMany(words))
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Words { may_be_a_list: true })
    }
}

impl Serialize for OneOrMany {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [word] => serializer.serialize_str(word),
            words => serializer.collect_seq(words),
        }
    }
}
