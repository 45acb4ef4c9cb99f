//! A connection that nobody else takes.

use maxscale_shard::{Database, Engine, sql};

use crate::pool::CONNECTED;
use crate::support::{Nodes, options};

#[tokio::test]
async fn connection_apart_is_had_while_all_others_are_taken() {
    for engine in [Engine::Postgres, Engine::Sqlite] {
        let nodes = Nodes::fresh(engine, 1).await;
        let mut few = options();
        (few.connections, few.background) = (1, 1);
        let database = Database::open("crowded", &nodes.urls[0], &few).unwrap();
        database.reach().await.unwrap();
        let _writer = database.writer().await.unwrap();
        let _background = match engine {
            Engine::Postgres => Some(database.background().writer().await.unwrap()),
            Engine::Sqlite => None,
        };
        let apart = database.apart();
        let one = apart.fetch_optional(sql("SELECT 1 AS one")).await.unwrap();
        assert_eq!(one.unwrap().get::<i64>("one").unwrap(), 1);
        apart
            .execute(sql("CREATE TABLE made (id bigint)"))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn connection_apart_counts_in_the_budget() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let mut few = options();
    (few.budget, few.acquire_timeout) = (1, CONNECTED);
    let database = Database::open("tight", &nodes.urls[0], &few).unwrap();
    let all = database.writer().await.unwrap();
    let apart = database.apart();
    let refused = apart.writer().await.unwrap_err();
    assert!(refused.is_unreachable(), "{refused:?}");
    drop(all);
    apart.writer().await.unwrap();
}
