//! Reads the `traceparent` header of W3C Trace Context.

use http::HeaderMap;

use crate::fact::TraceId;

/// The longest header that is looked at; version 00 has 55 bytes.
const MAX_LEN: usize = 256;

/// The trace that the caller names, unless the header is absent, sent twice or malformed.
pub(super) fn trace_of(headers: &HeaderMap) -> Option<TraceId> {
    let mut values = headers.get_all("traceparent").iter();
    match (values.next(), values.next()) {
        (Some(value), None) => parse(value.to_str().ok()?),
        _ => None,
    }
}

fn parse(text: &str) -> Option<TraceId> {
    if text.len() > MAX_LEN {
        return None;
    }
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = hex(version, 2) && version != "ff";
    // Later versions may add parts, version 00 may not.
    let ends = version != "00" || parts.next().is_none();
    let parented = hex(parent, 16) && parent.bytes().any(|b| b != b'0');
    (known && ends && parented && hex(flags, 2)).then_some(())?;
    TraceId::new(trace)
}

fn hex(text: &str, len: usize) -> bool {
    text.len() == len
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn valid_header_names_its_trace() {
        for text in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later-parts",
        ] {
            assert_eq!(parse(text).unwrap().as_str(), TRACE, "{text}");
        }
    }

    #[test]
    fn hostile_header_is_ignored() {
        let long = format!("cc-{TRACE}-00f067aa0ba902b7-01-{}", "a".repeat(300));
        for text in [
            "",
            "-",
            "---",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47361-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "00-\u{ff14}bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            long.as_str(),
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn header_sent_twice_or_of_other_bytes_is_ignored() {
        let valid =
            HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let mut headers = HeaderMap::new();
        headers.append("traceparent", valid.clone());
        assert!(trace_of(&headers).is_some());
        headers.append("traceparent", valid);
        assert_eq!(trace_of(&headers), None);

        let bytes = HeaderValue::from_bytes(b"00-\xff\xfe-00f067aa0ba902b7-01").unwrap();
        let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), bytes)]);
        assert_eq!(trace_of(&headers), None);
    }
}
