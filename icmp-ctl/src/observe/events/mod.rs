//! Events: floods, pressure, changes of the policy, of interfaces, addresses, chained programs and VIPs.
//!
//! Owns the events, their words and their fields, which are the same for `monitor`, the journal and the receivers. [`floods`] finds a flood,
//! [`state`] a change, without a clock or a map; [`watch`] reads their input, [`told`] and [`receivers`] deliver.

pub mod floods;
pub mod receivers;
pub mod state;
pub mod told;
pub mod watch;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::diagnostics::{count, visible};
use crate::observe::rates::three_digits;

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
pub struct Event {
    /// Time at which the event was noticed, in seconds since 1970.
    pub time: f64,
    /// What it was.
    #[serde(flatten)]
    pub what: What,
}

/// What can happen. In JSON the name is `event`, and the fields lie beside it; docs/reference/events.md is made from this.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// 100 frames of a type from one source were stopped within a second.
    FloodStarted(Flood),
    /// The flood has not grown by a tenth for two seconds; reported again at twice the rate. `packets_per_second` is the highest so far.
    FloodPeak(Flood),
    /// The flood was below half of its peak for three seconds.
    FloodEnded(Flood),
    /// 1,000 frames of a type were stopped within a second, from sources none of which is a flood by itself.
    DistributedFloodStarted(Flood),
    /// As `flood-peak`, for a distributed flood.
    DistributedFloodPeak(Flood),
    /// As `flood-ended`, for a distributed flood.
    DistributedFloodEnded(Flood),
    /// The reply budget is exhausted.
    PressureStarted,
    /// The reply budget was not exhausted for a second.
    PressureEnded,
    /// Another policy, limit or rule is in force.
    PolicyApplied(Author),
    /// A policy that awaited confirmation is kept.
    PolicyConfirmed(Author),
    /// A policy that awaited confirmation was taken back.
    PolicyRolledBack(Author),
    /// A policy that awaited confirmation was not confirmed in time, and the previous one is in force.
    PolicyTimedOut,
    /// An interface has the program.
    Attached(Interface),
    /// An interface does not have the program any more; the fields are the last known ones.
    Detached(Interface),
    /// The program behind ours on an interface was exchanged, is new or is gone.
    ChainChanged(Interface),
    /// Other addresses are answered than before.
    AddressesChanged(Addresses),
    /// A VIP with a check is answered again.
    VipHealthy(Vip),
    /// A VIP with a check is not answered any more.
    VipUnhealthy(Vip),
    /// Frames or events are missing from the report.
    Lost(Lost),
}

/// A flood, as far as it has come.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema, Serialize)]
pub struct Flood {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Type, by its nftables name.
    #[serde(rename = "type")]
    pub icmp_type: String,
    /// Address or prefix, masked as for the per-source limit; null for a distributed flood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Interface on which most of the flood comes in.
    pub interface: String,
    /// Reason in which most of the flood ends.
    pub reason: String,
    /// Frames a second that are stopped: in the last second, or for a peak the highest.
    pub packets_per_second: u64,
    /// Frames that were stopped so far.
    pub packets: u64,
    /// Time since the flood began.
    pub seconds: f64,
}

/// Who has changed the policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
pub struct Author {
    /// The user who logged in and ran the command, or, if nobody has logged in, the user that it ran as.
    pub user: String,
    /// Number of the user that the command ran as.
    pub uid: u32,
    /// The command line, without the program.
    pub command: String,
}

/// An interface, as it is or was.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
pub struct Interface {
    /// Its name.
    pub interface: String,
    /// Mode of attachment, as in `status`.
    pub mode: String,
    /// The program behind ours, `null` if there is none.
    pub behind: Option<String>,
}

/// Addresses that are answered, or are no more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
pub struct Addresses {
    /// New addresses, 16 of them at most.
    pub added: Vec<String>,
    /// Addresses that are gone, 16 of them at most.
    pub removed: Vec<String>,
    /// Number of further addresses that are new or gone.
    pub unlisted: usize,
}

impl Addresses {
    /// How many are listed at most.
    pub const LISTED: usize = 16;
}

/// A VIP with a check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema, Serialize)]
pub struct Vip {
    /// Its prefix.
    pub vip: String,
    /// The check.
    pub check: String,
}

/// What is missing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
pub struct Lost {
    /// Stopped frames that were not sampled, because there were too many: sources are known from fewer frames.
    pub frames: u64,
    /// Events that were not delivered, because the receiver was too slow.
    pub events: u64,
}

impl Event {
    /// Number of the form of events in JSON.
    pub const SCHEMA: u32 = 1;

    /// The JSON Schema of [`Self::json`].
    pub fn json_schema() -> Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let mut schema = settings.into_generator().into_root_schema_for::<Self>().to_value();
        schema["properties"]["schema"] =
            json!({ "const": Self::SCHEMA, "description": "Version of this form of events." });
        schema["required"] = json!(["schema", "time"]);
        schema
    }

    /// Something that was noticed just now.
    pub fn now(what: What) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { time: since.as_millis() as f64 / 1e3, what }
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let mut json = json!(self);
        json["schema"] = json!(Self::SCHEMA);
        json
    }

    /// A line for people: the time of day (UTC), and what has happened.
    pub fn line(&self) -> String {
        let seconds = self.time as u64 % 86_400;
        let [hours, minutes, seconds] = [seconds / 3600, seconds / 60 % 60, seconds % 60];
        format!("{hours:02}:{minutes:02}:{seconds:02}Z {}", self.what.text())
    }
}

