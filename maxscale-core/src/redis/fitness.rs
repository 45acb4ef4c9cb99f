//! Whether a server is what it has to be, read from its INFO.

use super::config::Kind;
use super::{Command, Lineage, RedisError, Reply};

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

    /// It may lose what it has confirmed; see
    /// [`RedisConfig::durable`](super::RedisConfig::durable).
    #[error(
        "redis may lose what it has confirmed: its {setting} is {found}; \
         set `{setting} {needed}` in its configuration, or use another server for this"
    )]
    Loses {
        /// The setting at fault.
        setting: &'static str,
        /// What it is; `unknown` if the server does not tell (`CONFIG GET`).
        found: String,
        /// What it has to be.
        needed: &'static str,
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

/// What INFO says, and CONFIG if it was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Info {
    version: String,
    policy: Option<String>,
    /// Whether it writes an append-only file.
    appends: bool,
    /// When that is synced.
    syncs: Option<String>,
    /// Whether that rests while the file is rewritten.
    rests: Option<String>,
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
    /// Whether what is confirmed has to be on disk.
    pub(super) durable: bool,
}

const SYNCS: &str = "appendfsync";
const RESTS: &str = "no-appendfsync-on-rewrite";

/// Asks for what INFO does not tell.
pub(super) fn settings() -> Command {
    Command::new("CONFIG").args(["GET", SYNCS, RESTS])
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
                "aof_enabled" => info.appends = value == "1",
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

    /// Reads the answer to INFO.
    pub(super) fn read(reply: Reply) -> Result<Self, RedisError> {
        let text = reply.into_bytes();
        let text = text.ok_or(RedisError::Reply { command: "INFO" })?;
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// Whether it takes no writes.
    pub(super) const fn is_replica(&self) -> bool {
        self.replica
    }

    /// Takes in the answer to [`settings`].
    pub(super) fn learn(&mut self, settings: Reply) {
        let texts = settings.into_array().unwrap_or_default().into_iter();
        let texts: Vec<_> = texts
            .map(|it| it.into_bytes().unwrap_or_default())
            .map(|it| String::from_utf8_lossy(&it).into_owned())
            .collect();
        let of = |name: &str| {
            let pairs = texts.chunks_exact(2);
            let mut found = pairs.filter(|pair| pair[0] == name);
            found.next().map(|pair| pair[1].clone())
        };
        (self.syncs, self.rests) = (of(SYNCS), of(RESTS));
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
            Some(unfit) if demand.strict => return Err(unfit),
            _ => {}
        }
        match self.loses() {
            Some(unfit) if demand.durable => Err(unfit),
            _ => Ok(()),
        }
    }

    /// What keeps the server from having on disk what it confirms.
    fn loses(&self) -> Option<Unfit> {
        let appends = if self.appends { "yes" } else { "no" };
        let known = |setting: &Option<String>| setting.clone().unwrap_or("unknown".to_owned());
        [
            ("maxmemory-policy", known(&self.policy), "noeviction"),
            ("appendonly", appends.to_owned(), "yes"),
            (SYNCS, known(&self.syncs), "always"),
            (RESTS, known(&self.rests), "no"),
        ]
        .into_iter()
        .find(|(_, found, needed)| found != needed)
        .map(|(setting, found, needed)| Unfit::Loses {
            setting,
            found,
            needed,
        })
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
        let demand = Demand {
            roles: vec![role],
            strict,
            durable: false,
        };
        Info::parse(info).check(kind, &demand)
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

    #[test]
    fn server_that_may_lose_what_it_confirmed_is_refused_where_that_matters() {
        let settings = |syncs: &str, rests: &str| {
            let words = [SYNCS, syncs, RESTS, rests].map(|it| Reply::Bytes(it.to_owned().into()));
            Reply::Array(words.to_vec())
        };
        let info = |policy: &str, appends: u8| {
            Info::parse(&format!("{}aof_enabled:{appends}\r\n", server(policy)))
        };
        let check = |mut info: Info, answer: Option<Reply>, durable| {
            if let Some(answer) = answer {
                info.learn(answer);
            }
            let demand = Demand {
                roles: vec![Role::Jobs],
                strict: true,
                durable,
            };
            info.check(Kind::Single, &demand)
        };
        let good = || Some(settings("always", "no"));
        let bad = [
            ("maxmemory-policy", info("volatile-ttl", 1), good()),
            ("appendonly", info("noeviction", 0), good()),
            (
                SYNCS,
                info("noeviction", 1),
                Some(settings("everysec", "no")),
            ),
            (
                RESTS,
                info("noeviction", 1),
                Some(settings("always", "yes")),
            ),
            (SYNCS, info("noeviction", 1), None),
        ];
        for (at_fault, info, answer) in bad {
            assert_eq!(check(info.clone(), answer.clone(), false), Ok(()));
            let refused = check(info, answer, true);
            let is_it =
                matches!(&refused, Err(Unfit::Loses { setting, .. }) if *setting == at_fault);
            assert!(is_it, "{at_fault}: {refused:?}");
        }
        assert_eq!(check(info("noeviction", 1), good(), true), Ok(()));
    }
}
