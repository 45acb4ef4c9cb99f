//! What the scripts of a stream answer.

use bytes::Bytes;
use maxscale_core::redis::Reply;

/// What KEEP says.
pub(super) struct Said {
    pub(super) state: i64,
    pub(super) now: u64,
    pub(super) confirmed: u32,
}

/// State, the server's time, and the last number, as TAKE tells them.
pub(super) fn taken(reply: Reply) -> Option<(i64, u64, u64)> {
    let [state, now, last] = <[Reply; 3]>::try_from(reply.into_array()?).ok()?;
    Some((state.as_int()?, digits(now)?, digits(last)?))
}

/// As KEEP tells it, and WAIT if one `waited`.
pub(super) fn said(reply: Reply, waited: bool) -> Option<Said> {
    let (reply, replicas) = if waited {
        let [reply, replicas] = <[Reply; 2]>::try_from(reply.into_array()?).ok()?;
        (reply, replicas.as_int())
    } else {
        (reply, None)
    };
    let [state, now] = <[Reply; 2]>::try_from(reply.into_array()?).ok()?;
    Some(Said {
        state: state.as_int()?,
        now: digits(now)?,
        // No answer confirms none.
        confirmed: u32::try_from(replicas.unwrap_or(0)).ok()?,
    })
}

/// Id, number and text of an entry.
pub(super) fn read(entry: Reply) -> Option<(String, u64, Bytes)> {
    let [id, fields] = <[Reply; 2]>::try_from(entry.into_array()?).ok()?;
    let id = String::from_utf8(id.into_bytes()?.into()).ok()?;
    let number = id.split_once('-')?.0.parse().ok()?;
    let [_, bytes] = <[Reply; 2]>::try_from(fields.into_array()?).ok()?;
    Some((id, number, bytes.into_bytes()?))
}

fn digits(reply: Reply) -> Option<u64> {
    std::str::from_utf8(&reply.into_bytes()?).ok()?.parse().ok()
}
