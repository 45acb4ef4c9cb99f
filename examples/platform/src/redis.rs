//! Which Redis serves what, by the settings.

use maxscale_core::config::Profile;
use maxscale_core::health::{Health, Importance, Place};
use maxscale_core::redis::{Redis, RedisConfig, RedisHandles, RedisTable, Role};

use crate::settings::Settings;
use crate::start::StartError;

/// The Redis of the settings, not opened yet.
pub(crate) struct Table {
    shared: RedisTable,
    sessions: Option<Vec<RedisConfig>>,
}

/// The Redis that are used.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    shared: RedisHandles,
    /// Those for nothing but sessions, by their number.
    sessions: Vec<Redis>,
}

/// Reads the URLs, and opens nothing yet.
pub(crate) fn table(settings: &Settings) -> Result<Table, StartError> {
    let read = |key, url: &Option<String>| {
        let config = url.as_deref().map(RedisConfig::new).transpose();
        config.map_err(|source| StartError::Redis { key, source })
    };
    let strict = |config: RedisConfig| match settings.profile {
        Profile::Dev => config.tolerates_eviction(),
        Profile::Prod => config,
    };
    let mut table = RedisTable::new();
    if let Some(common) = read("redis.url", &settings.redis)? {
        table = table.common(strict(common));
    }
    if let Some(cache) = read("redis.cache.url", &settings.redis_cache)? {
        table = table.own(Role::Cache, strict(cache));
    }
    if let Some(limits) = read("redis.limits.url", &settings.redis_limits)? {
        table = table.own(Role::Limits, strict(limits));
    }
    let sessions = settings.redis_sessions.as_ref();
    let sessions = sessions.map(|urls| {
        let configs = urls.iter().map(|url| {
            let config = RedisConfig::new(url).map_err(|source| StartError::Redis {
                key: "redis.sessions.urls",
                source,
            });
            Ok(strict(config?).serves(Role::Sessions))
        });
        configs.collect::<Result<_, StartError>>()
    });
    Ok(Table {
        shared: table,
        sessions: sessions.transpose()?,
    })
}

// === impl Table ===

impl Table {
    /// Opens what is used.
    pub(crate) fn open(self) -> Servers {
        match self.sessions {
            Some(own) => Servers {
                shared: self.shared.open(&[Role::Cache, Role::Limits]),
                sessions: own.into_iter().map(Redis::open).collect(),
            },
            None => Servers {
                shared: (self.shared).open(&[Role::Cache, Role::Limits, Role::Sessions]),
                sessions: Vec::new(),
            },
        }
    }
}

// === impl Servers ===

impl Servers {
    /// The one of a role; `None` if it does without.
    pub(crate) fn of(&self, role: Role) -> Option<&Redis> {
        self.shared.of(role)
    }

    /// Those that hold copies of sessions, by their number.
    pub(crate) fn of_sessions(&self) -> Vec<Redis> {
        match self.shared.of(Role::Sessions) {
            Some(redis) => vec![redis.clone()],
            None => self.sessions.clone(),
        }
    }

    /// Closes all.
    pub(crate) async fn close(&self) {
        for redis in &self.sessions {
            redis.close().await;
        }
        self.shared.close().await;
    }
}

/// Adds a check for each server, or for each role if they have several. Redis is a
/// help: none decides readiness.
pub(crate) fn register(servers: &Servers, health: &Health) {
    let places = servers.shared.all().count();
    for (roles, redis) in servers.shared.all() {
        if places == 1 && roles.len() > 1 {
            watch(redis, "redis", health);
            continue;
        }
        for role in roles {
            watch(redis, &format!("redis-{}", role.name()), health);
        }
    }
    for (number, redis) in servers.sessions.iter().enumerate() {
        watch(redis, &format!("redis-sessions-{number}"), health);
    }
}

fn watch(redis: &Redis, name: &str, health: &Health) {
    let redis = redis.clone();
    let check = move || {
        let redis = redis.clone();
        async move { Ok(redis.ping().await?) }
    };
    health.register(Place::REDIS, name, Importance::Degrading, check);
}
