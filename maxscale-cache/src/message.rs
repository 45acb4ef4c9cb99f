//! What processes tell each other: `2:{origin}:{seq}:{kind of news}…`.
//!
//! ```text
//!  2:{origin}:{seq}:d:{kind}:{id}      the value is no longer true
//!  2:{origin}:{seq}:s:{kind}:{id}      the value is to be loaded again
//!  2:{origin}:{seq}:t:{kind}:{tag}     all values with the tag are no longer true
//!  2:{origin}:{seq}:a:{kind}:          all values of the kind are no longer true
//!  2:{origin}:{last}:h:{sent}          heartbeat: the last number given away, and
//!                                      when it was sent by the sender's own clock
//! ```
//!
//! Kind, id and tag are written as in keys, so none contains a `:` and all are
//! short. The version of a value's schema is not part of it: every process
//! drops the versions that it has.

use std::fmt::Write as _;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News<'a> {
    /// A value changed.
    Drop(Subject<'a>),
    /// A value is to be loaded again.
    Stale(Subject<'a>),
    /// All values with a tag changed.
    Tag(Subject<'a>),
    /// All values of a kind changed.
    All(&'a str),
    /// The sender lives; the sequence number is the last one it gave away.
    Beat {
        /// When it was sent, in microseconds of the sender's clock.
        sent: u64,
    },
}

/// A kind, and an id or tag within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject<'a> {
    pub(crate) kind: &'a str,
    pub(crate) part: &'a str,
}

/// A message as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) origin: u64,
    pub(crate) seq: u64,
    pub(crate) news: News<'a>,
}

// === impl Message ===

impl<'a> Message<'a> {
    pub(crate) fn write(&self) -> String {
        let mut out = format!("2:{:016x}:{}:", self.origin, self.seq);
        let (mark, kind, part) = match self.news {
            News::Drop(it) => ("d", it.kind, it.part),
            News::Stale(it) => ("s", it.kind, it.part),
            News::Tag(it) => ("t", it.kind, it.part),
            News::All(kind) => ("a", kind, ""),
            News::Beat { sent } => {
                let _ = write!(out, "h:{sent}");
                return out;
            }
        };
        let _ = write!(out, "{mark}:{kind}:{part}");
        out
    }

    /// `None` if the bytes are of another form or release.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split(':');
        if parts.next()? != "2" {
            return None;
        }
        let origin = u64::from_str_radix(parts.next()?, 16).ok()?;
        let seq = parts.next()?.parse().ok()?;
        let (mark, kind, part) = (parts.next()?, parts.next()?, parts.next());
        let subject = part.map(|part| Subject { kind, part });
        let news = match mark {
            "d" => News::Drop(subject?),
            "s" => News::Stale(subject?),
            "t" => News::Tag(subject?),
            "a" => News::All(subject?.kind),
            "h" if part.is_none() => News::Beat {
                sent: kind.parse().ok()?,
            },
            _ => return None,
        };
        parts.next().is_none().then_some(Self { origin, seq, news })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_reads_as_written_and_nothing_else_does() {
        let it = Subject {
            kind: "user",
            part: "a%3Ab",
        };
        for news in [
            News::Drop(it),
            News::Stale(it),
            News::Tag(it),
            News::All("user"),
            News::Beat { sent: 5 },
        ] {
            let message = Message {
                origin: 7,
                seq: 9,
                news,
            };
            assert_eq!(Message::read(message.write().as_bytes()), Some(message));
        }
        for bad in [
            "",
            "1:7:user:a",
            "2:7:d:user:a",
            "2:x:1:d:user:a",
            "2:7:1:d:user",
            "2:7:1:d:user:a:b",
            "2:7:1:h:x",
            "2:7:1:h:1:2",
            "2:7:1:z:user:a",
        ] {
            assert_eq!(Message::read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Message::read(b"\xff"), None);
    }
}
