//! Which Redis serves what, by the settings.

use maxscale_core::config::Profile;
use maxscale_core::health::{Health, Importance, Place};
use maxscale_core::redis::{RedisConfig, RedisHandles, RedisTable, Role};

use crate::settings::Settings;
use crate::start::StartError;

/// What the platform uses Redis for.
pub(crate) const ROLES: [Role; 2] = [Role::Cache, Role::Limits];

/// Reads the URLs, and opens nothing yet.
pub(crate) fn table(settings: &Settings) -> Result<RedisTable, StartError> {
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
    Ok(table)
}

/// Adds a check for each server. Redis is a help: none decides readiness.
pub(crate) fn register(redis: &RedisHandles, health: &Health) {
    for (roles, redis) in redis.all() {
        let name = match roles {
            [role] => format!("redis-{}", role.name()),
            _ => "redis".to_owned(),
        };
        let redis = redis.clone();
        let check = move || {
            let redis = redis.clone();
            async move { Ok(redis.ping().await?) }
        };
        health.register(Place::REDIS, &name, Importance::Degrading, check);
    }
}
