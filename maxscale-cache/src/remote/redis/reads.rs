//! Reads of records: alone by a GET, and those of several callers by one MGET.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use maxscale_core::redis::{Command, JointRead, JointReads, Lineage, Redis, RedisError, Reply};

use crate::remote::RemoteError;

/// What is under a key, and the lineage of the server that said so.
pub(super) type Read = Result<Option<(Bytes, Lineage)>, RemoteError>;

#[derive(Debug)]
pub(super) struct Reads(JointReads<Records>);

/// The records of a server.
#[derive(Debug)]
struct Records(Redis);

// === impl Reads ===

impl Reads {
    pub(super) fn new(redis: &Redis) -> Self {
        Self(JointReads::new(redis, Records(redis.clone())))
    }

    pub(super) async fn one(&self, key: &str) -> Read {
        let read = self.0.one(Bytes::copy_from_slice(key.as_bytes())).await;
        read.unwrap_or_else(|| Err(RemoteError::Unconfirmed(RedisError::Down.into())))
    }

    /// Of several keys, in their order.
    pub(super) async fn many(&self, keys: &[Arc<str>]) -> Vec<Read> {
        let records = self.0.reader();
        let keys = keys.iter().map(|it| Bytes::copy_from_slice(it.as_bytes()));
        if !records.0.is_one_place() {
            return join_all(keys.map(|key| records.alone(key))).await;
        }
        let keys: Vec<Bytes> = keys.collect();
        let parts = keys.chunks(Records::MOST);
        let parts = parts.map(|part| records.together(part.to_vec()));
        join_all(parts).await.into_iter().flatten().collect()
    }
}

// === impl Records ===

impl JointRead for Records {
    type Question = Bytes;
    type Answer = Read;

    async fn alone(&self, key: Bytes) -> Read {
        match self.0.command_from(Command::new("GET").key(key)).await {
            Ok((reply, lineage)) => Ok(reply.into_bytes().map(|it| (it, lineage))),
            // A key of another type is somebody else's, and soon replaced.
            Err(RedisError::Server { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// By one command, to which a key of another type has no value.
    async fn together(&self, keys: Vec<Bytes>) -> Vec<Read> {
        let count = keys.len();
        let get = keys.into_iter().fold(Command::new("MGET"), Command::key);
        let (replies, lineage) = match self.0.command_from(get).await {
            Ok((reply, lineage)) => (reply.into_array().unwrap_or_default(), lineage),
            Err(error) => return shared(error, count),
        };
        if replies.len() != count {
            return shared(RedisError::Reply { command: "MGET" }, count);
        }
        let values = replies.into_iter().map(Reply::into_bytes);
        values
            .map(|value| Ok(value.map(|it| (it, lineage))))
            .collect()
    }
}

/// The same error for each.
fn shared(error: RedisError, count: usize) -> Vec<Read> {
    let error = Arc::new(error);
    let each = || match *error {
        RedisError::Timeout { .. } => RemoteError::TimedOut,
        _ => RemoteError::Unconfirmed(error.clone().into()),
    };
    (0..count).map(|_| Err(each())).collect()
}
