//! A Redis and its replica, watched by sentinels.

use std::time::Duration;

use super::{
    RedisServer,
    role::{Role, WATCHED},
    wire::Reply,
};
use crate::wait::within;

const LIMIT: Duration = Duration::from_secs(60);

/// A Redis with a replica, and three sentinels that watch them.
///
/// A primary that does not answer for 1.5 s is replaced by its replica, a
/// second or two later, and follows when it comes back. All five are
/// [`RedisServer`]s like any other, to be killed, paused and restarted.
/// A sentinel that was restarted looks around more seldom, as by default.
///
/// # Panics
///
/// Every method panics, and so fails the test, when a server does not do what
/// it is told.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: [RedisServer; 2],
    sentinels: [RedisServer; 3],
}

// === impl RedisSentinels ===

impl RedisSentinels {
    /// As the sentinels call what they watch.
    pub const NAME: &str = WATCHED;

    /// Starts all five, and returns once the replica follows and the sentinels
    /// know each other and it.
    pub async fn start() -> Self {
        let primary = RedisServer::launch(Role::Alone).await;
        let port = primary.port();
        let watching = Role::Sentinel(port);
        let (replica, sentinels) = tokio::join!(
            RedisServer::launch(Role::Replica(port)),
            RedisServer::launch_three(&watching)
        );
        let started = Self {
            servers: [primary, replica],
            sentinels,
        };
        if let Err(missing) = started.ready().await {
            panic!("the sentinels are not ready within {LIMIT:?}: {missing}");
        }
        started
    }

    /// Where the sentinels listen.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::url).collect()
    }

    /// The three that watch.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// The two that are watched, whatever they are at the moment.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The running server that most of the sentinels call the primary and that
    /// is one; `None` while there is none.
    pub async fn primary(&self) -> Option<&RedisServer> {
        let mut votes = [0; 2];
        for sentinel in &self.sentinels {
            let Ok(port) = named_by(sentinel).await else {
                continue;
            };
            let named = self.servers.iter().position(|it| it.port() == port);
            votes[named?] += 1;
        }
        let elected = &self.servers[votes.iter().position(|count| *count >= 2)?];
        let role = elected.text(&["INFO", "replication"]).await.ok()?;
        role.contains("role:master").then_some(elected)
    }

    async fn ready(&self) -> Result<(), String> {
        for sentinel in &self.sentinels {
            // They look around several times a second. By default they ping a
            // new primary only after a second.
            let often = [
                ["PUBLISH-PERIOD", "500"],
                ["INFO-PERIOD", "500"],
                ["PING-PERIOD", "200"],
            ];
            let often = [&["SENTINEL", "DEBUG"][..], often.as_flattened()].concat();
            sentinel.text(&often).await?;
        }
        within(LIMIT, async || {
            let info = self.servers[1].text(&["INFO", "replication"]).await?;
            if !info.contains("master_link_status:up") {
                return Err(format!("the replica says {info}"));
            }
            for sentinel in &self.sentinels {
                let info = sentinel.text(&["INFO", "sentinel"]).await?;
                if !info.contains("status=ok") || !info.contains("slaves=1,sentinels=3") {
                    return Err(format!("{} says {info}", sentinel.url()));
                }
            }
            Ok(())
        })
        .await
    }
}

/// The port of the primary, as one sentinel sees it.
async fn named_by(sentinel: &RedisServer) -> Result<u16, String> {
    let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", WATCHED];
    let answer = sentinel.command(&question).await?;
    let port = match &answer {
        Reply::Many(parts) => match parts.last() {
            Some(Reply::Text(port)) => port.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    port.ok_or_else(|| format!("{question:?} answered {answer:?}"))
}
