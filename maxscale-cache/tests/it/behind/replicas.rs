//! Values that count as accepted once replicas have them.

use std::num::NonZeroU32;
use std::time::Duration;

use maxscale_cache::behind::{Ack, Behind, BehindError};
use maxscale_tests::{Cut, Proxy, RedisServer, eventually};

use super::place::stream;
use super::table::Table;
use super::{builder, cache, load};
use crate::source::LIMIT;

/// A primary, its replica, and what is between the two.
struct Pair {
    primary: RedisServer,
    between: Proxy,
    _replica: RedisServer,
}

// === impl Pair ===

impl Pair {
    async fn start() -> Self {
        let primary = RedisServer::start_durable().await;
        let between = Proxy::start(primary.url()).await;
        let replica = RedisServer::start_replica(&between.url()).await;
        Self {
            primary,
            between,
            _replica: replica,
        }
    }

    /// The replica gets nothing from now on.
    async fn cut_off(&self) {
        self.between.refuse().await;
        self.between.cut(Cut::Reset).await;
    }

    async fn open(
        &self,
        table: &Table,
        within: Duration,
    ) -> (maxscale_cache::Cache<u64>, Behind<u64>) {
        let cache = cache();
        let stream = stream(&self.primary.url()).replicas_within(within);
        let ack = Ack::Replicated(stream, NonZeroU32::MIN);
        let behind = builder(&cache, ack, table).open().await.unwrap();
        (cache, behind)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn value_that_no_replica_confirmed_is_accepted_and_an_error_says_so() {
    let (pair, table) = (Pair::start().await, Table::default());
    table.set_down(true);
    let (cache, behind) = pair.open(&table, Duration::from_millis(300)).await;
    // The replica has to follow first.
    eventually(LIMIT * 3, async || behind.put("k", 1).await).await;

    pair.cut_off().await;
    let error = behind.put("k", 2).await.unwrap_err();
    let BehindError::NotReplicated {
        version,
        wanted: 1,
        confirmed: 0,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        error.to_string(),
        "accepted, but 0 of 1 replicas have confirmed"
    );
    assert_eq!(load(&cache, &table, "k").await, Some(2));
    table.set_down(false);
    eventually(LIMIT, async || behind.pending() == 0).await;
    assert_eq!(table.get("k"), Some(2));

    pair.between.heal().await;
    let next = eventually(LIMIT * 3, async || behind.put("k", 3).await).await;
    assert!(next > version);
    behind.shutdown(LIMIT).await.unwrap();
    assert_eq!(table.get("k"), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_that_is_lost_confirms_nothing() {
    let (pair, table) = (Pair::start().await, Table::default());
    let here = Proxy::start(pair.primary.url()).await;
    let cache = cache();
    let stream = stream(&here.url()).replicas_within(LIMIT);
    let ack = Ack::Replicated(stream, NonZeroU32::MIN);
    let behind = builder(&cache, ack, &table).open().await.unwrap();
    eventually(LIMIT * 3, async || behind.put("k", 1).await).await;

    pair.cut_off().await;
    let cutting = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        here.cut(Cut::Reset).await;
    };
    let (put, ()) = tokio::join!(behind.put("k", 2), cutting);
    let error = put.unwrap_err();
    assert!(
        matches!(
            error,
            BehindError::NotReplicated { confirmed: 0, .. } | BehindError::Journal(_)
        ),
        "{error:?}"
    );
}
