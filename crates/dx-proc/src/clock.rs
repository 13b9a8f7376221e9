//! The clocks, in milliseconds.
//!
//! Called for deadlines ([`monotonic_ms`]), for time across suspend ([`boottime_ms`]) and for records ([`now_ms`]).
//! A limit must never be measured with [`now_ms`].

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in milliseconds; stands still while the machine is suspended.
pub fn monotonic_ms() -> u64 {
    read(ClockId::Monotonic).unsigned_abs()
}

/// CLOCK_BOOTTIME in milliseconds since boot; counts suspended time.
pub fn boottime_ms() -> u64 {
    read(ClockId::Boottime).unsigned_abs()
}

/// Unix time in milliseconds. May jump.
pub fn now_ms() -> i64 {
    read(ClockId::Realtime)
}

fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}
