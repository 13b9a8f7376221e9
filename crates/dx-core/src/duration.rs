//! Durations as people type them: `90s`, `5m`, `2h`, `1d`, `1h30m`, `500ms`; a bare number is seconds.
//!
//! For: options and configuration files. Must never: guess; what is not clear is refused with the rule.

use std::fmt::Write as _;
use std::time::Duration;

/// What every refusal says.
const RULE: &str = "a time such as 90s, 5m, 2h, 1d or 1h30m (a bare number is seconds)";

/// Units by their length in milliseconds, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a duration.
///
/// Fails with a sentence for people.
pub fn parse(text: &str) -> Result<Duration, String> {
    let refuse = || format!("expected {RULE}");
    let too_long = || "too long a time".to_owned();
    if let Ok(seconds) = text.parse::<u64>() {
        return if seconds > u64::MAX / 1000 { Err(too_long()) } else { Ok(Duration::from_secs(seconds)) };
    }
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit_len = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let (number, unit) = (&rest[..digits], &rest[digits..digits + unit_len]);
        let unit_ms = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refuse)?.1;
        // Units go down: `30m1h` is more likely a mistake than a wish.
        if number.is_empty() || unit_ms >= last_unit {
            return Err(refuse());
        }
        last_unit = unit_ms;
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let part = number.checked_mul(unit_ms).ok_or_else(too_long)?;
        total_ms = total_ms.checked_add(part).ok_or_else(too_long)?;
        rest = &rest[digits + unit_len..];
    }
    if text.is_empty() { Err(refuse()) } else { Ok(Duration::from_millis(total_ms)) }
}

/// Writes a duration as [`parse`] reads it.
pub fn format(mut ms: u64) -> String {
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        let number = ms / unit_ms;
        if number > 0 {
            // Writing to a String cannot fail.
            let _fits = write!(text, "{number}{unit}");
            ms %= unit_ms;
        }
    }
    if text.is_empty() { "0".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type() {
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(parse(&format(ms)), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "5x", "-5", "1.5h", "5 m", "5m3", "30m1h", "5mm", "5m5m", "é", "5é"] {
            assert!(parse(bad).unwrap_err().contains("90s"), "{bad}");
        }
        for long in ["18446744073709551615", "99999999999999999999d", "18446744073709551615h"] {
            assert!(parse(long).is_err(), "{long}");
        }
        assert_eq!(
            [0, 500, 90_000, 5_400_000, 90_000_000].map(format),
            ["0", "500ms", "1m30s", "1h30m", "1d1h"]
        );
    }
}
