//! How a connection to a server is made: with a wish that not every server knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Error};

use super::url::Pooler;
use crate::database::DatabaseOptions;
use crate::sql::Sql;

/// A statement whose client has gone ends within a second, not with its limit.
/// PostgreSQL knows this from 14 on, and not on every system.
const LOOKS_FOR_CLIENT: (&str, &str) = ("client_connection_check_interval", "1000");

/// The same for one transaction, for who has no session; nothing where it is unknown.
pub(crate) const LOOK_FOR_CLIENT: Sql = Sql::both(
    "SELECT set_config('client_connection_check_interval', '1000', true)
     WHERE current_setting('client_connection_check_interval', true) IS NOT NULL",
);

/// Makes connections to one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    plain: PgConnectOptions,
    /// The same with the wish.
    wishing: Option<PgConnectOptions>,
    /// The server refuses whoever has the wish.
    refused: AtomicBool,
}

// === impl Connector ===

impl Connector {
    /// Connects as the URL said, with the limits of `options` where a session keeps them.
    pub(super) fn new(
        connect: PgConnectOptions,
        pooler: Pooler,
        options: &DatabaseOptions,
    ) -> Self {
        match pooler {
            Pooler::None => {
                Self::wishing(connect.options(super::limits(options)), LOOKS_FOR_CLIENT)
            }
            // What a client wants at the start of its session, a pooler cannot give.
            Pooler::Prepared | Pooler::Unprepared => Self(Arc::new(Inner {
                plain: connect,
                wishing: None,
                refused: AtomicBool::new(false),
            })),
        }
    }

    fn wishing(plain: PgConnectOptions, wish: (&str, &str)) -> Self {
        Self(Arc::new(Inner {
            wishing: Some(plain.clone().options([wish])),
            plain,
            refused: AtomicBool::new(false),
        }))
    }

    /// Connects.
    pub(super) async fn connect(&self) -> Result<PgConnection, Error> {
        self.with(|options| async move { options.connect().await })
            .await
    }

    /// Has `make` connect, and once more without the wish where the server refuses
    /// that; then nobody has it any more.
    pub(super) async fn with<T, F>(&self, make: impl Fn(PgConnectOptions) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let Inner { plain, refused, .. } = &*self.0;
        let wishing = self.0.wishing.as_ref();
        let Some(wishing) = wishing.filter(|_| !refused.load(Ordering::Relaxed)) else {
            return make(plain.clone()).await;
        };
        match make(wishing.clone()).await {
            Err(Error::Database(error)) if is_refusal(error.code().as_deref()) => {
                // What the URL asks for may be what was refused: then this is, too.
                let made = make(plain.clone()).await?;
                refused.store(true, Ordering::Relaxed);
                tracing::debug!(%error, "connected without looking for the client");
                Ok(made)
            }
            made => made,
        }
    }
}

/// Whether a setting is unknown to the server, or not for it to change.
fn is_refusal(code: Option<&str>) -> bool {
    matches!(code, Some("42704" | "22023" | "0A000" | "55P02"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use maxscale_tests::{PostgresServer, Proxy};
    use sqlx::Row as _;

    use super::super::{Budget, Pool, check, url};
    use super::*;
    use crate::database::Lane;
    use crate::database::pulse::Pulse;
    use crate::router::Seen;

    const LIMIT: Duration = Duration::from_secs(10);

    /// What every server says to who wishes this, an old one says of ours.
    const UNKNOWN: (&str, &str) = ("no_such_setting", "1");

    fn connector(url: &str, wish: (&str, &str)) -> Connector {
        let options = DatabaseOptions::default();
        let (connect, _) = url::connect_options(url).unwrap();
        Connector::wishing(connect.options(super::super::limits(&options)), wish)
    }

    fn pool(connector: Connector) -> Pool {
        let options = DatabaseOptions::default();
        let pulse = Pulse::new("test".into(), check::of(connector.clone(), LIMIT));
        let budget = Budget::new(options.budget);
        Pool::new(connector, Pooler::None, &options, budget, pulse)
    }

    #[tokio::test]
    async fn server_that_does_not_know_the_wish_is_connected_to_without_it() {
        let server = PostgresServer::shared().await;
        let proxy = Proxy::start(server.url()).await;
        let new = || pool(connector(&proxy.url(), UNKNOWN));

        new().reach().await.unwrap();
        let look = new().lookout(LIMIT).look().await;
        assert!(matches!(look.seen, Seen::Writable { .. }), "{look:?}");
        new().announcements("test").await.unwrap().unwrap();
        let check = check::of(connector(&proxy.url(), UNKNOWN), LIMIT);
        assert_eq!(check().await, None);

        let pool = new();
        let mut conn = pool.acquire(Lane::Requests).await.unwrap();
        let limit = sqlx::raw_sql("SHOW statement_timeout").fetch_one(&mut *conn);
        assert_eq!(limit.await.unwrap().get::<String, _>(0), "5s");
    }

    #[tokio::test]
    async fn refusal_is_met_once() {
        let server = PostgresServer::shared().await;
        let proxy = Proxy::start(server.url()).await;
        let connector = connector(&proxy.url(), UNKNOWN);
        for expected in [2, 3, 4] {
            connector.connect().await.unwrap();
            assert_eq!(proxy.connections(), expected);
        }
    }

    #[tokio::test]
    async fn server_that_knows_the_wish_grants_it() {
        let server = PostgresServer::shared().await;
        let mut conn = connector(&server.url(), LOOKS_FOR_CLIENT)
            .connect()
            .await
            .unwrap();
        let granted = sqlx::raw_sql("SHOW client_connection_check_interval").fetch_one(&mut conn);
        assert_eq!(granted.await.unwrap().get::<String, _>(0), "1s");
    }

    #[tokio::test]
    async fn refusal_of_what_the_url_asks_for_is_told_and_not_remembered() {
        let server = PostgresServer::shared().await;
        let (connect, _) = url::connect_options(&server.url()).unwrap();
        let connector = Connector::wishing(connect.options([UNKNOWN]), LOOKS_FOR_CLIENT);
        let refused = connector.connect().await.unwrap_err();
        assert!(refused.to_string().contains("no_such_setting"), "{refused}");
        assert!(!connector.0.refused.load(Ordering::Relaxed));
    }
}
