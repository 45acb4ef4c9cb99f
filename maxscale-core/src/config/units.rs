//! Durations and sizes as people write them.

use std::time::Duration;

use super::Problem;

/// Reads a whole number and its unit: `250ms`, `30s`, `5m`, `2h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let (number, unit) = split(text)?;
    let micros: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        "" => return Err(Problem::NoUnit),
        _ => return Err(Problem::UnknownUnit),
    };
    let micros = number.checked_mul(micros).ok_or(Problem::TooLarge)?;
    Ok(Duration::from_micros(micros))
}

/// Reads a number of bytes: `64MiB`, `1GB`, or the bare number.
pub(super) fn size(text: &str) -> Result<u64, Problem> {
    let (number, unit) = split(text)?;
    let bytes: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(Problem::UnknownUnit),
    };
    number.checked_mul(bytes).ok_or(Problem::TooLarge)
}

fn split(text: &str) -> Result<(u64, &str), Problem> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - unit.len()];
    if number.is_empty() {
        return Err(Problem::NoNumber);
    }
    // Only digits are left, so nothing but their count can be wrong.
    let number = number.parse().map_err(|_| Problem::TooLarge)?;
    Ok((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Problem, duration, size};

    #[test]
    fn durations_take_a_number_and_a_unit() {
        let cases = [
            ("7us", Duration::from_micros(7)),
            ("250ms", Duration::from_millis(250)),
            ("30s", Duration::from_secs(30)),
            ("5m", Duration::from_secs(300)),
            ("2 h", Duration::from_secs(7_200)),
            ("7d", Duration::from_secs(604_800)),
            ("0s", Duration::ZERO),
        ];
        for (text, expected) in cases {
            assert_eq!(duration(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn wrong_durations_say_why() {
        let cases = [
            ("30", "NoUnit"),
            ("30 parsecs", "UnknownUnit"),
            ("1m30s", "UnknownUnit"),
            ("1.5s", "UnknownUnit"),
            ("-1s", "NoNumber"),
            ("s", "NoNumber"),
            ("18446744073709551615d", "TooLarge"),
            ("18446744073709551616us", "TooLarge"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                format!("{:?}", duration(text).unwrap_err()),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_know_both_kinds_of_unit() {
        let cases = [
            ("512", 512),
            ("1B", 1),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("3GB", 3_000_000_000),
            ("1TiB", 1 << 40),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn sizes_do_not_wrap_around() {
        assert_eq!(size("16777215TiB").unwrap(), 16_777_215 << 40);
        assert!(matches!(size("16777216TiB"), Err(Problem::TooLarge)));
        assert!(matches!(
            size("99999999999999999999"),
            Err(Problem::TooLarge)
        ));
        assert!(matches!(size("64M"), Err(Problem::UnknownUnit)));
    }
}
