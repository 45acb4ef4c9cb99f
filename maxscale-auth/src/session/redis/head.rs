//! The field `m`, which says of a user's hash what it is.
//!
//! ```text
//!  copy   0 `w` or `p` │ 1 lineage │ 9 since │ 13 changes │ 21 roles
//!  claim  0 `c`        │ 1 lineage │ 9 since │ 13 nonce   │ 29 when, in microseconds
//!                                              │ 37 least, if the copies were told meanwhile
//! ```
//!
//! Numbers have their highest byte first. `since` is the version of the map that put
//! the user's slot on this server. What is stored under a claim knows of the change
//! `least`. Roles of up to 43 bytes keep it within the 64
//! that Redis packs.

use crate::session::durable::Snapshot;
use crate::session::record::{Roles, Standing};

/// All of the user's sessions are in the hash.
const WHOLE: u8 = b'w';
/// Some are, because they are too many.
const PART: u8 = b'p';
const CHANGES: usize = 13;
const ROLES: usize = 21;

/// What a hash is a copy of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) standing: Standing,
    /// Whether a session that is not there is over.
    pub(super) whole: bool,
}

/// Reads the field, if it is of a copy that the server of this lineage vouches for.
pub(super) fn read(bytes: &[u8], lineage: u64, since: u32) -> Option<Head> {
    let (head, roles) = bytes.split_at_checked(ROLES)?;
    let whole = match head[0] {
        WHOLE => true,
        PART => false,
        _ => return None,
    };
    let vouched = head[1..9] == lineage.to_be_bytes() && head[9..CHANGES] == since.to_be_bytes();
    let standing = Standing {
        roles: Roles::of(std::str::from_utf8(roles).ok()?),
        changes: u64::from_be_bytes(head[CHANGES..].try_into().ok()?),
    };
    vouched.then_some(Head { standing, whole })
}

/// The state of a copy, and what follows `since`.
pub(super) fn of(snapshot: &Snapshot, whole: bool) -> ([u8; 1], Vec<u8>) {
    let Standing { roles, changes } = &snapshot.standing;
    let rest = [changes.to_be_bytes().as_slice(), roles.text().as_bytes()].concat();
    ([if whole { WHOLE } else { PART }], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAGE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn snapshot() -> Snapshot {
        let standing = Standing {
            roles: Roles::of("admin reader"),
            changes: 0x0102,
        };
        Snapshot {
            standing,
            ..Snapshot::default()
        }
    }

    /// As the script puts it together.
    fn head(whole: bool, since: u32) -> Vec<u8> {
        let (state, rest) = of(&snapshot(), whole);
        [&state[..], &LINEAGE, &since.to_be_bytes(), &rest].concat()
    }

    #[test]
    fn bytes_are_fixed_for_ever() {
        let mut expected = b"w\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\x07".to_vec();
        expected.extend(b"\0\0\0\0\0\0\x01\x02admin reader");
        assert_eq!(head(true, 7), expected);
        assert_eq!(head(false, 7)[0], b'p');
    }

    #[test]
    fn copy_counts_where_it_was_made_only() {
        let lineage = u64::from_be_bytes(LINEAGE);
        for whole in [true, false] {
            let standing = snapshot().standing;
            let expected = Head { standing, whole };
            assert_eq!(read(&head(whole, 7), lineage, 7), Some(expected));
        }
        let copy = head(true, 7);
        assert_eq!(read(&copy, lineage + 1, 7), None, "another server");
        assert_eq!(read(&copy, lineage, 8), None, "another map");
        assert_eq!(read(&copy[..20], lineage, 7), None, "cut short");
        let claim = [b"c", &copy[1..]].concat();
        assert_eq!(read(&claim, lineage, 7), None);
        let no_text = [&copy, &b"\xff"[..]].concat();
        assert_eq!(read(&no_text, lineage, 7), None);
    }
}
