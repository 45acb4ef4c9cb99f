use std::time::Duration;

use maxscale_core::redis::{RedisConfig, Role};

/// A stream in Redis, in which values lie until they are written.
///
/// It belongs to one process at a time, by a lease. When its owner dies, or
/// does not reach Redis for as long as the lease is, whoever
/// [opens](super::BehindBuilder::open) a stream of this name for this cache
/// takes it over, with all that is not written. The owner of before accepts
/// nothing more then ([`BehindError::Lost`](super::BehindError::Lost)) and begins
/// no call of its sink; one that had begun may still end, with versions that the
/// successor has as well.
///
/// # What the server must be
///
/// The one of the role [`Jobs`](Role::Jobs), or any other that keeps what it
/// confirms: `appendonly yes`, `appendfsync always`,
/// `no-appendfsync-on-rewrite no` and `maxmemory-policy noeviction`. That is
/// looked at whenever the server is connected to; one that is not so is not
/// used, and the error names the setting
/// ([`Unfit::Loses`](maxscale_core::redis::Unfit::Loses)). The command
/// `CONFIG GET` has to be allowed.
///
/// # What is lost
///
/// A value that was accepted is on the disk of one server, and in the memory of
/// the process that accepted it. If Redis comes back with less, as another
/// server (a failover) or empty, the process brings all that is not written
/// there again. So it takes both of them, the process and the server's disk, or
/// the process and the server while its replica, which did not have the value
/// yet, is promoted; [`Ack::Replicated`](super::Ack::Replicated) makes the
/// latter less likely.
#[derive(Clone, Debug)]
#[must_use]
pub struct Stream {
    /// Boxed, as it is large.
    pub(super) config: Box<RedisConfig>,
    pub(super) name: String,
    pub(super) lease: Duration,
    pub(super) within: Duration,
}

// === impl Stream ===

impl Stream {
    /// For how long a process that is not heard of keeps the stream when
    /// nothing else is given.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(10);
    /// How long replicas are waited for when nothing else is given.
    pub const DEFAULT_REPLICAS_WITHIN: Duration = Duration::from_millis(500);

    /// A stream on the server of `config`, which gets a connection of its own.
    /// Streams of one cache have different names; a process that is to go on
    /// where another one ended gives the same.
    ///
    /// All keys are in one slot of a cluster, that of
    /// `{prefix:!behind:kind:name}`.
    pub fn new(config: RedisConfig, name: &str) -> Self {
        Self {
            config: Box::new(config.serves(Role::Jobs).durable()),
            name: name.to_owned(),
            lease: Self::DEFAULT_LEASE,
            within: Self::DEFAULT_REPLICAS_WITHIN,
        }
    }

    /// Sets for how long the stream is kept for a process that is not heard of,
    /// at least 100 ms. It should be longer than the sink's longest call, and
    /// than Redis is away when it restarts: while it is away for longer,
    /// nothing is written.
    ///
    /// Default: [`Stream::DEFAULT_LEASE`].
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.max(Duration::from_millis(100));
        self
    }

    /// Sets how long replicas are waited for at
    /// [`Ack::Replicated`](super::Ack::Replicated), at least 1 ms. Well below
    /// the lease, since it is not renewed meanwhile.
    ///
    /// Default: [`Stream::DEFAULT_REPLICAS_WITHIN`].
    pub fn replicas_within(mut self, wait: Duration) -> Self {
        self.within = wait.max(Duration::from_millis(1));
        self
    }
}
