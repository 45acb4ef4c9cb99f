//! How a value, or what else has to last, is written to a journal.
//!
//! ```text
//!  "MXJr"   length   checksum   version   flags   length   id   value
//!  4        4        8          8         1       4
//! ```
//!
//! Numbers are little endian. The length is that of what follows the checksum,
//! which is the xxh3-64 of it, seeded by the segment: a record that was left
//! by an earlier use of the disk, or that lies in another segment's file, is
//! none. Nothing here reads or writes a file. In a stream each group is an
//! entry, seeded by the kind of its values.
//!
//! Records are written in groups, and the first of a group is written after
//! the groups before it are on disk. So what does not read may be torn, and was
//! never acknowledged, only if no first record comes after it.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MARK: [u8; 4] = *b"MXJr";
const HEAD: usize = 4 + 4 + 8;
const FIXED: usize = 8 + 1 + 4;
const ABSENT: u8 = 1;
const FIRST: u8 = 2;

/// The value of an id; `None` says that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) version: u64,
    pub(crate) value: Option<Bytes>,
}

/// What a segment holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) records: Vec<Record>,
    /// How many bytes they are.
    pub(crate) length: usize,
    pub(crate) rest: Rest,
}

/// What comes after the last record that reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    /// The last group, as far as it got.
    Torn,
    /// Something that was acknowledged.
    Damaged,
}

// === impl Record ===

impl Record {
    /// Writes it to the end of `out`.
    fn write(&self, segment: u64, is_first: bool, out: &mut Vec<u8>) {
        let value = self.value.as_deref().unwrap_or_default();
        let length = FIXED + self.id.len() + value.len();
        out.extend(MARK);
        out.extend(len32(length).to_le_bytes());
        let sum = out.len();
        out.extend([0; 8]);
        let body = out.len();
        out.extend(self.version.to_le_bytes());
        let absent = if self.value.is_none() { ABSENT } else { 0 };
        out.push(absent | if is_first { FIRST } else { 0 });
        out.extend(len32(self.id.len()).to_le_bytes());
        out.extend(self.id.as_bytes());
        out.extend(value);
        let checksum = xxh3_64_with_seed(&out[body..], segment).to_le_bytes();
        out[sum..body].copy_from_slice(&checksum);
    }

    /// The record that `bytes` begin with, how long it is, and whether it is
    /// the first of a group. `None` if they begin with no whole one.
    fn read(segment: u64, bytes: &Bytes) -> Option<(Self, usize, bool)> {
        let rest = bytes.strip_prefix(&MARK)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let body = rest.get(..length)?;
        if u64::from_le_bytes(*sum) != xxh3_64_with_seed(body, segment) {
            return None;
        }
        let (version, body) = body.split_first_chunk::<8>()?;
        let (&flags, body) = body.split_first()?;
        let (id, body) = body.split_first_chunk::<4>()?;
        let id = usize::try_from(u32::from_le_bytes(*id)).ok()?;
        let id_text = std::str::from_utf8(body.get(..id)?).ok()?.to_owned();
        let end = HEAD + length;
        let value = match flags & !FIRST {
            0 => Some(bytes.slice(HEAD + FIXED + id..end)),
            ABSENT if body.len() == id => None,
            _ => return None,
        };
        let version = u64::from_le_bytes(*version);
        let record = Self {
            id: id_text,
            version,
            value,
        };
        Some((record, end, flags & FIRST != 0))
    }
}

/// Writes a group of records that goes to disk together.
pub(crate) fn write_group(segment: u64, records: &[Record], out: &mut Vec<u8>) {
    for (at, record) in records.iter().enumerate() {
        record.write(segment, at == 0, out);
    }
}

/// The records that `bytes` begin with.
pub(crate) fn read_all(segment: u64, bytes: &Bytes) -> Contents {
    let (mut records, mut length) = (Vec::new(), 0);
    while let Some((record, its, _)) = Record::read(segment, &bytes.slice(length..)) {
        records.push(record);
        length += its;
    }
    let rest = &bytes[length..];
    let is_first = |at: usize| {
        let record = Record::read(segment, &bytes.slice(length + at..));
        record.is_some_and(|(.., is_first)| is_first)
    };
    let mut marks = rest.windows(MARK.len()).enumerate();
    let rest = if rest.is_empty() {
        Rest::Nothing
    } else if marks.any(|(at, mark)| mark == MARK && is_first(at)) {
        Rest::Damaged
    } else {
        Rest::Torn
    };
    Contents {
        records,
        length,
        rest,
    }
}

fn len32(length: usize) -> u32 {
    u32::try_from(length).expect("what is too large is not let in")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 7;

    fn some() -> Vec<Record> {
        let record = |id: &str, version, value: Option<&[u8]>| Record {
            id: id.to_owned(),
            version,
            value: value.map(Bytes::copy_from_slice),
        };
        vec![
            record("a", 1, Some(b"one")),
            record("", 2, Some(b"")),
            record("käse\n", u64::MAX, None),
            record("b", 4, Some(&[0; 300])),
        ]
    }

    fn written(records: &[Record]) -> Vec<u8> {
        let mut out = Vec::new();
        write_group(SEGMENT, records, &mut out);
        out
    }

    #[test]
    fn records_read_as_written() {
        let read = read_all(SEGMENT, &written(&some()).into());
        assert_eq!((read.records, read.rest), (some(), Rest::Nothing));
    }

    #[test]
    fn tail_torn_at_any_byte_costs_the_records_that_it_tore_and_no_other() {
        let (records, bytes) = (some(), written(&some()));
        let ends: Vec<_> = (0..=records.len())
            .map(|count| written(&records[..count]).len())
            .collect();
        for cut in 0..=bytes.len() {
            // A file may have grown before it was written to.
            for tail in [&[][..], &[0; 64], &[0xff; 64]] {
                let torn = Bytes::from([&bytes[..cut], tail].concat());
                // Zeros may be just what is missing.
                let is_whole = |end: &&usize| torn.starts_with(&bytes[..**end]);
                let whole = ends.iter().filter(is_whole).count() - 1;
                let rest = match torn.len() - ends[whole] {
                    0 => Rest::Nothing,
                    _ => Rest::Torn,
                };
                let expected = Contents {
                    records: records[..whole].to_vec(),
                    length: ends[whole],
                    rest,
                };
                assert_eq!(read_all(SEGMENT, &torn), expected, "cut at {cut}");
            }
        }
    }

    #[test]
    fn byte_that_changed_in_the_last_group_looks_torn_and_before_it_is_damage() {
        let (group, last) = (written(&some()), written(&some()[..2]));
        for at in 0..group.len() + last.len() {
            let mut bad = [&group[..], &last].concat();
            bad[at] ^= 0x10;
            let read = read_all(SEGMENT, &bad.into());
            assert!(read.length <= at, "at {at}");
            let rest = if at < group.len() {
                Rest::Damaged
            } else {
                Rest::Torn
            };
            assert_eq!(read.rest, rest, "at {at}");
        }
    }

    #[test]
    fn later_part_of_a_group_whose_beginning_was_lost_is_torn_too() {
        let (one, all) = (written(&some()[..1]).len(), written(&some()));
        let mut torn = all.clone();
        torn[..one].fill(0);
        let read = read_all(SEGMENT, &torn.into());
        assert_eq!((read.records.len(), read.rest), (0, Rest::Torn));
    }

    #[test]
    fn record_of_another_segment_is_none() {
        let read = read_all(SEGMENT + 1, &written(&some()).into());
        assert_eq!((read.records, read.rest), (vec![], Rest::Torn));
    }
}
