//! What processes tell each other: `3:{origin}:{seq}:{kind of news}…`.
//!
//! ```text
//!  3:{origin}:{seq}:{news},{news}…     what changed since the message before
//!  3:{origin}:{last}:h:{sent}          heartbeat: the last number given away, and
//!                                      when it was sent by the sender's own clock
//!
//!  d:{kind}:{id}                       the value is no longer true
//!  s:{kind}:{id}                       the value is to be loaded again
//!  t:{kind}:{tag}                      all values with the tag are no longer true
//!  a:{kind}:                           all values of the kind are no longer true
//! ```
//!
//! Kind, id and tag are written as in keys, so none contains a `:` or `,` and all
//! are short. The version of a value's schema is not part of it: every process
//! drops the versions that it has.

use std::fmt::{self, Write as _};

/// What changed.
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
}

/// A kind, and an id or tag within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject<'a> {
    pub(crate) kind: &'a str,
    pub(crate) part: &'a str,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told<'a> {
    /// Changes, in no order.
    News(Vec<News<'a>>),
    /// The sender lives; the sequence number is the last one it gave away.
    Beat {
        /// When it was sent, in microseconds of the sender's clock.
        sent: u64,
    },
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) origin: u64,
    pub(crate) seq: u64,
    pub(crate) told: Told<'a>,
}

/// A heartbeat.
pub(crate) fn beat(origin: u64, last: u64, sent: u64) -> String {
    format!("3:{origin:016x}:{last}:h:{sent}")
}

/// A message of news that are [written](News) already.
pub(crate) fn batch<'a>(origin: u64, seq: u64, news: impl Iterator<Item = &'a str>) -> String {
    let mut out = format!("3:{origin:016x}:{seq}:");
    for (at, news) in news.enumerate() {
        if at > 0 {
            out.push(',');
        }
        let _ = out.write_str(news);
    }
    out
}

// === impl News ===

impl<'a> News<'a> {
    /// `None` if it is of another form or release.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(':');
        let mark = parts.next()?;
        let (kind, part) = (parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let subject = Subject { kind, part };
        match mark {
            "d" => Some(News::Drop(subject)),
            "s" => Some(News::Stale(subject)),
            "t" => Some(News::Tag(subject)),
            "a" => Some(News::All(kind)),
            _ => None,
        }
    }
}

/// As messages have it.
impl fmt::Display for News<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, kind, part) = match self {
            News::Drop(it) => ("d", it.kind, it.part),
            News::Stale(it) => ("s", it.kind, it.part),
            News::Tag(it) => ("t", it.kind, it.part),
            News::All(kind) => ("a", *kind, ""),
        };
        write!(f, "{mark}:{kind}:{part}")
    }
}

// === impl Message ===

impl<'a> Message<'a> {
    /// `None` if the bytes are of another form or release.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.strip_prefix("3:")?;
        let (origin, text) = text.split_once(':')?;
        let (seq, text) = text.split_once(':')?;
        let told = match text.strip_prefix("h:") {
            Some(sent) => Told::Beat {
                sent: sent.parse().ok()?,
            },
            None => Told::News(text.split(',').map(News::read).collect::<Option<_>>()?),
        };
        Some(Self {
            origin: u64::from_str_radix(origin, 16).ok()?,
            seq: seq.parse().ok()?,
            told,
        })
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
        let all = [
            News::Drop(it),
            News::Stale(it),
            News::Tag(it),
            News::All("user"),
        ];
        for count in 1..=all.len() {
            let texts: Vec<_> = all[..count].iter().map(News::to_string).collect();
            let written = batch(7, 9, texts.iter().map(String::as_str));
            let message = Message {
                origin: 7,
                seq: 9,
                told: Told::News(all[..count].to_vec()),
            };
            assert_eq!(Message::read(written.as_bytes()), Some(message));
        }
        let heartbeat = Message {
            origin: 7,
            seq: 9,
            told: Told::Beat { sent: 5 },
        };
        assert_eq!(Message::read(beat(7, 9, 5).as_bytes()), Some(heartbeat));
        for bad in [
            "",
            "2:7:1:d:user:a",
            "3:7:d:user:a",
            "3:x:1:d:user:a",
            "3:7:1:d:user",
            "3:7:1:d:user:a:b",
            "3:7:1:d:user:a,",
            "3:7:1:d:user:a,x",
            "3:7:1:h:x",
            "3:7:1:h:1:2",
            "3:7:1:z:user:a",
            "3:7:1:",
        ] {
            assert_eq!(Message::read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Message::read(b"\xff"), None);
    }
}
