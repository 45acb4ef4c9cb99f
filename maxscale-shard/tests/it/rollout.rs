//! Whose turn it is to migrate a fleet, and what nobody may migrate.

use std::time::Duration;

use maxscale_shard::fleet::{FleetError, RolloutError, Waves};
use maxscale_shard::{Engine, Fleet, ShardError, sql};
use maxscale_tests::eventually;
use tokio::time::timeout;

use crate::support::LIMIT;
use crate::waves::{APP, at, begun, database};

on_both!(
    next_rollout_begins_as_soon_as_the_last_one_ended,
    rollout_that_lost_its_turn_ends_amid_its_wave,
    nothing_runs_where_a_step_was_edited_on_one_node,
    nothing_runs_where_the_catalog_is_that_of_a_newer_program,
);

async fn next_rollout_begins_as_soon_as_the_last_one_ended(engine: Engine) {
    let nodes = begun(engine).await;
    // Less than somebody is waited for who was killed.
    let config = || {
        let config = nodes.config().migrations(APP);
        config.wait(Duration::from_secs(5))
    };
    for _ in 0..2 {
        Fleet::migrate(config(), &Waves::new()).await.unwrap();
    }
}

async fn rollout_that_lost_its_turn_ends_amid_its_wave(engine: Engine) {
    let nodes = begun(engine).await;
    let third = database(&nodes, 3).await;
    let mut reading = third.begin().await.unwrap();
    let read = sql("SELECT n FROM one");
    reading.fetch_all(read).await.unwrap();
    let config = nodes.config().migrations(APP);
    let rollout = tokio::spawn(async move { Fleet::migrate(config, &Waves::new()).await });
    eventually(LIMIT, async || at(&nodes, 2).await).await;

    let taken = sql("UPDATE ms_rollout SET fence = fence + 1");
    nodes.database().await.execute(taken).await.unwrap();

    let lost = timeout(LIMIT, rollout).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(lost, RolloutError::Lost), "{lost:?}");
    reading.rollback().await.unwrap();
    assert!(at(&nodes, 4).await.is_none(), "a later wave was begun");
}

async fn nothing_runs_where_a_step_was_edited_on_one_node(engine: Engine) {
    let nodes = begun(engine).await;
    let edited = sql("UPDATE ms_migration SET checksum = 'another' WHERE owner = 'app'");
    database(&nodes, 4).await.execute(edited).await.unwrap();

    let config = nodes.config().migrations(APP);
    let refused = Fleet::migrate(config, &Waves::new()).await.unwrap_err();

    let RolloutError::Refused { rollout } = &refused else {
        panic!("{refused:?}");
    };
    let told = rollout.to_string();
    assert!(
        told.contains("app/1 first was edited after it ran"),
        "{told}"
    );
    for number in 1..=4 {
        assert!(at(&nodes, number).await.is_none(), "{number} was migrated");
    }
}

async fn nothing_runs_where_the_catalog_is_that_of_a_newer_program(engine: Engine) {
    let nodes = begun(engine).await;
    let newer = sql("INSERT INTO ms_migration (owner, version, name, checksum)
        VALUES ('maxscale-catalog', 99, 'later', '')");
    nodes.database().await.execute(newer).await.unwrap();

    let config = nodes.config().migrations(APP);
    let refused = Fleet::migrate(config, &Waves::new()).await.unwrap_err();

    let RolloutError::Fleet(FleetError::Shard(ShardError::Newer { steps, .. })) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(steps, "maxscale-catalog/99 later");
    assert!(at(&nodes, 1).await.is_none(), "a node was migrated");
}
