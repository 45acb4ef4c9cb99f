//! Marks in Redis: a hash for each kind, of few entries.

use std::time::Duration;

use bytes::Bytes;

use super::RedisLimits;
use crate::limit::marks::{MOST, Stored};
use crate::redis::{Command, RedisError, Reply, Script};

static MARK: Script = Script::new(include_str!("mark.lua"));
static MARKS: Script = Script::new(include_str!("marks.lua"));

/// Ten years, which the server takes as a time of expiry.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);

// === impl RedisLimits ===

impl RedisLimits {
    /// Marks a principal for so long, or for no time not any more. False where
    /// there are too many.
    pub(in crate::limit) async fn put_mark(
        &self,
        kind: &str,
        about: &str,
        tag: u128,
        time: Duration,
        text: &str,
    ) -> Result<bool, RedisError> {
        let millis = time.min(LONGEST).as_millis();
        let millis = i64::try_from(millis).unwrap_or(i64::MAX);
        let most = i64::try_from(MOST).unwrap_or(i64::MAX);
        let call = MARK.call().key(self.marks_key(kind));
        let call = call.arg(format!("{about}:{tag:032x}")).arg(millis);
        // The same mark twice is one.
        let call = call.arg(text).arg(most).attempts(2);
        let fits = self.redis.script(call).await?.as_int();
        let fits = fits.ok_or(RedisError::Reply { command: "EVALSHA" })?;
        Ok(fits == 1)
    }

    /// Tells whether marks have changed; none if there are none.
    pub(in crate::limit) async fn marks_version(
        &self,
        kind: &str,
    ) -> Result<Option<Bytes>, RedisError> {
        let version = Command::new("HGET").key(self.marks_key(kind));
        Ok(self
            .redis
            .command(version.arg("version"))
            .await?
            .into_bytes())
    }

    /// All marks of a kind.
    pub(in crate::limit) async fn marks(&self, kind: &str) -> Result<Vec<Stored>, RedisError> {
        let reply = self
            .redis
            .script(MARKS.call().key(self.marks_key(kind)))
            .await?;
        let parts = reply.into_array();
        let parts = parts.ok_or(RedisError::Reply { command: "EVALSHA" })?;
        // What does not read like a mark is somebody else's.
        Ok(parts.chunks_exact(3).filter_map(stored).collect())
    }

    fn marks_key(&self, kind: &str) -> String {
        format!("{}limit:1:{kind}", self.prefix)
    }
}

fn stored(parts: &[Reply]) -> Option<Stored> {
    let [Reply::Bytes(name), Reply::Int(left), Reply::Bytes(text)] = parts else {
        return None;
    };
    let (about, tag) = str::from_utf8(name).ok()?.rsplit_once(':')?;
    Some(Stored {
        about: about.into(),
        tag: u128::from_str_radix(tag, 16).ok()?,
        left: Duration::from_millis(u64::try_from(*left).ok()?),
        text: str::from_utf8(text).ok()?.into(),
    })
}
