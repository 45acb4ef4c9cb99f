use futures_util::future::join_all;

use super::{Redis, RedisConfig, Role};

/// Which Redis serves which role: the common one, unless it has its own.
///
/// Roles want different things. A cache may evict and needs no disk; counts of
/// limits must not be evicted; so a large service gives them servers of their
/// own. Roles with the same URL share one handle, which must then suit all of
/// them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use maxscale_core::redis::{RedisConfig, RedisTable, Role};
///
/// let redis = RedisTable::new()
///     .common(RedisConfig::new("redis://main")?)
///     .own(Role::Cache, RedisConfig::new("redis://cache")?)
///     .open(&[Role::Cache, Role::Limits]);
/// assert!(redis.of(Role::Cache).is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RedisTable {
    common: Option<RedisConfig>,
    own: Vec<(Role, RedisConfig)>,
}

/// The handles of a [`RedisTable`].
#[derive(Clone, Debug, Default)]
pub struct RedisHandles(Vec<Shared>);

#[derive(Clone, Debug)]
struct Shared {
    roles: Vec<Role>,
    redis: Redis,
}

// === impl RedisTable ===

impl RedisTable {
    /// A table without any Redis.
    pub fn new() -> Self {
        Self::default()
    }

    /// The Redis of all roles that have none of their own.
    ///
    /// Default: none, and such a role does without.
    pub fn common(mut self, config: RedisConfig) -> Self {
        self.common = Some(config);
        self
    }

    /// The Redis of one role.
    ///
    /// Default: the common one.
    pub fn own(mut self, role: Role, config: RedisConfig) -> Self {
        self.own.retain(|(other, _)| *other != role);
        self.own.push((role, config));
        self
    }

    /// Opens a handle for each Redis that serves one of `roles`.
    ///
    /// Where roles share a URL, the timeouts of the first one count, and it is
    /// [durable](RedisConfig::durable) if one of them has to be.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(&self, roles: &[Role]) -> RedisHandles {
        let mut places: Vec<(Vec<Role>, RedisConfig)> = Vec::new();
        for role in roles {
            let Some(config) = self.config(*role) else {
                continue;
            };
            match places.iter_mut().find(|(_, it)| it.url == config.url) {
                Some((roles, shared)) => {
                    roles.push(*role);
                    *shared = shared.clone().serves(*role);
                    shared.demand.durable |= config.demand.durable;
                }
                None => places.push((vec![*role], config.clone().serves(*role))),
            }
        }
        let open = |(roles, config)| Shared {
            roles,
            redis: Redis::open(config),
        };
        RedisHandles(places.into_iter().map(open).collect())
    }

    fn config(&self, role: Role) -> Option<&RedisConfig> {
        let own = self.own.iter().find(|(it, _)| *it == role);
        own.map(|(_, config)| config).or(self.common.as_ref())
    }
}

// === impl RedisHandles ===

impl RedisHandles {
    /// The handle of a role; `None` if it does without Redis.
    pub fn of(&self, role: Role) -> Option<&Redis> {
        let shared = self.0.iter().find(|it| it.roles.contains(&role));
        shared.map(|it| &it.redis)
    }

    /// Each handle once, with the roles that it serves.
    pub fn all(&self) -> impl Iterator<Item = (&[Role], &Redis)> {
        self.0.iter().map(|it| (it.roles.as_slice(), &it.redis))
    }

    /// Closes all of them.
    pub async fn close(&self) {
        join_all(self.0.iter().map(|it| it.redis.close())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> RedisConfig {
        RedisConfig::new(url).unwrap()
    }

    fn places(table: &RedisTable) -> Vec<Vec<Role>> {
        let handles = table.open(&Role::ALL);
        handles.all().map(|(roles, _)| roles.to_vec()).collect()
    }

    #[tokio::test]
    async fn roles_share_the_common_redis_unless_they_have_their_own() {
        let common = RedisTable::new().common(config("redis://127.0.0.1:1"));
        assert_eq!(places(&common), [Role::ALL.to_vec()]);

        let own = common.own(Role::Limits, config("redis://127.0.0.1:2"));
        let others = vec![Role::Cache, Role::Sessions, Role::Jobs];
        assert_eq!(places(&own), [others, vec![Role::Limits]]);
    }

    #[tokio::test]
    async fn role_without_any_redis_does_without() {
        let table = RedisTable::new().own(Role::Cache, config("redis://127.0.0.1:1"));
        assert_eq!(places(&table), [[Role::Cache]]);
        let handles = table.open(&Role::ALL);
        assert!(handles.of(Role::Cache).is_some());
        assert!(handles.of(Role::Limits).is_none());
    }
}
