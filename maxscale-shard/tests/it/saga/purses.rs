//! Money on two nodes, and the saga that moves it.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_shard::saga::{Payload, Phase, Saga, Sagas, StepError};
use maxscale_shard::{
    Engine, Fleet, FleetConfig, Key, Migration, MigrationSet, Shard, ShardError, Tx, Work, sql,
};
use maxscale_tests::eventually;

use crate::support::{LIMIT, Nodes, SHARDS, open};

pub(crate) const START: i64 = 1_000_000;

pub(crate) const PURSES: MigrationSet = MigrationSet {
    owner: "purses",
    steps: &[Migration {
        version: 1,
        name: "purses",
        postgres: "CREATE TABLE purse (shard_id integer NOT NULL, user_id uuid NOT NULL,
            cents bigint NOT NULL, PRIMARY KEY (shard_id, user_id))",
        sqlite: "CREATE TABLE purse (shard_id INTEGER NOT NULL, user_id BLOB NOT NULL,
            cents INTEGER NOT NULL, PRIMARY KEY (shard_id, user_id))",
    }],
};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Gift {
    pub(crate) id: Id,
    pub(crate) from: Id,
    pub(crate) to: Id,
    pub(crate) cents: i64,
}

impl Payload for Gift {
    fn to_text(&self) -> Result<String, BoxError> {
        Ok(serde_json::json!([
            self.id.to_string(),
            self.from.to_string(),
            self.to.to_string(),
            self.cents
        ])
        .to_string())
    }

    fn from_text(text: &str) -> Result<Self, BoxError> {
        let (id, from, to, cents): (String, String, String, i64) = serde_json::from_str(text)?;
        Ok(Self {
            id: id.parse()?,
            from: from.parse()?,
            to: to.parse()?,
            cents,
        })
    }
}

pub(crate) async fn add(tx: &mut Tx, user: Id, cents: i64) -> Result<u64, ShardError> {
    let add = sql("UPDATE purse SET cents = cents + $3
        WHERE shard_id = $1 AND user_id = $2 AND cents + $3 >= 0");
    let add = add.bind(tx.shard()).bind(user).bind(cents);
    tx.execute(add).await
}

async fn add_or_refuse(tx: &mut Tx, user: Id, cents: i64) -> Result<(), StepError> {
    match add(tx, user, cents).await? {
        0 => Err(StepError::refused("no such purse, or it holds less")),
        _ => Ok(()),
    }
}

type Done<'t> = Work<'static, 't, (), StepError>;

pub(crate) fn take<'t>(tx: &'t mut Tx, gift: &'t Gift) -> Done<'t> {
    Work::new(add_or_refuse(tx, gift.from, -gift.cents))
}

pub(crate) fn back<'t>(tx: &'t mut Tx, gift: &'t Gift) -> Done<'t> {
    Work::new(add_or_refuse(tx, gift.from, gift.cents))
}

pub(crate) fn give<'t>(tx: &'t mut Tx, gift: &'t Gift) -> Done<'t> {
    Work::new(add_or_refuse(tx, gift.to, gift.cents))
}

pub(crate) fn gift() -> Saga<Gift> {
    Saga::new("gift")
        .step("take", |gift: &Gift| Key::from(gift.from), take, back)
        .last("give", |gift| Key::from(gift.to), give)
}

/// Drivers with little patience.
pub(crate) fn sagas(fleet: &Fleet) -> Sagas {
    let (first, longest) = (Duration::from_millis(1), Duration::from_millis(20));
    Sagas::new(fleet.router().clone())
        .with(&gift())
        .pauses(first, longest)
}

/// As if the lease had run out, or the pause were over.
pub(crate) async fn expire(shard: &Shard, id: Id) {
    let expire = "UPDATE ms_saga SET due = 0 WHERE shard_id = $1 AND id = $2
        AND phase IN ('forward', 'backward')";
    let expire = sql(expire).bind(shard.id()).bind(id);
    shard.execute(expire).await.unwrap();
}

/// A fleet of two nodes with a full purse on each.
pub(crate) struct Bench {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) ids: IdGenerator,
    pub(crate) nodes: Nodes,
    pub(crate) users: [Id; 2],
}

pub(crate) fn fleet_of(nodes: &Nodes) -> FleetConfig {
    nodes.config().migrations(PURSES)
}

impl Bench {
    pub(crate) async fn new(engine: Engine) -> Self {
        let nodes = Nodes::fresh(engine, 2).await;
        let fleet = Arc::new(open(fleet_of(&nodes)).await);
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        let users = [0, SHARDS - 1].map(|shard| ids.draw(VirtualShard::new(shard)));
        for user in users {
            let shard = fleet.router().shard(user).unwrap();
            let fill = sql("INSERT INTO purse (shard_id, user_id, cents) VALUES ($1, $2, $3)");
            let fill = fill.bind(shard.id()).bind(user).bind(START);
            shard.execute(fill).await.unwrap();
        }
        let at = users.map(|user| fleet.router().shard(user).unwrap().node().id().clone());
        assert_ne!(at[0], at[1]);
        Self {
            fleet,
            ids,
            nodes,
            users,
        }
    }

    /// From the first node to the second.
    pub(crate) fn gift(&self, cents: i64) -> Gift {
        let [from, to] = self.users;
        let id = self.ids.draw(from.shard());
        Gift {
            id,
            from,
            to,
            cents,
        }
    }

    pub(crate) fn home(&self, gift: &Gift) -> Shard {
        self.fleet.router().shard(gift.from).unwrap()
    }

    pub(crate) async fn begin(&self, given: &Gift) -> bool {
        let mut tx = self.home(given).begin().await.unwrap();
        let begun = gift().begin(&mut tx, given.id, given).await.unwrap();
        tx.commit().await.unwrap();
        begun
    }

    pub(crate) async fn run(&self, gift: &Gift) -> Phase {
        assert!(self.begin(gift).await);
        let run = sagas(&self.fleet).run(&self.home(gift), gift.id).await;
        run.unwrap()
    }

    pub(crate) async fn expire(&self, gift: &Gift) {
        expire(&self.home(gift), gift.id).await;
    }

    /// Drives everything to its end, as if all leases had run out. Again and
    /// again: what a dead driver sent may reach the server only now.
    pub(crate) async fn recovered(&self, sagas: &Sagas) {
        eventually(LIMIT, async || {
            let mut open = 0;
            for node in self.fleet.router().nodes().iter() {
                let expire = "UPDATE ms_saga SET due = 0 WHERE phase IN ('forward', 'backward')";
                node.database().execute(sql(expire)).await.unwrap();
                sagas.recover(node).await.unwrap();
                let rows = "SELECT 1 FROM ms_saga WHERE phase IN ('forward', 'backward')";
                open += node.database().fetch_all(sql(rows)).await.unwrap().len();
            }
            open == 0
        })
        .await;
    }

    pub(crate) async fn cents(&self, user: Id) -> Option<i64> {
        let shard = self.fleet.router().shard(user).unwrap();
        let cents = sql("SELECT cents FROM purse WHERE shard_id = $1 AND user_id = $2");
        let row = shard
            .fetch_optional(cents.bind(shard.id()).bind(user))
            .await;
        row.unwrap().map(|row| row.get("cents").unwrap())
    }

    /// What giver and receiver have.
    pub(crate) async fn held(&self, gift: &Gift) -> (i64, i64) {
        let from = self.cents(gift.from).await.unwrap();
        (from, self.cents(gift.to).await.unwrap())
    }
}
