//! What a server announces on a channel.

use sqlx::Error;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::connect::Connector;

/// Announcements on one channel, on a connection of its own outside any budget.
#[derive(Debug)]
pub(crate) struct Announcements(PgListener);

// === impl Announcements ===

impl Announcements {
    pub(super) async fn on(channel: &str, connect: &Connector) -> Result<Self, Error> {
        let mut listener = connect.with(listener).await?;
        listener.eager_reconnect(false);
        listener.listen(channel).await?;
        Ok(Self(listener))
    }

    /// Waits for the next announcement. After an error, and that is also where
    /// some may have been missed, nothing comes any more.
    pub(crate) async fn next(&mut self) -> Result<(), Error> {
        match self.0.try_recv().await? {
            Some(_) => Ok(()),
            None => Err(Error::WorkerCrashed),
        }
    }
}

/// The listener takes its connection out of a pool, and only so.
async fn listener(connect: PgConnectOptions) -> Result<PgListener, Error> {
    let pool = PgPoolOptions::new().max_connections(1);
    PgListener::connect_with(&pool.connect_lazy_with(connect)).await
}
