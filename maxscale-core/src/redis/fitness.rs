//! Whether a server is what it has to be, read from its INFO.

use super::Lineage;
use super::config::Kind;

/// What a server is used for. Roles want different eviction and persistence,
/// so each may have a server of its own; see [`RedisTable`](super::RedisTable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Values that may vanish at any time.
    Cache,
    /// Copies of sessions.
    Sessions,
    /// Counts of rate limits.
    Limits,
    /// News of jobs.
    Jobs,
}

/// A server that answers and must not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Older than what is needed.
    #[error("redis {found} is too old; 7.0 or later is needed")]
    Version {
        /// What the server calls itself.
        found: String,
    },

    /// It may drop any key when it is full.
    #[error(
        "redis may evict {role}: its maxmemory-policy is {policy}; \
         set it to noeviction or volatile-ttl, or give this role a server of its own"
    )]
    Evicts {
        /// The policy.
        policy: String,
        /// The role that does not bear it.
        role: &'static str,
    },

    /// It copies another server and takes no writes.
    #[error("redis is a replica here; name the primary, or use redis-sentinel://")]
    Replica,

    /// A server of a cluster under a URL of a single one.
    #[error("redis is part of a cluster; use redis-cluster://")]
    Clustered,

    /// A single server under a URL of a cluster.
    #[error("redis is no cluster; use redis://")]
    Single,
}

/// What INFO says.
#[derive(Clone, Debug, Default)]
pub(super) struct Info {
    version: String,
    policy: Option<String>,
    replica: bool,
    clustered: bool,
    /// It reads its data, and until then answers hardly anything.
    pub(super) loading: bool,
    /// Drawn anew whenever the server starts, and whenever it is promoted.
    run: u64,
    replication: u64,
}

/// What a server has to be.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub(super) roles: Vec<Role>,
    /// Whether eviction is refused, or only warned of.
    pub(super) strict: bool,
}

// === impl Role ===

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Cache, Self::Sessions, Self::Limits, Self::Jobs];

    /// The role's name in configuration and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Sessions => "sessions",
            Self::Limits => "limits",
            Self::Jobs => "jobs",
        }
    }

    const fn bears_eviction(self) -> bool {
        matches!(self, Self::Cache)
    }
}

// === impl Info ===

impl Info {
    pub(super) fn parse(text: &str) -> Self {
        let mut info = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name {
                "redis_version" => value.clone_into(&mut info.version),
                "maxmemory_policy" => info.policy = Some(value.to_owned()),
                "role" => info.replica = value != "master",
                "loading" => info.loading = value == "1",
                "cluster_enabled" => info.clustered = value == "1",
                "run_id" => info.run = drawn(value),
                "master_replid" => info.replication = drawn(value),
                _ => {}
            }
        }
        info
    }

    /// Which history of writes the server has.
    pub(super) const fn lineage(&self) -> Lineage {
        // Rotated, so that two names that are alike do not cancel out.
        Lineage::new(self.run.rotate_left(1) ^ self.replication)
    }

    /// What is wrong with the server, if anything is.
    pub(super) fn check(&self, kind: Kind, demand: &Demand) -> Result<(), Unfit> {
        let major = self.version.split('.').next().and_then(|n| n.parse().ok());
        if major.is_none_or(|major: u32| major < 7) {
            let found = self.version.clone();
            return Err(Unfit::Version { found });
        }
        match kind {
            Kind::Cluster if !self.clustered => return Err(Unfit::Single),
            Kind::Single | Kind::Sentinel if self.clustered => return Err(Unfit::Clustered),
            _ => {}
        }
        if self.replica {
            return Err(Unfit::Replica);
        }
        match self.evicts(demand) {
            Some(unfit) if demand.strict => Err(unfit),
            _ => Ok(()),
        }
    }

    /// The role that the server may forget, whether or not that is refused.
    pub(super) fn evicts(&self, demand: &Demand) -> Option<Unfit> {
        let policy = self.policy.as_ref()?;
        let mut roles = demand.roles.iter();
        let role = roles.find(|role| !role.bears_eviction())?;
        policy.starts_with("allkeys-").then(|| Unfit::Evicts {
            policy: policy.clone(),
            role: role.name(),
        })
    }
}

/// The beginning of a random name in hex.
fn drawn(name: &str) -> u64 {
    let digits = name.get(..16).unwrap_or_default();
    u64::from_str_radix(digits, 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(info: &str, kind: Kind, role: Role, strict: bool) -> Result<(), Unfit> {
        let roles = vec![role];
        Info::parse(info).check(kind, &Demand { roles, strict })
    }

    fn server(policy: &str) -> String {
        format!(
            "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nmaxmemory_policy:{policy}\r\n\
             # Replication\r\nrole:master\r\n# Cluster\r\ncluster_enabled:0\r\n"
        )
    }

    #[test]
    fn policy_that_evicts_anything_is_refused_for_all_roles_but_the_cache() {
        let policies = [
            ("noeviction", true),
            ("volatile-ttl", true),
            ("volatile-lru", true),
            ("allkeys-lru", false),
            ("allkeys-lfu", false),
            ("allkeys-random", false),
        ];
        for (policy, keeps) in policies {
            for role in Role::ALL {
                let strict = check(&server(policy), Kind::Single, role, true);
                let fits = keeps || role == Role::Cache;
                assert_eq!(strict.is_ok(), fits, "{policy} {role:?} {strict:?}");
                let warned = check(&server(policy), Kind::Single, role, false);
                assert_eq!(warned, Ok(()), "{policy} {role:?}");
            }
        }
    }

    #[test]
    fn server_of_another_kind_is_refused() {
        let good = server("noeviction");
        let old = good.replace("7.0.15", "6.2.7");
        let replica = good.replace("role:master", "role:slave");
        let node = good.replace("cluster_enabled:0", "cluster_enabled:1");
        let kinds = |info: &str| {
            [Kind::Single, Kind::Sentinel, Kind::Cluster]
                .map(|kind| check(info, kind, Role::Cache, true).err())
        };
        assert_eq!(kinds(&good), [None, None, Some(Unfit::Single)]);
        let clustered = Some(Unfit::Clustered);
        assert_eq!(kinds(&node), [clustered.clone(), clustered, None]);
        assert_eq!(kinds(&replica)[0], Some(Unfit::Replica));
        let found = "6.2.7".to_owned();
        assert_eq!(kinds(&old)[0], Some(Unfit::Version { found }));
        let silent = check("", Kind::Single, Role::Cache, true);
        assert!(matches!(silent, Err(Unfit::Version { .. })), "{silent:?}");
    }
}
