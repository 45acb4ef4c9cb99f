use std::fmt;
use std::str::FromStr;

use maxscale_core::keys::{KeyError, OpenError};
use uuid::Uuid;

use super::Listing;
use crate::sql::Value;

/// A place in a [`Listing`], sealed: whoever holds it learns nothing of the row
/// and can make no other.
///
/// Its text is hexadecimal, fit for a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor(Vec<u8>);

/// What is no cursor, or not one of this listing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The text is not hexadecimal, or too long.
    #[error("not the text of a cursor")]
    Text,

    /// It was changed, or made for another listing or by other keys.
    #[error("the cursor does not open")]
    Foreign(#[source] OpenError),

    /// It holds what this version does not read.
    #[error("the cursor is of another version")]
    Version,

    /// The columns that decide a row's place are longer than a cursor may be.
    #[error("the row's place has {0} bytes, more than {most}", most = Cursor::MOST_BYTES)]
    Long(usize),

    /// The keys could not be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

const PURPOSE: &str = "maxscale.shard.cursor";
const VERSION: u8 = 1;

// === impl Cursor ===

impl Cursor {
    /// The longest cursor, sealed; its text is twice as long.
    pub const MOST_BYTES: usize = 2_048;

    /// The place of the row with these values.
    pub(super) fn seal(listing: &Listing, values: &[Value]) -> Result<Self, CursorError> {
        let mut plain = vec![VERSION];
        for value in values {
            write(value, &mut plain);
        }
        let sealed = (listing.keys.ring()).seal(PURPOSE, &listing.identity(), &plain)?;
        if sealed.len() > Self::MOST_BYTES {
            return Err(CursorError::Long(sealed.len()));
        }
        Ok(Self(sealed))
    }

    /// The values of the row that it names.
    pub(super) fn open(&self, listing: &Listing) -> Result<Vec<Value>, CursorError> {
        let ring = listing.keys.ring();
        let plain = ring.open(PURPOSE, &listing.identity(), &self.0);
        let plain = plain.map_err(CursorError::Foreign)?;
        let values = match plain.split_first() {
            Some((&VERSION, rest)) => read_all(rest),
            _ => None,
        };
        let values = values.filter(|values| listing.order.suits(values));
        values.ok_or(CursorError::Version)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({self})")
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    /// Reads the text of a cursor; whether it belongs to a listing, that says.
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(CursorError::Text);
        };
        if !(1..=Self::MOST_BYTES).contains(&pairs.len()) {
            return Err(CursorError::Text);
        }
        let bytes = pairs
            .iter()
            .map(|[a, b]| Some(digit(*a)? << 4 | digit(*b)?));
        let bytes: Option<Vec<u8>> = bytes.collect();
        bytes.map(Self).ok_or(CursorError::Text)
    }
}

// === impl Listing ===

impl Listing {
    /// What a cursor is bound to.
    fn identity(&self) -> Vec<u8> {
        // No order has a line feed in its text.
        format!("{}\n{}", self.order.identity(), self.name).into_bytes()
    }
}

// Fixed for ever, as cursors live in the pages of readers: a kind, then the value.
fn write(value: &Value, plain: &mut Vec<u8>) {
    let long = |kind: u8, bytes: &[u8], plain: &mut Vec<u8>| {
        plain.push(kind);
        plain.extend((bytes.len() as u64).to_be_bytes());
        plain.extend(bytes);
    };
    match value {
        Value::I64(Some(number)) => {
            plain.push(b'i');
            plain.extend(number.to_be_bytes());
        }
        Value::Uuid(Some(uuid)) => {
            plain.push(b'u');
            plain.extend(uuid.as_bytes());
        }
        Value::Bool(Some(bool)) => plain.extend([b'b', u8::from(*bool)]),
        Value::Text(Some(text)) => long(b't', text.as_bytes(), plain),
        Value::Bytes(Some(bytes)) => long(b'y', bytes, plain),
        Value::I64(None) => plain.push(b'I'),
        Value::Uuid(None) => plain.push(b'U'),
        Value::Bool(None) => plain.push(b'B'),
        Value::Text(None) => plain.push(b'T'),
        Value::Bytes(None) => plain.push(b'Y'),
        // No order is by any of these.
        Value::F64(_) | Value::Ints(_) => plain.push(b'?'),
    }
}

fn read_all(mut rest: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while !rest.is_empty() {
        values.push(read(&mut rest)?);
    }
    Some(values)
}

fn read(rest: &mut &[u8]) -> Option<Value> {
    fn take<'b>(rest: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
        let (taken, left) = rest.split_at_checked(count)?;
        *rest = left;
        Some(taken)
    }
    fn fixed<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        take(rest, N)?.try_into().ok()
    }
    fn long(rest: &mut &[u8]) -> Option<Vec<u8>> {
        let count = u64::from_be_bytes(fixed(rest)?);
        Some(take(rest, usize::try_from(count).ok()?)?.to_vec())
    }
    Some(match take(rest, 1)?[0] {
        b'i' => Value::I64(Some(i64::from_be_bytes(fixed(rest)?))),
        b'u' => Value::Uuid(Some(Uuid::from_bytes(fixed(rest)?))),
        b'b' => Value::Bool(Some(take(rest, 1)?[0] != 0)),
        b't' => Value::Text(Some(String::from_utf8(long(rest)?).ok()?)),
        b'y' => Value::Bytes(Some(long(rest)?)),
        b'I' => Value::I64(None),
        b'U' => Value::Uuid(None),
        b'B' => Value::Bool(None),
        b'T' => Value::Text(None),
        b'Y' => Value::Bytes(None),
        _ => return None,
    })
}
