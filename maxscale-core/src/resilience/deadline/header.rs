//! What a caller says of the time that it will wait.

use std::time::Duration;

use http::header::HeaderName;

use crate::fact::Facts;

/// gRPC's own bound; a number of so many digits fits in any unit.
const MAX_DIGITS: usize = 8;

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// The time that the caller asks for; the shorter of two. What is absent, sent
/// twice or malformed says nothing.
pub(super) fn asked(request: &impl Facts) -> Option<Duration> {
    let grpc = request.header(&GRPC_TIMEOUT).and_then(grpc);
    let http = request.header(&TIMEOUT).and_then(number);
    let http = http.map(Duration::from_millis);
    grpc.into_iter().chain(http).min()
}

/// Up to eight digits and a unit: `100m` are 100 milliseconds.
fn grpc(text: &str) -> Option<Duration> {
    let (last, _) = text.char_indices().next_back()?;
    let (digits, unit) = text.split_at(last);
    let number = number(digits)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn number(text: &str) -> Option<u64> {
    let digits = (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};
    use proptest::prelude::*;

    use super::*;

    fn request(name: &'static str, values: &[&str]) -> Request<()> {
        let mut request = Request::new(());
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append(name, value);
        }
        request
    }

    #[test]
    fn time_is_read_in_every_unit() {
        for (text, micros) in [
            ("1H", 3_600_000_000),
            ("2M", 120_000_000),
            ("3S", 3_000_000),
            ("100m", 100_000),
            ("00000005u", 5),
            ("99999999n", 99_999),
            ("0m", 0),
        ] {
            let asked = asked(&request("grpc-timeout", &[text])).unwrap();
            assert_eq!(asked.as_micros(), micros, "{text}");
        }
        let millis = asked(&request("x-request-timeout-ms", &["250"]));
        assert_eq!(millis, Some(Duration::from_millis(250)));
        assert!(asked(&request("grpc-timeout", &["99999999H"])).is_some());
    }

    #[test]
    fn hostile_header_says_nothing() {
        let long = "9".repeat(60_000) + "S";
        for text in [
            "",
            "S",
            "1",
            "1s",
            "-1S",
            "+1S",
            " 1S",
            "1 S",
            "1.5S",
            "0x1S",
            "1e3m",
            "123456789S",
            "1SS",
            "1\u{b5}",
            "\u{661}S",
            "NaNS",
            "infS",
            &long,
        ] {
            assert_eq!(asked(&request("grpc-timeout", &[text])), None, "{text:.20}");
        }
        for text in [
            "",
            "-1",
            "+1",
            "1.5",
            "1ms",
            "123456789",
            "18446744073709551616",
            &long,
        ] {
            let asked = asked(&request("x-request-timeout-ms", &[text]));
            assert_eq!(asked, None, "{text:.20}");
        }
        assert_eq!(asked(&request("grpc-timeout", &["1S", "2S"])), None);
    }

    #[test]
    fn of_two_times_the_shorter_holds() {
        let mut both = request("grpc-timeout", &["2S"]);
        let millis = HeaderValue::from_static("500");
        both.headers_mut().insert("x-request-timeout-ms", millis);
        assert_eq!(asked(&both), Some(Duration::from_millis(500)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_at_all_does_harm(text in ".{0,12}") {
            let asked = grpc(&text);
            prop_assert!(asked.is_none_or(|asked| asked <= Duration::from_secs(3_600 * 100_000_000)));
        }
    }
}
