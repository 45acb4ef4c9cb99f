//! The field `m`, which says of a user's hash what it is.
//!
//! ```text
//!  copy   0 `w` or `p` │ 1 lineage │ 9 since │ 13 changes │ 21 roles
//!  claim  0 `c`        │ 1 lineage │ 9 since │ 13 nonce   │ 29 when, in microseconds
//! ```
//!
//! Numbers have their highest byte first. `since` is the version of the map that put
//! the user's slot on this server. Roles of up to 43 bytes keep it within the 64
//! that Redis packs.

use maxscale_core::redis::Lineage;

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
pub(super) fn read(bytes: &[u8], lineage: Lineage, since: u32) -> Option<Head> {
    let (head, roles) = bytes.split_at_checked(ROLES)?;
    let whole = match head[0] {
        WHOLE => true,
        PART => false,
        _ => return None,
    };
    let vouched =
        head[1..9] == lineage.get().to_be_bytes() && head[9..CHANGES] == since.to_be_bytes();
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
