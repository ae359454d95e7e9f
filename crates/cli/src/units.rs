//! Sizes and durations as people write them: `64MiB`, `500ms`.

use std::{fmt, marker::PhantomData, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// A number of bytes: `1048576`, `64KiB`, `1.5GiB` (powers of 1024) or `64kB`, `2GB` (powers of 1000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// A bound on bytes that can be lifted with `-1` or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteBound(pub Option<u64>);

/// A length of time with its unit: `500ms`, `5s`, `10m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

const SIZE_UNITS: [(&str, u64); 11] = [
    ("", 1),
    ("b", 1),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("bytes", 1),
];

const SPAN_UNITS_MS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        scaled(text, &SIZE_UNITS).map(ByteSize).ok_or_else(|| {
            format!("{text:?} is no size: give bytes, or a number with KiB, MiB or GiB, such as 64MiB")
        })
    }
}

impl FromStr for ByteBound {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteBound, String> {
        if matches!(text.trim(), "-1" | "never") {
            return Ok(ByteBound(None));
        }
        let size: ByteSize = text.parse().map_err(|error| format!("{error}, or -1 for never"))?;
        Ok(ByteBound(Some(size.0)))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        scaled(text, &SPAN_UNITS_MS).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(|| {
            format!("{text:?} is no duration: give a number with its unit (ms, s, m, h), such as 500ms or 5s")
        })
    }
}

/// `number unit` as a whole count of the smallest unit; `None`: not of that form, or too large.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let unit = unit.trim().to_ascii_lowercase();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*factor);
    }
    let (whole, fraction) = number.split_once('.')?;
    // Nine digits keep the product below within 128 bits, and nobody means the tenth.
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(fraction.len() as u32);
    let parts = whole.parse::<u64>().ok()? as u128 * scale + fraction.parse::<u64>().ok()? as u128;
    u64::try_from(parts * u128::from(*factor) / scale).ok()
}

/// Reads a text or an integer of a file by the same rules as a flag's text.
fn deserialize_text<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Visitor<T>(PhantomData<T>);

    impl<T: FromStr<Err = String>> de::Visitor<'_> for Visitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text with a unit, or an integer")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
    }

    deserializer.deserialize_any(Visitor(PhantomData))
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        deserialize_text(deserializer)
    }
}

impl<'de> Deserialize<'de> for ByteBound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteBound, D::Error> {
        deserialize_text(deserializer)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        deserialize_text(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("64KiB", Some(64 << 10)),
            ("64 mib", Some(64 << 20)),
            ("1.5GiB", Some(3 << 29)),
            ("2kB", Some(2000)),
            ("64M", None),
            ("-1", None),
            ("", None),
            ("MiB", None),
            ("1.", None),
            ("1.2.3KiB", None),
            ("18446744073709551616", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(text.parse::<ByteSize>().ok().map(|size| size.0), bytes, "{text:?}");
        }
    }

    #[test]
    fn a_bound_is_lifted_by_minus_one_or_never() {
        assert_eq!("-1".parse(), Ok(ByteBound(None)));
        assert_eq!("never".parse(), Ok(ByteBound(None)));
        assert_eq!("1KiB".parse(), Ok(ByteBound(Some(1024))));
        assert!("-2".parse::<ByteBound>().is_err());
    }

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!("500ms".parse(), Ok(Span(Duration::from_millis(500))));
        assert_eq!("1.5s".parse(), Ok(Span(Duration::from_millis(1500))));
        assert_eq!("2h".parse(), Ok(Span(Duration::from_secs(7200))));
        assert!("5".parse::<Span>().is_err());
        assert!("s".parse::<Span>().is_err());
    }
}
