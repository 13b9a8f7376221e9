//! Times as options take them: those of `dx_core::duration`, and plain minutes.
//!
//! Called by: clap, for every option with a time. Must never: guess; what is not clear is refused with the rule.

use std::time::Duration;

pub(crate) use dx_core::duration::parse;

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
    fn minutes_are_a_number() {
        assert_eq!(parse_minutes("20"), Ok(Duration::from_mins(20)));
        assert!(parse_minutes("20m").is_err());
    }
}
