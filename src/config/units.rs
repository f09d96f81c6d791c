//! Pure. Human units: `30m`, `500ms`, `5%`, `3/10m`.

use serde::{Deserialize, Deserializer, Serializer};
use std::time::Duration;

/// Reads `500ms`, `15s`, `30m`, `2h`, `1d`, and sums like `1h30m`. A bare number has no unit and is refused.
///
/// # Errors
/// A sentence that names the text and the units.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a duration; write a number with a unit: 500ms, 15s, 30m, 2h, 1d");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let seconds = match unit.trim() {
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            "d" => number * 86400.0,
            _ => return Err(wrong()),
        };
        total = Duration::try_from_secs_f64(seconds).ok().and_then(|d| total.checked_add(d)).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

/// A duration that a command may wait for: as [`parse_duration`], at most a week.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_wait(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_secs(7 * 86_400);
    parse_duration(text).and_then(|d| if d <= longest { Ok(d) } else { Err(format!("\"{text}\" is longer than 7d")) })
}

/// The shortest exact spelling of a duration: the inverse of [`parse_duration`].
pub fn format_duration(d: Duration) -> String {
    let (seconds, millis) = (d.as_secs(), d.subsec_millis());
    match (seconds, millis) {
        (0, ms) => format!("{ms}ms"),
        (s, 0) if s % 86400 == 0 => format!("{}d", s / 86400),
        (s, 0) if s % 3600 == 0 => format!("{}h", s / 3600),
        (s, 0) if s % 60 == 0 => format!("{}m", s / 60),
        (s, 0) if s < 120 => format!("{s}s"),
        (s, 0) => format!("{}m{}s", s / 60, s % 60),
        (s, ms) => format!("{s}s{ms}ms"),
    }
}

/// For serde fields: `#[serde(with = "duration")]`.
pub mod duration {
    use super::*;
    /// Reads human units.
    ///
    /// # Errors
    /// See [`parse_duration`].
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
    /// Writes human units.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format_duration(*value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in
            [("500ms", 500), ("15s", 15_000), ("1h30m", 5_400_000), ("1.5h", 5_400_000), (" 2 d ", 172_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "30",
            "m",
            "5 apples",
            "-5s",
            "1e9s",
            "5s 3",
            "..s",
            "99999999999999999999d",
            "1h-1m",
            "5\u{b5}s",
            "NaNs",
            "5S",
        ] {
            let error = parse_duration(text).unwrap_err();
            assert!(error.contains("is not a duration; write a number with a unit"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ms in 0u64..10_000_000_000) {
            let d = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(d)), Ok(d));
        }

        #[test]
        fn no_text_can_make_it_panic(text in any::<String>(), near in "[0-9.]{0,5}[a-z ]{0,3}[0-9.]{0,25}[smhd]?") {
            let _ = (parse_duration(&text), parse_duration(&near));
        }
    }
}
