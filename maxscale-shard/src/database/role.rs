//! What a server is for its node, as far as a database has a part in that.

#[cfg(feature = "postgres")]
use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::time::Duration;

use tokio::time::timeout;

use super::Database;
#[cfg(feature = "postgres")]
use super::Pool;
use crate::router::WritesRefused;

impl Database {
    /// Why nothing is written to it, if nothing is. A node of several servers is
    /// looked at first, for as long as a look takes.
    pub(super) async fn refuses_writes(&self) -> Option<WritesRefused> {
        let pulse = self.pulse()?;
        if pulse.refuses_writes()? == WritesRefused::Unseen {
            // A look ends in a time of its own; this is for one that never began.
            let _ = timeout(self.options.check_timeout * 2, pulse.seen()).await;
        }
        pulse.refuses_writes()
    }
}

#[cfg(feature = "postgres")]
impl Database {
    /// Refuses writes from now on, or takes them.
    pub(crate) fn refuse_writes(&self, why: Option<WritesRefused>) {
        if let Some(pulse) = self.pulse() {
            pulse.refuse_writes(why);
        }
    }

    /// How many connections for requests are in use.
    pub(crate) fn in_use(&self) -> usize {
        usize::try_from(self.pool.usage(0).used).unwrap_or(usize::MAX)
    }

    /// Told when the server took no write, or is suspect.
    pub(crate) fn role_doubted(&self) -> Option<Arc<tokio::sync::Notify>> {
        self.pulse().map(|pulse| pulse.role_doubted().clone())
    }

    /// Asks the server whether it takes writes; a file is not asked.
    pub(crate) fn lookout(&self) -> Option<crate::engine::postgres::Lookout> {
        match &self.pool {
            Pool::Postgres(pool) => Some(pool.lookout(self.options.check_timeout)),
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => None,
            Pool::Never(never) => crate::engine::never(never),
        }
    }

    pub(crate) const fn check_every(&self) -> Duration {
        self.options.check_every
    }
}