impl What {
    /// It in words, on one line, whatever line breaks there are in the names and commands that it tells of.
    pub fn text(&self) -> String {
        visible(&self.to_string(), &[])
    }

    /// Its name, as in JSON.
    pub fn name(&self) -> String {
        json!(self)["event"].as_str().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = |interface: &Interface| {
            interface.behind.as_ref().map(|behind| format!(", {behind}")).unwrap_or_default()
        };
        match self {
            Self::FloodStarted(flood) | Self::DistributedFloodStarted(flood) => {
                write!(f, "{flood}: a flood, {}/s and more ({})", flood.rate(), flood.reason)
            }
            Self::FloodPeak(flood) | Self::DistributedFloodPeak(flood) => {
                write!(f, "{flood}: {}/s at most so far ({})", flood.rate(), flood.reason)
            }
            Self::FloodEnded(flood) | Self::DistributedFloodEnded(flood) => {
                let packets = three_digits(flood.packets as f64);
                write!(f, "{flood}: the flood has ended, {packets} frames in {:.1} s", flood.seconds)
            }
            Self::PressureStarted => f.write_str(
                "under pressure: the reply budget is exhausted; known sources have a share of their own",
            ),
            Self::PressureEnded => f.write_str("the reply budget is not exhausted any more"),
            Self::PolicyApplied(author) => write!(f, "policy: put in force {author}"),
            Self::PolicyConfirmed(author) => write!(f, "policy: confirmed {author}"),
            Self::PolicyRolledBack(author) => write!(f, "policy: taken back {author}"),
            Self::PolicyTimedOut => {
                f.write_str("policy: not confirmed in time; what was confirmed last is in force")
            }
            Self::Attached(interface) => {
                write!(f, "{}: attached, {} mode{}", interface.interface, interface.mode, behind(interface))
            }
            Self::Detached(interface) => write!(f, "{}: detached", interface.interface),
            Self::ChainChanged(interface) => {
                let behind = interface.behind.as_deref().unwrap_or("no other program");
                write!(f, "{}: behind the program is now {behind}", interface.interface)
            }
            Self::AddressesChanged(Addresses { added, removed, unlisted }) => {
                f.write_str("answered:")?;
                added.iter().try_for_each(|address| write!(f, " +{address}"))?;
                removed.iter().try_for_each(|address| write!(f, " -{address}"))?;
                if *unlisted > 0 { write!(f, " and {unlisted} more") } else { Ok(()) }
            }
            Self::VipHealthy(Vip { vip, check }) => write!(f, "{vip}: healthy, by {check}"),
            Self::VipUnhealthy(Vip { vip, check }) => write!(f, "{vip}: unhealthy, by {check}"),
            Self::Lost(Lost { frames, events: 0 }) => write!(
                f,
                "lost: {} not looked at, so who sends is known from fewer; totals are exact",
                count(*frames, "stopped frame was", "stopped frames were")
            ),
            Self::Lost(Lost { events, .. }) => {
                let events = count(*events, "event was", "events were");
                write!(f, "lost: {events} not delivered, because the receiver was too slow")
            }
        }
    }
}

impl Flood {
    fn rate(&self) -> String {
        three_digits(self.packets_per_second as f64)
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, icmp_type, interface, .. } = self;
        let source = self.source.as_deref().unwrap_or("many sources");
        write!(f, "{interface}: {icmp_type} ({family}) from {source}")
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} (icmp-ctl {})", self.user, self.command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_object_and_is_read_back_from_it() {
        let flood =
            Flood { source: Some("192.0.2.1".to_owned()), packets_per_second: 1500, ..Flood::default() };
        for what in [
            What::FloodStarted(flood.clone()),
            What::DistributedFloodEnded(Flood { source: None, ..flood }),
            What::PressureStarted,
            What::Lost(Lost { frames: 7, events: 0 }),
        ] {
            let event = Event { time: 86_399.5, what };
            let json = event.json();
            assert_eq!(
                (json["schema"].as_u64(), json["event"].as_str()),
                (Some(1), Some(&*event.what.name()))
            );
            assert_eq!(serde_json::from_value::<Event>(json).expect("it is one"), event);
            assert!(event.line().starts_with("23:59:59Z "), "{}", event.line());
        }
    }

    #[test]
    fn what_a_command_line_or_a_name_has_in_it_does_not_begin_a_line_of_its_own_or_colour_it() {
        let author =
            Author { user: "root".to_owned(), uid: 0, command: "a\n00:00:00Z policy\u{1b}[8m".to_owned() };
        for what in [
            What::PolicyApplied(author),
            What::Detached(Interface {
                interface: "e\u{7}0".to_owned(),
                mode: "native".to_owned(),
                behind: None,
            }),
        ] {
            let line = Event { time: 0.0, what }.line();
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }
}
