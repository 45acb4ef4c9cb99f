//! What processes tell each other: `1:{origin}:{kind}:{id}`.
//!
//! Kind and id are written as in keys, so neither contains a `:` and both are
//! short. The version of the value's schema is not part of it: every process
//! drops the versions that it has.

/// The message that says that a value is no longer true.
pub(crate) fn write(origin: u64, kind: &str, id: &str) -> String {
    format!("1:{origin:016x}:{kind}:{id}")
}

/// Origin, kind and id; `None` if the bytes are of another form or release.
pub(crate) fn read(bytes: &[u8]) -> Option<(u64, &str, &str)> {
    let mut parts = std::str::from_utf8(bytes).ok()?.split(':');
    let (format, origin, kind, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if format != "1" || parts.next().is_some() {
        return None;
    }
    Some((u64::from_str_radix(origin, 16).ok()?, kind, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_reads_as_written_and_nothing_else_does() {
        let text = write(7, "user", "a%3Ab");
        assert_eq!(read(text.as_bytes()), Some((7, "user", "a%3Ab")));
        for bad in ["", "1:7:user", "2:7:user:a", "1:x:user:a", "1:7:user:a:b"] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(read(b"\xff"), None);
    }
}
