//! Rates, as users write them and as the limiter counts them.
//!
//! Owns the grammar (`100/s`, `100pps`, `6000/min`, `1.5Mpps`, `5k/s`, `unlimited`, `0`) and the way back to text, so that what is printed
//! can be typed. Ticks and buckets are `policy/limits.rs`'s.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Packets per time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// No limit.
    Unlimited,
    /// This many packets a second; 0 admits nothing.
    PerSecond(f64),
}

/// Multiples that may follow a number.
const MULTIPLES: [(&str, f64); 3] = [("k", 1e3), ("M", 1e6), ("G", 1e9)];
/// Spans of time a rate may be given over, longest name first.
const SPANS: [(&str, f64); 8] = [
    ("/second", 1.0),
    ("/minute", 60.0),
    ("/hour", 3600.0),
    ("/min", 60.0),
    ("pps", 1.0),
    ("/s", 1.0),
    ("/m", 60.0),
    ("/h", 3600.0),
];

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || {
            format!(
                "{text:?} is no rate: write it like 100/s, 100pps, 6000/min, 5k/s, 1.5Mpps, unlimited or 0"
            )
        };
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        if text == "0" {
            return Ok(Self::PerSecond(0.0));
        }
        let (number, span) = SPANS
            .iter()
            .find_map(|(suffix, span)| Some((text.strip_suffix(suffix)?, *span)))
            .ok_or_else(bad)?;
        let number = number.trim_end();
        let (number, multiple) = MULTIPLES
            .iter()
            .find_map(|(suffix, multiple)| Some((number.strip_suffix(suffix)?, *multiple)))
            .unwrap_or((number, 1.0));
        let number: f64 = number.trim_end().parse().map_err(|_| bad())?;
        let rate = number * multiple / span;
        // One that is too small for a number of its own would be 0, which admits nothing.
        if !rate.is_finite() || rate < 0.0 || (rate == 0.0 && number != 0.0) {
            return Err(bad());
        }
        Ok(Self::PerSecond(rate))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::PerSecond(0.0) => f.write_str("0"),
            Self::PerSecond(rate) if !TELLING.contains(&rate) => write!(f, "{rate:e}/s"),
            Self::PerSecond(rate) => {
                // The shortest span that leaves at least one, unless another takes fewer digits than a number should have.
                let spans = [("/s", 1.0), ("/min", 60.0), ("/h", 3600.0)];
                let at_least_one =
                    spans.iter().filter(|(suffix, span)| rate * span >= 1.0 || *suffix == "/h");
                let written = at_least_one.filter_map(|(suffix, span)| over_span(rate, suffix, *span));
                match written.min_by_key(|(digits, _)| *digits > ENOUGH_DIGITS) {
                    Some((_, text)) => f.write_str(&text),
                    None => write!(f, "{rate}/s"),
                }
            }
        }
    }
}

/// Packets a second that are written out. Beyond these no limit can be, and what is said about one that was typed has few digits, too.
const TELLING: std::ops::Range<f64> = 1e-12..1e15;

/// Digits behind the first that do not ask for another span.
pub const ENOUGH_DIGITS: usize = 3;

/// A rate over a span with the fewest digits that are read as exactly this rate, and how many are behind the first.
fn over_span(rate: f64, suffix: &str, span: f64) -> Option<(usize, String)> {
    (0..17).find_map(|digits| {
        let number: f64 = format!("{:.digits$e}", rate * span).parse().ok()?;
        // The largest multiple without needless digits.
        let (number, multiple) = MULTIPLES
            .iter()
            .rev()
            .find(|(_, m)| number >= *m && (number / m * 10.0).fract() == 0.0)
            .map_or((number, ""), |(multiple, m)| (number / m, *multiple));
        let text = format!("{number}{multiple}{suffix}");
        (text.parse() == Ok(Rate::PerSecond(rate))).then_some((digits, text))
    })
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read() {
        for (text, rate) in [
            ("100/s", 100.0),
            ("100pps", 100.0),
            ("6000/min", 100.0),
            ("1.5Mpps", 1.5e6),
            ("5k/s", 5000.0),
            ("1M/s", 1e6),
            ("3600/h", 1.0),
            ("0", 0.0),
        ] {
            assert_eq!(text.parse(), Ok(Rate::PerSecond(rate)), "{text}");
        }
        assert_eq!("unlimited".parse(), Ok(Rate::Unlimited));
    }

    #[test]
    fn nonsense_is_refused_with_the_forms_that_work() {
        for text in [
            "",
            "100",
            "/s",
            "x/s",
            "-1/s",
            "1e999/s",
            "1e308G/s",
            "1e-323/h",
            "nan/s",
            "10 per second",
            "5K/s",
        ] {
            let error = text.parse::<Rate>().expect_err(text);
            assert!(error.contains("100/s"), "{error}");
        }
    }

    #[test]
    fn a_rate_that_can_be_none_is_printed_in_few_digits_and_can_be_typed() {
        for text in ["1e-320/s", "5e-324/s", "1e-30/s", "1e300/s", "1e290G/h", "123456789e12/s"] {
            let rate: Rate = text.parse().expect("a rate");
            let printed = rate.to_string();
            assert!(printed.len() < 30, "{text}: {printed}");
            assert_eq!(printed.parse(), Ok(rate), "{text}: {printed}");
        }
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        for rate in [
            0.0,
            0.5,
            1.0,
            10.0,
            100.0,
            1500.0,
            5000.0,
            1.5e6,
            1e6,
            123_456.0,
            12_345.67,
            2e9 / 7.0,
            1e-7 / 3.0,
        ] {
            let printed = Rate::PerSecond(rate).to_string();
            assert_eq!(printed.parse(), Ok(Rate::PerSecond(rate)), "{printed}");
        }
        for text in ["1/h", "7/min", "0.25/h", "30/min", "1.5M/s", "100/min", "12345.67/s"] {
            assert_eq!(text.parse::<Rate>().expect("a rate").to_string(), text);
        }
    }
}
