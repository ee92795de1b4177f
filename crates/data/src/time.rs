//! Points in time from text and numbers, to microseconds since 1970 in UTC.

use jiff::{Timestamp, civil, tz::Offset};

/// Reads a point in time: ISO 8601 text (with `T` or a space, with or without a fraction, with or
/// without an offset; without one it is UTC), a bare date, or digits counting seconds,
/// milliseconds, microseconds or nanoseconds since 1970. Gives microseconds since 1970.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return from_epoch(number);
    }
    if !text.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    if let Ok(number) = text.parse::<f64>() {
        return from_epoch_float(number);
    }
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_microsecond());
    }
    let local = match text.parse::<civil::DateTime>() {
        Ok(local) => local,
        Err(_) => text
            .parse::<civil::Date>()
            .ok()?
            .to_datetime(civil::Time::midnight()),
    };
    Some(Offset::UTC.to_timestamp(local).ok()?.as_microsecond())
}

/// Reads a count since 1970; its size tells the unit (seconds below 10^11, and so on).
pub(crate) fn from_epoch(number: i64) -> Option<i64> {
    match number.unsigned_abs() {
        0..100_000_000_000 => number.checked_mul(1_000_000),
        100_000_000_000..100_000_000_000_000 => number.checked_mul(1_000),
        100_000_000_000_000..100_000_000_000_000_000 => Some(number),
        _ => Some(number.div_euclid(1_000)),
    }
}

/// As [`from_epoch`], keeping a fraction of seconds or milliseconds.
pub(crate) fn from_epoch_float(number: f64) -> Option<i64> {
    let micros = match number.abs() {
        n if n < 1e11 => number * 1e6,
        n if n < 1e14 => number * 1e3,
        n if n < 1e17 => number,
        n if n < 9e18 => number / 1e3,
        _ => return None,
    };
    Some(micros.round() as i64)
}

/// The time as `YYYY-MM-DDTHH:MM:SS.ffffff+00:00`; none if it is outside the calendar.
pub(crate) fn format_micros(micros: i64) -> Option<String> {
    let instant = Timestamp::from_microsecond(micros).ok()?;
    Some(instant.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string())
}
