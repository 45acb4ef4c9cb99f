//! Reads of sessions: an HMGET each, and those of several callers in one go.

use bytes::Bytes;
use maxscale_core::id::Id;
use maxscale_core::redis::{Command, JointRead, JointReads, Lineage, Redis, Reply};

use super::packed::field;

/// Fields of a user's hash.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) head: Option<Bytes>,
    pub(super) record: Option<Bytes>,
    /// The secret before, if it was asked for.
    pub(super) previous: Option<Bytes>,
    /// Who acts, if that was asked for.
    pub(super) actor: Option<Bytes>,
    /// Of the server that said so.
    pub(super) lineage: Lineage,
}

/// A session, and the hash that it is in.
#[derive(Clone, Debug)]
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

    /// The head and the record; `None` if the server did not answer.
    pub(super) async fn one(&self, wanted: Wanted) -> Option<Read> {
        self.0.one(wanted).await.flatten()
    }

    /// These and what lies beside the record.
    pub(super) async fn all(&self, wanted: Wanted) -> Option<Read> {
        let session = wanted.session;
        let more = [field(b'o', session), field(b'a', session)];
        let get = get(wanted).args(more);
        read(self.0.reader().0.command_from(get).await.ok()?)
    }
}

// === impl Hashes ===

impl JointRead for Hashes {
    type Question = Wanted;
    type Answer = Option<Read>;

    async fn alone(&self, wanted: Wanted) -> Option<Read> {
        read(self.0.command_from(get(wanted)).await.ok()?)
    }

    async fn together(&self, wanted: Vec<Wanted>) -> Vec<Option<Read>> {
        let gets = wanted.into_iter().map(get).collect();
        let replies = self.0.read_all_from(gets).await;
        replies.into_iter().map(|it| read(it.ok()?)).collect()
    }
}

fn get(Wanted { key, session }: Wanted) -> Command {
    let session = Bytes::copy_from_slice(session.as_uuid().as_bytes());
    let get = Command::new("HMGET").key(key);
    get.args([Bytes::from_static(b"m"), session])
}

fn read((reply, lineage): (Reply, Lineage)) -> Option<Read> {
    let mut values = reply.into_array()?.into_iter().map(Reply::into_bytes);
    Some(Read {
        head: values.next()?,
        record: values.next()?,
        previous: values.next().flatten(),
        actor: values.next().flatten(),
        lineage,
    })
}
