//! A Redis Cluster.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use futures_util::future::join_all;

use super::{RedisServer, role::Role};
use crate::wait::within;

const LIMIT: Duration = Duration::from_secs(60);
const SLOTS: u16 = 16_384;
const MASTERS: usize = 3;

/// A Redis Cluster: three masters and a replica of each.
///
/// A master that does not answer for 1.5 s is replaced by its replica, a
/// second or two later. Each of the six is a [`RedisServer`] like any other, to
/// be killed, paused and restarted; [`restart_empty`](RedisServer::restart_empty)
/// takes it out of the cluster.
///
/// # Panics
///
/// Every method panics, and so fails the test, when the cluster does not do
/// what it is told.
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<RedisServer>,
}

/// What a node says of itself.
struct Node {
    id: String,
    /// `host:port@bus`.
    address: String,
    is_master: bool,
    epoch: u64,
    slots: Vec<RangeInclusive<u16>>,
}

// === impl RedisCluster ===

impl RedisCluster {
    /// Starts a cluster, and returns once it serves all keys and every replica
    /// follows its master.
    pub async fn start() -> Self {
        let (masters, replicas) = tokio::join!(
            RedisServer::launch_three(&Role::Node),
            RedisServer::launch_three(&Role::Node)
        );
        let cluster = Self {
            servers: masters.into_iter().chain(replicas).collect(),
        };
        if let Err(why) = cluster.form().await {
            panic!("Redis Cluster did not form: {why}");
        }
        cluster
    }

    /// Where its servers listen; a client needs any of them that runs.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(RedisServer::url).collect()
    }

    /// All six, whatever they are at the moment.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The running server that serves a key; `None` while there is none.
    pub async fn master_of(&self, key: &str) -> Option<&RedisServer> {
        let nodes = self.nodes().await;
        let (any, _) = nodes.first()?;
        let slot = any.text(&["CLUSTER", "KEYSLOT", key]).await.ok()?;
        let slot: u16 = slot.parse().ok()?;
        nodes
            .into_iter()
            .filter(|(_, node)| node.serves(slot))
            // One that was down may not know yet that it was replaced.
            .max_by_key(|(_, node)| node.epoch)
            .map(|(server, _)| server)
    }

    /// Waits until every key has a running master and every running server
    /// knows.
    ///
    /// # Panics
    ///
    /// Panics after `limit`.
    pub async fn wait_until_served(&self, limit: Duration) {
        if let Err(missing) = within(limit, async || self.served().await).await {
            panic!("Redis Cluster does not serve within {limit:?}: {missing}");
        }
    }

    async fn served(&self) -> Result<(), String> {
        let nodes = self.nodes().await;
        let served: usize = nodes
            .iter()
            .flat_map(|(_, node)| &node.slots)
            .map(ExactSizeIterator::len)
            .sum();
        if served != usize::from(SLOTS) {
            return Err(format!("{served} of {SLOTS} slots have a running master"));
        }
        for (server, _) in nodes {
            let info = server.text(&["CLUSTER", "INFO"]).await?;
            if !info.contains("cluster_state:ok") {
                return Err(format!("{} says {info}", server.url()));
            }
        }
        Ok(())
    }

    /// The servers that answer, and what each says of itself.
    async fn nodes(&self) -> Vec<(&RedisServer, Node)> {
        // At once, as one that hangs takes its time.
        let asked = self.servers.iter().map(async |server| {
            let node = node(server).await.ok()?;
            Some((server, node))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn form(&self) -> Result<(), String> {
        let (masters, replicas) = self.servers.split_at(MASTERS);
        let mut ids = Vec::new();
        for (start, server) in (0..).step_by(share().into()).zip(masters) {
            let end = (start + share()).min(SLOTS) - 1;
            let (start, end) = (start.to_string(), end.to_string());
            server
                .text(&["CLUSTER", "ADDSLOTSRANGE", &start, &end])
                .await?;
            ids.push(node(server).await?.id);
        }
        for (number, server) in (1..).zip(&self.servers) {
            let epoch = i32::to_string(&number);
            server
                .text(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                .await?;
        }
        self.meet().await?;
        for (server, master) in replicas.iter().zip(&ids) {
            server.text(&["CLUSTER", "REPLICATE", master]).await?;
        }
        within(LIMIT, async || {
            for replica in replicas {
                let info = replica.text(&["INFO", "replication"]).await?;
                if !info.contains("master_link_status:up") {
                    return Err(format!("{} says {info}", replica.url()));
                }
            }
            self.served().await
        })
        .await
    }

    /// Makes every server known to every other.
    async fn meet(&self) -> Result<(), String> {
        for (at, server) in self.servers.iter().enumerate() {
            let address = node(server).await?.address;
            let bus = address.rsplit('@').next().unwrap_or_default();
            let port = server.port().to_string();
            // Rumour alone would take seconds.
            for other in &self.servers[..at] {
                other
                    .text(&["CLUSTER", "MEET", "127.0.0.1", &port, bus])
                    .await?;
            }
        }
        within(LIMIT, async || {
            for server in &self.servers {
                let known = server.text(&["CLUSTER", "NODES"]).await?;
                let met = known.lines().filter(|line| !line.contains("handshake"));
                let ids: BTreeSet<_> = met.filter_map(|line| line.split(' ').next()).collect();
                if ids.len() != self.servers.len() {
                    return Err(format!("{} knows {known}", server.url()));
                }
            }
            Ok(())
        })
        .await
    }
}

/// How many slots a master gets, but for the last.
const fn share() -> u16 {
    SLOTS / 3 + 1
}

async fn node(server: &RedisServer) -> Result<Node, String> {
    let nodes = server.text(&["CLUSTER", "NODES"]).await?;
    let own = nodes.lines().find(|line| line.contains("myself"));
    own.and_then(Node::parse)
        .ok_or_else(|| format!("CLUSTER NODES answered {nodes}"))
}

// === impl Node ===

impl Node {
    /// `id address flags master ping pong epoch link slot slot-slot ..`
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        let slots = words.get(8..)?.iter().filter_map(|word| {
            let (start, end) = word.split_once('-').unwrap_or((word, word));
            Some(start.parse().ok()?..=end.parse().ok()?)
        });
        Some(Self {
            id: words[0].to_owned(),
            address: words[1].to_owned(),
            is_master: words[2].contains("master"),
            epoch: words[6].parse().ok()?,
            slots: slots.collect(),
        })
    }

    fn serves(&self, slot: u16) -> bool {
        self.is_master && self.slots.iter().any(|range| range.contains(&slot))
    }
}
