//! Names of cached values, safe for ids that someone else chose.
//!
//! A value's key is `{prefix}:{kind}:{id}:{version}`. In kind and id, and but
//! for `:` in the prefix, every byte outside `A-Z a-z 0-9 _ . @ -` is written
//! as `%XX`, so that no id can reach into another part, name a cluster slot
//! with braces or break a line. What would be longer than [`MAX_PART`] is
//! written as `~` and the SHA-256 of the part in hex: `~` occurs nowhere else,
//! and nobody can choose two ids with one hash.

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The longest that a kind or id is written out.
const MAX_PART: usize = 200;

/// Writes `part` (a kind or an id) to the end of `out`.
pub(crate) fn push_part(out: &mut String, part: &str) {
    let start = out.len();
    for byte in part.bytes() {
        push_byte(out, byte);
        if out.len() - start > MAX_PART {
            out.truncate(start);
            return push_hash(out, part);
        }
    }
}

/// A kind or an id as keys contain it.
pub(crate) fn part(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_part(&mut out, text);
    out
}

/// As [`part`], without a copy of what is safe already.
#[inline]
pub(crate) fn part_of(text: &str) -> Cow<'_, str> {
    // To the end and without a branch per byte: almost all are safe, and every read of
    // L1 comes here.
    let is_safe = |text: &str| {
        let each = text.bytes().map(|byte| SAFE[usize::from(byte)]);
        each.fold(true, |all, safe| all & safe)
    };
    if text.len() <= MAX_PART && is_safe(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(part(text))
}

/// The prefix as keys contain it: like a part, but `:` stays.
pub(crate) fn prefix(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b':' => out.push(':'),
            _ => push_byte(&mut out, byte),
        }
    }
    out
}

/// The key of a value whose kind and id are written as parts already.
pub(crate) fn of_parts(prefix: &str, kind: &str, id: &str, version: u32) -> String {
    format!("{prefix}:{kind}:{id}:{version}")
}

/// The key of a tag's fence. `!` is in no kind.
pub(crate) fn of_tag(prefix: &str, kind: &str, tag: &str) -> String {
    format!("{prefix}:!tag:{kind}:{tag}")
}

/// The key of the fence that moves before any tag of a kind does. `!` is in no kind.
pub(crate) fn of_any_tag(prefix: &str, kind: &str) -> String {
    format!("{prefix}:!tags:{kind}")
}

/// The key of the fence of all values of a kind.
pub(crate) fn of_all(prefix: &str, kind: &str) -> String {
    format!("{prefix}:!all:{kind}")
}

/// The key of a stream of values that are not written yet. The braces let
/// others be in its slot.
#[cfg(feature = "redis")]
pub(crate) fn of_behind(prefix: &str, kind: &str, name: &str) -> String {
    format!("{{{prefix}:!behind:{kind}:{}}}", part(name))
}

fn push_byte(out: &mut String, byte: u8) {
    if is_safe(byte) {
        out.push(char::from(byte));
    } else {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        out.push('%');
        for four in [byte >> 4, byte & 0xf] {
            out.push(char::from(DIGITS[usize::from(four)]));
        }
    }
}

/// [`is_safe`] of each byte: each read of a cache asks for a whole id.
static SAFE: [bool; 256] = {
    let mut safe = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        safe[byte as usize] = is_safe(byte);
        byte += 1;
    }
    safe
};

const fn is_safe(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'@' | b'-')
}

fn push_hash(out: &mut String, part: &str) {
    out.push('~');
    for byte in Sha256::digest(part) {
        let _ = write!(out, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_ids_stay_inside_their_part() {
        let hostile = ["a:b", "{x}", "a\nb\r\0", "ü %", "~", "a%3Ab", ""];
        let parts = hostile.map(part);
        assert_eq!(
            parts,
            [
                "a%3Ab",
                "%7Bx%7D",
                "a%0Ab%0D%00",
                "%C3%BC%20%25",
                "%7E",
                "a%253Ab",
                ""
            ]
        );
    }

    #[test]
    fn long_ids_are_hashed_whole() {
        let long = "x".repeat(10_000);
        let other = format!("{}y", &long[..9_999]);
        assert_eq!(part(&long).len(), 65);
        assert!(part(&long).starts_with('~'));
        assert_ne!(part(&long), part(&other));
        assert_eq!(part(&"x".repeat(MAX_PART)), "x".repeat(MAX_PART));
    }
}
