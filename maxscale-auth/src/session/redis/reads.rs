//! Reads of sessions: alone by an HMGET, and those of several callers by one script.

use bytes::Bytes;
use maxscale_core::id::Id;
use maxscale_core::redis::{Command, JointRead, JointReads, Lineage, Redis, Reply, Script};

use super::packed::field;

static READ: Script = Script::new(include_str!("read.lua"));

/// Of a user's hash: `m`, the record, the secret before, and who acts; and the lineage
/// of the server that said so. `None` if it did not.
pub(super) type Read = Option<([Reply; 4], Lineage)>;

/// A session, and the hash that it is in.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) key: Bytes,
    pub(super) session: Id,
}

/// Reads from one server.
#[derive(Debug)]
pub(super) struct Reads(JointReads<Hashes>);

/// The hashes of a server.
#[derive(Debug)]
struct Hashes(Redis);

// === impl Reads ===

impl Reads {
    pub(super) fn new(redis: &Redis) -> Self {
        Self(JointReads::new(redis, Hashes(redis.clone())))
    }

    pub(super) async fn one(&self, wanted: Wanted) -> Read {
        self.0.one(wanted).await.flatten()
    }
}

// === impl Hashes ===

impl JointRead for Hashes {
    type Question = Wanted;
    type Answer = Read;

    async fn alone(&self, Wanted { key, session }: Wanted) -> Read {
        let get = Command::new("HMGET").key(key).arg("m").args([
            session.as_uuid().into_bytes().to_vec(),
            field(b'o', session),
            field(b'a', session),
        ]);
        let (reply, lineage) = self.0.command_from(get).await.ok()?;
        four(&mut reply.into_array()?.into_iter(), lineage)
    }

    async fn together(&self, wanted: Vec<Wanted>) -> Vec<Read> {
        let mut call = READ.call();
        for Wanted { key, session } in &wanted {
            call = call
                .key(key.clone())
                .arg(Bytes::copy_from_slice(session.as_uuid().as_bytes()));
        }
        let Ok((reply, lineage)) = self.0.script_from(call).await else {
            return Vec::new();
        };
        let mut values = reply.into_array().unwrap_or_default().into_iter();
        wanted.iter().map(|_| four(&mut values, lineage)).collect()
    }
}

/// The next four values.
fn four(values: &mut impl Iterator<Item = Reply>, lineage: Lineage) -> Read {
    let four = [
        values.next()?,
        values.next()?,
        values.next()?,
        values.next()?,
    ];
    Some((four, lineage))
}
