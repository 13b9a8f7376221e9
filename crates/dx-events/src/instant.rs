//! Points in time as agents tell them: Unix time in seconds, or in milliseconds without a word about it. Must never give one
//! that no record can hold.

/// So many seconds are the year 5138; what is more is milliseconds.
const MOST_SECONDS: f64 = 1e11;
/// The year 10000, in milliseconds.
const END: f64 = 253_402_300_800_000.0;

/// Milliseconds since 1970 of an instant in either unit; `None` for what can be no time.
pub(crate) fn of_either(told: f64) -> Option<i64> {
    of_ms(if told < MOST_SECONDS { told * 1000.0 } else { told })
}

/// The same of one that is in milliseconds.
pub(crate) fn of_ms(ms: f64) -> Option<i64> {
    (0.0..END).contains(&ms).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_milliseconds_are_told_apart_and_nonsense_is_none() {
        let same = Some(1_795_364_546_000);
        assert_eq!((of_either(1_795_364_546.0), of_either(1_795_364_546_000.0)), (same, same));
        for nonsense in [-1.0, 1.795e15, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(of_either(nonsense), None, "{nonsense}");
        }
    }
}
