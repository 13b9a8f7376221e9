//! Durations as people type them: `90s`, `5m`, `2h`, `1d`, `1h30m`, `500ms`; a bare number is seconds.
//!
//! Called by: clap, for every option with a time. Must never: guess; what is not clear is refused with the rule.

use std::time::Duration;

/// What every refusal says.
const RULE: &str = "a time such as 90s, 5m, 2h, 1d or 1h30m (a bare number is seconds)";

/// Reads a duration.
///
/// Fails with a sentence for people.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
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
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refuse()),
        };
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

/// Reads a number of minutes.
///
/// Fails with a sentence for people.
pub(crate) fn parse_minutes(text: &str) -> Result<Duration, String> {
    let minutes: u64 = text.parse().map_err(|_| "expected a whole number of minutes".to_owned())?;
    minutes
        .checked_mul(60)
        .filter(|seconds| *seconds <= u64::MAX / 1000)
        .map(Duration::from_secs)
        .ok_or_else(|| "too long a time".to_owned())
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
        }
        for bad in ["", "s", "5x", "-5", "1.5h", "5 m", "5m3", "30m1h", "5mm", "5m5m", "é", "5é"] {
            assert!(parse(bad).unwrap_err().contains("90s"), "{bad}");
        }
        for long in ["18446744073709551615", "99999999999999999999d", "18446744073709551615h"] {
            assert!(parse(long).is_err(), "{long}");
        }
        assert_eq!(parse_minutes("20"), Ok(Duration::from_mins(20)));
        assert!(parse_minutes("20m").is_err());
    }
}
