//! Points in time: RFC 3339 in UTC, with milliseconds in records and JSON, with seconds for people.
//!
//! Own arithmetic (Howard Hinnant's `civil_from_days` and `days_from_civil`) keeps a calendar library out of the monitor.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Unix time in milliseconds; in JSON `2026-02-18T12:00:00.250Z`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Timestamp(pub i64);

/// The last millisecond of the year 9999.
const LAST: i64 = 253_402_300_799_999;

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // What is written can be read again.
        let this = Self(self.0.clamp(0, LAST));
        let (year, month, day, hour, minute, second) = this.parts();
        let millis = this.0.rem_euclid(1000);
        serializer.collect_str(&format_args!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        ))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a time such as 2026-02-18T12:00:00Z"))
    }
}

/// Year, month, day of a day count since 1970-01-01.
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = (if mp < 10 { mp + 3 } else { mp - 9 }) as u32;
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = i64::from((month + 9) % 12);
    let doy = (153 * mp + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

impl Timestamp {
    fn parts(self) -> (i64, u32, u32, i64, i64, i64) {
        let secs = self.0.div_euclid(1000);
        let (year, month, day) = civil_from_days(secs.div_euclid(86_400));
        let s = secs.rem_euclid(86_400);
        (year, month, day, s / 3600, s / 60 % 60, s % 60)
    }

    /// `YYYYmmddHHMMSS` in UTC: the run id people see.
    pub fn compact(self) -> String {
        let (y, mo, d, h, mi, s) = self.parts();
        format!("{y:04}{mo:02}{d:02}{h:02}{mi:02}{s:02}")
    }

    /// `YYYY-mm-dd` in UTC: the name of a day's ended index.
    pub fn day(self) -> String {
        let (y, mo, d, ..) = self.parts();
        format!("{y:04}-{mo:02}-{d:02}")
    }

    /// `YYYY-mm` in UTC: the name of a month's history.
    pub fn month(self) -> String {
        let (y, mo, ..) = self.parts();
        format!("{y:04}-{mo:02}")
    }

    /// The same instant this many milliseconds earlier.
    pub fn minus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to `self`, 0 when the clock went back.
    pub fn since_ms(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }

    /// Reads `YYYY-mm-ddTHH:MM:SS[.fff]Z`, as we and others write it; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
        let (date, time) = body.split_once('T')?;
        let mut date = date.splitn(3, '-');
        let year: i64 = date.next()?.parse().ok()?;
        let month: u32 = date.next()?.parse().ok()?;
        let day: u32 = date.next()?.parse().ok()?;
        let (time, millis) = match time.split_once('.') {
            Some((time, frac)) => {
                let digits: String = frac.chars().chain("000".chars()).take(3).collect();
                (time, digits.parse::<i64>().ok()?)
            }
            None => (time, 0),
        };
        let mut time = time.splitn(3, ':');
        let h: i64 = time.next()?.parse().ok()?;
        let m: i64 = time.next()?.parse().ok()?;
        let s: i64 = time.next()?.parse().ok()?;
        let plausible = (1970..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (0..24).contains(&h)
            && (0..60).contains(&m)
            && (0..=60).contains(&s);
        plausible.then(|| {
            Self((days_from_civil(year, month, day) * 86_400 + h * 3600 + m * 60 + s) * 1000 + millis)
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, hour, minute, second) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// A span as people read it in tables: `42s`, `5m`, `2h1m`, `3d4h`.
pub fn elapsed_text(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..86_400 if (s / 60).is_multiple_of(60) => format!("{}h", s / 3600),
        3600..86_400 => format!("{}h{}m", s / 3600, s / 60 % 60),
        _ if (s / 3600).is_multiple_of(24) => format!("{}d", s / 86_400),
        _ => format!("{}d{}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(1_771_416_000_000).to_string(), "2026-02-18T12:00:00Z");
        assert_eq!(Timestamp(951_827_696_000).compact(), "20000229123456");
        assert_eq!(Timestamp::parse("2026-02-18T12:00:00Z"), Some(Timestamp(1_771_416_000_000)));
        assert_eq!(Timestamp::parse("2026-02-18T12:00:00.25Z"), Some(Timestamp(1_771_416_000_250)));
        assert_eq!(Timestamp::parse("2026-02-18 12:00:00"), None);
    }

    #[test]
    fn spans_as_in_the_contract() {
        let texts: Vec<String> =
            [42_000, 300_000, 7_260_000, 7_200_000, 90_000_000].map(elapsed_text).to_vec();
        assert_eq!(texts, ["42s", "5m", "2h1m", "2h", "1d1h"]);
    }

    #[test]
    fn what_no_text_can_hold_is_written_as_the_first_or_last_instant() {
        for (instant, read) in [(i64::MIN, 0), (-1, 0), (LAST, LAST), (LAST + 1, LAST), (i64::MAX, LAST)] {
            let text = serde_json::to_string(&Timestamp(instant)).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&text).unwrap(), Timestamp(read), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trip(secs in 0i64..253_402_300_800) {
            let t = Timestamp(secs * 1000);
            prop_assert_eq!(Timestamp::parse(&t.to_string()), Some(t));
            let t = Timestamp(secs * 1000 + secs % 1000);
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&serde_json::to_string(&t).unwrap()).unwrap(), t);
        }
    }
}
