//! A session that ends for another one, which goes on in its place.

use std::num::NonZeroU32;

use maxscale_core::id::Id;
use maxscale_shard::ShardError;

use super::{SqlSessions, changed};
use crate::session::record::Standing;
use crate::session::store::{Created, NewSession, Which, Why};

/// What came of it.
pub(in crate::session) enum Succeeded {
    /// The old one is over, or has another secret by now.
    Over,
    /// What the user's sessions share, and what became of the new one.
    By(Standing, Created),
}

impl SqlSessions {
    /// Ends the user's session `old`, if it lives and has this version, and begins `new`, as
    /// [`create`](super::SessionStore::create) does: both, or nothing.
    pub(in crate::session) async fn succeed(
        &self,
        old: (Id, u32),
        new: &NewSession<'_>,
        most: NonZeroU32,
    ) -> Result<Succeeded, ShardError> {
        let ((id, version), user) = (old, new.session.user);
        let shard = self.router.shard(user)?;
        let mut tx = shard.begin().await?;
        // From here on nobody else changes the user's sessions: who ends all of them has
        // done so, and it is seen, or ends the new one too.
        changed(&mut tx, &shard, user).await?;
        let found = self.living_in(&mut tx, user, id).await?;
        let found = found.filter(|(it, _)| it.version == version);
        let Some((_, standing)) = found else {
            tx.rollback().await?;
            return Ok(Succeeded::Over);
        };
        let (which, why) = (Which::One(id), Why::LoggedOut);
        self.revoke_in(&mut tx, user, which, why).await?;
        let created = self.create_in(&mut tx, new, most).await?;
        match &created {
            Created::Stored { .. } => tx.commit().await.map(drop)?,
            Created::Exists => tx.rollback().await?,
        }
        Ok(Succeeded::By(standing, created))
    }
}
