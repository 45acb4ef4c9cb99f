use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::RegionId;
use maxscale_core::meter::Meter;

use super::{Database, DatabaseOptions, Lane, Pool};
use crate::error::ShardError;
use crate::telemetry::{Counts, LoadOptions, Telemetry};

/// What the databases of one process share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Opener {
    options: DatabaseOptions,
    here: Option<RegionId>,
    meter: Option<Meter>,
    load: Option<LoadOptions>,
    #[cfg(feature = "postgres")]
    budget: crate::engine::postgres::Budget,
}

/// How much later than the server's own limit a statement is given up.
const GRACE: Duration = Duration::from_secs(1);

// === impl Opener ===

impl Opener {
    pub(crate) fn new(options: DatabaseOptions) -> Self {
        Self {
            options,
            here: None,
            meter: None,
            load: None,
            #[cfg(feature = "postgres")]
            budget: crate::engine::postgres::Budget::new(options.budget),
        }
    }

    /// Opens for a process that stands in `region`.
    pub(crate) fn standing(mut self, region: Option<RegionId>) -> Self {
        self.here = region;
        self
    }

    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "only PostgreSQL has replicas")
    )]
    pub(crate) const fn here(&self) -> Option<&RegionId> {
        self.here.as_ref()
    }

    /// Measures what it opens as `telemetry` says.
    pub(crate) fn telling(mut self, telemetry: &Telemetry) -> Self {
        self.meter.clone_from(&telemetry.meter);
        self.load = telemetry.load.clone();
        self
    }

    /// One whose databases are not measured, for ways to what is measured already.
    pub(crate) fn unmeasured(&self) -> Self {
        Self {
            meter: None,
            ..self.clone()
        }
    }

    /// How the load of a router over what it opens is measured, if at all.
    pub(crate) const fn load(&self) -> Option<&LoadOptions> {
        self.load.as_ref()
    }

    /// The database at `url`, called `name` in errors.
    pub(crate) fn open(&self, name: Arc<str>, url: &str) -> Result<Database, ShardError> {
        let options = &self.options;
        let scheme = url.split(':').next().unwrap_or_default();
        let pool: Result<Pool, ShardError> = match scheme {
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                let budget = self.budget.clone();
                crate::engine::postgres::pool(&name, url, options, budget).map(Pool::Postgres)
            }
            #[cfg(feature = "sqlite")]
            "sqlite" => crate::engine::sqlite::pools(&name, url, options).map(Pool::Sqlite),
            _ => Err(ShardError::Url {
                database: name.clone(),
                why: "its scheme must be postgres:// or sqlite: and the engine's feature on".into(),
            }),
        };
        let pool = pool?;
        // SQLite waits for nobody far away; PostgreSQL takes zero as no limit.
        let bounded = scheme != "sqlite" && !options.statement_timeout.is_zero();
        let patience = bounded.then_some(options.statement_timeout.saturating_add(GRACE));
        let count = |meter| Counts::of(meter, pool.engine(), &name, &pool);
        Ok(Database {
            counts: self.meter.as_ref().map_or_else(Counts::default, count),
            name,
            pool,
            options: *options,
            patience: patience.unwrap_or(Duration::MAX),
            capabilities: Arc::default(),
            lane: Lane::Requests,
        })
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opener").field(&self.options).finish()
    }
}
