//! Why the platform did not start, told to a person.

use std::io;
use std::net::SocketAddr;

use maxscale_auth::OriginError;
use maxscale_auth::mail::MailerError;
use maxscale_auth::password::policy::filter::FilterError;
use maxscale_auth::session::SessionMapError;
use maxscale_core::Chain;
use maxscale_core::config::{Config, Explanation};
use maxscale_core::redis::RedisConfigError;
use maxscale_shard::fleet::{DriftReport, FleetError, Rollout, RolloutError, SpecError};
use maxscale_shard::{KeyspaceError, ShardError, TopologyError};

use crate::folder::FolderError;
use crate::keyring::KeyringError;
use crate::objects::ObjectsError;

/// The platform did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The embedded folder cannot be used.
    #[error("cannot use the data folder")]
    Folder(#[from] FolderError),
    /// The list of nodes is malformed.
    #[error("cannot read the list of nodes")]
    Nodes(#[from] SpecError),
    /// The list of nodes is empty.
    #[error("there is no node")]
    NoNodes,
    /// Not every node was migrated.
    #[error("cannot migrate every node")]
    Rollout(#[source] RolloutError),
    /// The databases are not what their migrations made them.
    #[error("tables were changed past the migrations")]
    Drift(DriftReport),
    /// The databases could not be opened.
    #[error("cannot open the databases")]
    Fleet(#[from] FleetError),
    /// The signing key cannot be had.
    #[error("cannot use the signing key")]
    Keys(#[from] KeyringError),
    /// Redis' URL is not usable.
    #[error("cannot use Redis")]
    Redis {
        /// The setting that holds it.
        key: &'static str,
        /// What is wrong with it.
        #[source]
        source: RedisConfigError,
    },
    /// The folder of objects cannot be used.
    #[error("cannot use the folder of objects")]
    Objects(#[from] ObjectsError),
    /// Mails cannot be sent so.
    #[error("cannot send mails")]
    Mail(#[from] MailerError),
    /// The file of stolen passwords cannot be used.
    #[error("cannot use the file of stolen passwords")]
    StolenPasswords(#[from] FilterError),
    /// The map of sessions does not fit its servers.
    #[error("cannot use the map of sessions")]
    SessionMap(#[from] SessionMapError),
    /// The URL that clients use has no origin that a browser sends.
    #[error("cannot tell the service's origin")]
    Origin(#[from] OriginError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A number is outside its bounds.
    #[error("{key} is out of bounds")]
    Bounds {
        /// The setting.
        key: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// A part refused what the platform built it with.
    #[error("cannot assemble the platform")]
    Assemble(#[source] maxscale_core::BoxError),
}

// === impl StartError ===

impl StartError {
    /// The error as a block for a person: what, where, why, what to do.
    pub fn explanation(&self, config: &Config) -> Explanation {
        let why = self.cause();
        let (key, action) = self.setting(config);
        config.explain(key, &self.to_string(), &why, action)
    }

    /// What there is to tell besides the explanation: which node has what.
    pub fn report(&self) -> Option<String> {
        match self {
            Self::Rollout(
                RolloutError::Refused { rollout } | RolloutError::Stopped { rollout, .. },
            ) => Some(rollout.to_string()),
            Self::Drift(report) => Some(report.to_string()),
            _ => None,
        }
    }

    fn cause(&self) -> String {
        match self {
            Self::Bounds { allowed, .. } => format!("it must be {allowed}"),
            Self::NoNodes => "the list is empty".to_owned(),
            Self::Rollout(RolloutError::Refused { rollout }) => {
                format!("no step was run, for {}", failures(rollout))
            }
            Self::Rollout(RolloutError::Stopped { wave, rollout }) => {
                format!("wave {wave} was the last, for {}", failures(rollout))
            }
            Self::Drift(report) => format!(
                "{} changes are reported, and {} nodes were not looked at",
                report.drifts.len(),
                report.unseen.len()
            ),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "another program listens there".to_owned()
            }
            // The chain begins with what was said already.
            _ => std::error::Error::source(self)
                .map_or_else(String::new, |source| Chain(source).to_string()),
        }
    }

    /// The setting to look at, and what to do about it.
    fn setting(&self, config: &Config) -> (&'static str, &'static str) {
        match self {
            Self::Folder(FolderError::InUse { .. }) => (
                "data.dir",
                "stop that process, or start this one with another data.dir",
            ),
            Self::Folder(FolderError::Unwritable { .. }) => {
                ("data.dir", "make the folder writable, or name another one")
            }
            Self::Nodes(
                SpecError::ReplicaOf(_) | SpecError::ReplicaUrl(_) | SpecError::ReplicaRegion(_),
            ) => (
                "shards.replicas",
                "write each replica as name=url or name=pooled-url|direct-url, with the name of an entry of shards.nodes",
            ),
            Self::Nodes(_) => (
                "shards.nodes",
                "write each node as url, name=url or name=pooled-url|direct-url; names are of a-z, 0-9 and -",
            ),
            Self::NoNodes => (
                "shards.nodes",
                "list a node, or unset it to run on SQLite files",
            ),
            Self::Rollout(error) => (nodes_key(config), rollout_action(error)),
            Self::Drift(_) => (
                nodes_key(config),
                "undo the changes, or run the command `migrate drift --accept`",
            ),
            Self::Fleet(error) => fleet_setting(error, config),
            Self::Keys(KeyringError::TooShort { setting, .. }) => {
                let action = "give it 32 random characters or more, and no comma to one in a list";
                (setting, action)
            }
            Self::Keys(KeyringError::Missing { .. } | KeyringError::Unset) => (
                "keys.secret",
                "set the secret of the first start again, or list it in keys.others: \
                 accounts are found by it",
            ),
            Self::Keys(KeyringError::Exhausted) => (
                "keys.secret",
                "go back to the last one: a fleet has 255 at most",
            ),
            Self::Keys(_) => ("catalog.url", "see whether the catalog's database is well"),
            Self::Redis { key, source } => (*key, redis_action(source)),
            Self::Objects(ObjectsError::Scheme { .. }) => (
                "objects.url",
                "write it as file:// and the path of a folder",
            ),
            Self::Objects(_) => (
                objects_key(config),
                "make the folder writable, or name another one",
            ),
            Self::Mail(error) => mail_setting(error, config),
            Self::StolenPasswords(_) => (
                "accounts.stolen_passwords",
                "name a file that the example password_filter of maxscale-auth has built",
            ),
            Self::SessionMap(_) => (
                "redis.sessions.map",
                "number the servers of redis.sessions.urls from 0 on",
            ),
            Self::Origin(_) => ("http.public_url", "write it as https://host"),
            Self::Listen { key, source, .. } => (*key, listen_action(source.kind())),
            Self::Bounds { key, .. } => (*key, "choose a value in these bounds"),
            Self::Assemble(_) => ("data.dir", "this is a defect of the program: report it"),
        }
    }
}

impl From<RolloutError> for StartError {
    fn from(error: RolloutError) -> Self {
        match error {
            RolloutError::Fleet(error) => Self::Fleet(error),
            error => Self::Rollout(error),
        }
    }
}

/// Each node that failed, and why.
fn failures(rollout: &Rollout) -> String {
    let failed = rollout.nodes.iter().filter_map(|node| {
        let failure = node.failure.as_ref()?;
        Some(format!("{}: {}", node.node, Chain(failure)))
    });
    failed.collect::<Vec<_>>().join("; ")
}

const fn rollout_action(error: &RolloutError) -> &'static str {
    match error {
        RolloutError::Unknown { .. } => "name one of the nodes as the canary",
        RolloutError::Held { .. } => "wait for it to end, and run the command `migrate` again",
        _ => "see to these databases, and run the command `migrate` again: it goes on where it was",
    }
}

const fn redis_action(error: &RedisConfigError) -> &'static str {
    match error {
        RedisConfigError::Tls { .. } => {
            "build the program with the feature `tls`; without TLS it is redis://host:6379"
        }
        RedisConfigError::Ca { .. } => "name a readable PEM file with certificates",
        _ => "write it as redis://host:6379",
    }
}

fn mail_setting(error: &MailerError, config: &Config) -> (&'static str, &'static str) {
    match error {
        MailerError::Sender(_) => ("mail.from", "write it as Name <name@host>"),
        MailerError::Plain { .. } => (
            "mail.url",
            "write it as smtps://, end it with ?tls=required, or set mail.plain where the network is as good as the machine",
        ),
        MailerError::Folder { .. } if !config.is_configured("mail.url") => {
            ("data.dir", "make the folder writable, or name another one")
        }
        _ => (
            "mail.url",
            "write it as smtps://user:password@host, or as file:// and the path of a folder that is writable",
        ),
    }
}

fn objects_key(config: &Config) -> &'static str {
    if config.is_configured("objects.url") {
        "objects.url"
    } else {
        "data.dir"
    }
}

fn nodes_key(config: &Config) -> &'static str {
    if config.is_configured("shards.nodes") {
        "shards.nodes"
    } else {
        "data.dir"
    }
}

fn listen_action(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "stop that program, or choose another port",
        io::ErrorKind::AddrNotAvailable => {
            "choose an address of this machine, or 0.0.0.0 for all of them"
        }
        io::ErrorKind::PermissionDenied => "choose a port from 1024 on",
        _ => "choose another address or port",
    }
}

fn fleet_setting(error: &FleetError, config: &Config) -> (&'static str, &'static str) {
    let nodes = nodes_key(config);
    match error {
        FleetError::NoCatalog { .. } if config.is_configured("catalog.url") => {
            ("catalog.url", "start that database, or correct its URL")
        }
        FleetError::NoCatalog { .. } | FleetError::NoNode { .. } => {
            (nodes, "start these databases, or correct their URLs")
        }
        FleetError::FirstStart { .. } => (
            nodes,
            "start every database of the list, or correct its URL",
        ),
        FleetError::Keyspace(KeyspaceError::OtherCount { .. }) => {
            ("shards.count", "set it to the number of the first start")
        }
        FleetError::Topology(TopologyError::Count { .. }) => (
            "shards.count",
            "set it to a number from the number of nodes to 131072",
        ),
        FleetError::Residency(_) => (
            "shards.residency",
            "name regions in which all servers of a node stand, or correct `region=` in their URLs",
        ),
        FleetError::Differs(_) => (nodes, "list the nodes of the first start"),
        FleetError::WrongNode { .. } => (
            nodes,
            "give each node its own database, under the name it had at the first start",
        ),
        FleetError::OtherDirect { .. } => (
            nodes,
            "correct one of the two URLs of this node: both are of one database",
        ),
        FleetError::Pending { .. } => (
            "migrate",
            "run the command `migrate`, or set migrate to auto",
        ),
        FleetError::Shard(ShardError::Url { database, .. }) => (
            database_key(database, config),
            "correct the URL, or build the program with the feature that it asks for",
        ),
        FleetError::Topology(_) => (nodes, "list each node once"),
        FleetError::Shard(
            ShardError::Statement { database, .. } | ShardError::Migration { database, .. },
        ) => (
            database_key(database, config),
            "see what the database says, and correct its URL or its rights",
        ),
        _ => (
            nodes,
            "see what the database says, and correct its URL or its rights",
        ),
    }
}

/// The setting that names the database called `name` in errors.
fn database_key(name: &str, config: &Config) -> &'static str {
    if name == "catalog" && config.is_configured("catalog.url") {
        "catalog.url"
    } else {
        nodes_key(config)
    }
}
