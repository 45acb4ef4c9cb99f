use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_shard::{Claim, ClaimError, Claims, Engine, Fleet, sql};
use maxscale_tests::eventually;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{LIMIT, Nodes, note, open};

on_both!(
    every_value_has_one_owner_after_a_race,
    reservation_that_ran_out_is_taken_over_and_its_confirmation_lost,
    released_value_is_free,
    value_is_found_only_when_held,
    confirmation_may_be_repeated,
    old_key_still_finds_and_blocks,
    reservation_under_the_old_key_blocks_the_new_one,
    reservation_that_ran_out_under_the_old_key_is_lost,
    processes_with_the_keys_in_another_order_agree_on_one_owner,
    kinds_do_not_meet,
    reservation_whose_owner_was_written_is_confirmed_for_it,
    slow_writer_fails_once_its_reservation_was_taken_over,
    writer_that_is_not_done_is_waited_for,
    unknown_outcome_is_resolved_to_what_the_owners_shard_says,
    hostile_value_is_refused_and_leaves_nothing,
    mark_belongs_on_the_shard_of_the_owner,
    reconciler_ends_what_was_left_half_way,
    value_that_was_given_up_is_freed_by_the_reconciler_and_no_sooner_taken,
);

struct Bench {
    fleet: Fleet,
    ids: IdGenerator,
    _nodes: Nodes,
}

impl Bench {
    async fn new(engine: Engine) -> Self {
        let nodes = Nodes::fresh(engine, 2).await;
        Self {
            fleet: open(nodes.config()).await,
            ids: IdGenerator::new(Clock::system(), KeyspaceTag::default()),
            _nodes: nodes,
        }
    }

    fn claims(&self, keys: KeyRing) -> Claims {
        Claims::new(self.fleet.router().clone(), Arc::new(keys), "email")
    }

    fn id(&self) -> Id {
        self.ids.draw(VirtualShard::new(3))
    }
}

fn key(byte: u8) -> Secret {
    Secret::new([byte; 32])
}

fn ring() -> KeyRing {
    KeyRing::new(1, key(1)).unwrap()
}

fn rotated() -> KeyRing {
    KeyRing::new(2, key(2))
        .unwrap()
        .with_old(1, key(1))
        .unwrap()
}

/// Knows the next key and does not sign with it yet: the step before [`rotated`].
fn prepared() -> KeyRing {
    KeyRing::new(1, key(1))
        .unwrap()
        .with_old(2, key(2))
        .unwrap()
}

async fn take(claims: &Claims, value: &str, owner: Id) -> Result<(), ClaimError> {
    let claim = claims.reserve(value, owner).await?;
    claims.confirm(&claim).await
}

fn taken<T>(result: &Result<T, ClaimError>) -> bool {
    matches!(result, Err(ClaimError::Taken))
}

/// Until `owner` may take the value: once the lease of another has run out.
async fn take_over(claims: &Claims, value: &str, owner: Id) -> Claim {
    eventually(LIMIT, async || claims.reserve(value, owner).await).await
}

async fn every_value_has_one_owner_after_a_race(engine: Engine) {
    const VALUES: u32 = 200;
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring());
    let mut racers = JoinSet::new();
    for racer in 0..32_u32 {
        let (claims, owner) = (claims.clone(), bench.id());
        racers.spawn(async move {
            let mut won = Vec::new();
            for step in 0..VALUES {
                // Each begins elsewhere and meets all others.
                let value = (step + racer * 6) % VALUES;
                match take(&claims, &value.to_string(), owner).await {
                    Ok(_) => won.push((value, owner)),
                    Err(ClaimError::Taken) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            won
        });
    }
    let mut won: Vec<(u32, Id)> = racers.join_all().await.into_iter().flatten().collect();
    won.sort();

    let values: Vec<u32> = won.iter().map(|(value, _)| *value).collect();
    assert_eq!(values, (0..VALUES).collect::<Vec<_>>());
    for (value, owner) in won {
        assert_eq!(claims.find(&value.to_string()).await.unwrap(), Some(owner));
    }
}

async fn hostile_value_is_refused_and_leaves_nothing(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring());
    let long = "a".repeat(Claims::MAX_LEN + 1);
    for value in ["", "a\0b", "a\r\nb", "\u{85}", &long] {
        let refused = claims.reserve(value, bench.id()).await;
        assert!(matches!(refused, Err(ClaimError::Value)), "{value:?}");
    }
    for value in [
        "'; DROP TABLE ms_claim; --",
        "$1",
        "{}",
        "ä\u{202e}",
        &long[1..],
    ] {
        let claim = claims.reserve(value, bench.id()).await.unwrap();
        assert!(
            claims.reserve(value, bench.id()).await.is_err(),
            "{value:?}"
        );
        claims.release(&claim).await.unwrap();
    }
    for node in bench.fleet.router().nodes().iter() {
        let left = node.database().fetch_all(sql("SELECT 1 FROM ms_claim"));
        assert!(left.await.unwrap().is_empty());
    }
}

async fn reservation_that_ran_out_is_taken_over_and_its_confirmation_lost(engine: Engine) {
    let bench = Bench::new(engine).await;
    let (slow, quick) = (bench.id(), bench.id());
    // Nobody is held up for so long.
    let claims = bench.claims(ring()).lease(Duration::from_secs(3));
    let late = claims.reserve("v", slow).await.unwrap();
    assert!(taken(&claims.reserve("v", quick).await));

    let claim = take_over(&claims, "v", quick).await;
    let lost = claims.confirm(&late).await;
    assert!(matches!(lost, Err(ClaimError::Lost)), "{lost:?}");
    claims.confirm(&claim).await.unwrap();

    // Who lost gives nothing up that is another's.
    claims.release(&late).await.unwrap();
    assert_eq!(claims.find("v").await.unwrap(), Some(quick));
}

async fn released_value_is_free(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring());
    let reserved = claims.reserve("v", bench.id()).await.unwrap();
    claims.release(&reserved).await.unwrap();
    let held = claims.reserve("v", bench.id()).await.unwrap();
    claims.confirm(&held).await.unwrap();
    claims.release(&held).await.unwrap();

    assert_eq!(claims.find("v").await.unwrap(), None);
    take(&claims, "v", bench.id()).await.unwrap();
}

async fn value_is_found_only_when_held(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring());
    let owner = bench.id();
    assert_eq!(claims.find("v").await.unwrap(), None);
    let claim = claims.reserve("v", owner).await.unwrap();
    assert_eq!(claims.find("v").await.unwrap(), None);

    claims.confirm(&claim).await.unwrap();

    assert_eq!(claims.find("v").await.unwrap(), Some(owner));
    assert_eq!(claims.find("w").await.unwrap(), None);
}

async fn confirmation_may_be_repeated(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring());
    let claim = claims.reserve("v", bench.id()).await.unwrap();

    claims.confirm(&claim).await.unwrap();
    claims.confirm(&claim).await.unwrap();
}

async fn old_key_still_finds_and_blocks(engine: Engine) {
    let bench = Bench::new(engine).await;
    let owner = bench.id();
    take(&bench.claims(ring()), "v", owner).await.unwrap();

    let claims = bench.claims(rotated());

    assert_eq!(claims.find("v").await.unwrap(), Some(owner));
    assert!(taken(&claims.reserve("v", bench.id()).await));
    // The refused attempt left nothing behind.
    assert_eq!(claims.find("v").await.unwrap(), Some(owner));
    take(&claims, "w", bench.id()).await.unwrap();
}

async fn reservation_under_the_old_key_blocks_the_new_one(engine: Engine) {
    let bench = Bench::new(engine).await;
    let (old, new) = (bench.claims(ring()), bench.claims(rotated()));
    let owner = bench.id();
    let claim = old.reserve("v", owner).await.unwrap();

    assert!(taken(&new.reserve("v", bench.id()).await));

    old.confirm(&claim).await.unwrap();
    assert_eq!(new.find("v").await.unwrap(), Some(owner));
}

async fn reservation_that_ran_out_under_the_old_key_is_lost(engine: Engine) {
    let bench = Bench::new(engine).await;
    let old = bench.claims(ring()).lease(Duration::from_millis(200));
    let new = bench.claims(rotated());
    let late = old.reserve("v", bench.id()).await.unwrap();

    let owner = bench.id();
    let claim = take_over(&new, "v", owner).await;
    let lost = old.confirm(&late).await;
    assert!(matches!(lost, Err(ClaimError::Lost)), "{lost:?}");
    new.confirm(&claim).await.unwrap();
    assert_eq!(new.find("v").await.unwrap(), Some(owner));
}

/// While a new key is rolled out, some sign with the old one and some with the new.
async fn processes_with_the_keys_in_another_order_agree_on_one_owner(engine: Engine) {
    let bench = Bench::new(engine).await;
    let sides = [bench.claims(prepared()), bench.claims(rotated())];
    for round in 0..100 {
        let value = round.to_string();
        let mut racers = JoinSet::new();
        for side in 0..4_usize {
            let (claims, owner, value) = (sides[side % 2].clone(), bench.id(), value.clone());
            racers.spawn(async move { take(&claims, &value, owner).await.map(|()| owner) });
        }
        let results = racers.join_all().await;
        let winners: Vec<&Id> = results.iter().flatten().collect();
        // Two that meet may both stand back; never do both win.
        assert!(winners.len() <= 1, "round {round}: {winners:?}");
        assert!(results.iter().all(|r| r.is_ok() || taken(r)), "{results:?}");
        for side in &sides {
            assert_eq!(
                side.find(&value).await.unwrap().as_ref(),
                winners.first().copied()
            );
        }
        // Nothing is left that would block the next one.
        if winners.is_empty() {
            take(&sides[0], &value, bench.id()).await.unwrap();
        }
    }
}

async fn kinds_do_not_meet(engine: Engine) {
    let bench = Bench::new(engine).await;
    let names = Claims::new(bench.fleet.router().clone(), Arc::new(ring()), "name");
    take(&bench.claims(ring()), "v", bench.id()).await.unwrap();

    assert_eq!(names.find("v").await.unwrap(), None);
    take(&names, "v", bench.id()).await.unwrap();
}

const SHORT: Duration = Duration::from_millis(200);

/// What owns a value, written with its mark.
async fn write(bench: &Bench, claims: &Claims, claim: &Claim, owner: Id) -> Result<(), ClaimError> {
    let shard = bench.fleet.router().shard(owner).unwrap();
    let mut tx = shard.begin().await?;
    let row = uuid::Uuid::new_v4().as_u128() & 0xffff_ffff;
    tx.execute(note(1, i64::try_from(row).unwrap())).await?;
    claims.write_in(&mut tx, claim).await?;
    tx.commit().await?;
    Ok(())
}

/// How many rows of owners there are, on all nodes.
async fn written(bench: &Bench) -> i64 {
    count(bench, "SELECT count(*) AS n FROM note").await
}

async fn count(bench: &Bench, text: &'static str) -> i64 {
    let mut sum = 0;
    for node in bench.fleet.router().nodes().iter() {
        let row = node.database().fetch_optional(sql(text)).await.unwrap();
        sum += row.unwrap().get::<i64>("n").unwrap();
    }
    sum
}

async fn reconciled(bench: &Bench, claims: &Claims) -> (u64, u64, u64, u64) {
    let (mut confirmed, mut freed, mut released, mut forgotten) = (0, 0, 0, 0);
    for node in bench.fleet.router().nodes().iter() {
        let done = claims.reconcile(node).await.unwrap();
        confirmed += done.confirmed;
        freed += done.freed;
        released += done.released;
        forgotten += done.forgotten;
    }
    (confirmed, freed, released, forgotten)
}

async fn reservation_whose_owner_was_written_is_confirmed_for_it(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring()).lease(SHORT);
    let owner = bench.id();
    let claim = claims.reserve("v", owner).await.unwrap();
    write(&bench, &claims, &claim, owner).await.unwrap();
    // Killed before it confirmed. Who comes next finds out.
    eventually(LIMIT, async || {
        assert!(taken(&claims.reserve("v", bench.id()).await));
        claims.find("v").await.unwrap() == Some(owner)
    })
    .await;
}

async fn slow_writer_fails_once_its_reservation_was_taken_over(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring()).lease(SHORT);
    let (slow, quick) = (bench.id(), bench.ids.draw(VirtualShard::new(9)));
    let late = claims.reserve("v", slow).await.unwrap();
    let claim = take_over(&claims, "v", quick).await;

    let lost = write(&bench, &claims, &late, slow).await;
    assert!(matches!(lost, Err(ClaimError::Lost)), "{lost:?}");
    assert_eq!(written(&bench).await, 0);
    write(&bench, &claims, &claim, quick).await.unwrap();
    claims.confirm(&claim).await.unwrap();
    assert_eq!(claims.find("v").await.unwrap(), Some(quick));
}

async fn writer_that_is_not_done_is_waited_for(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring()).lease(Duration::from_millis(1));
    let owner = bench.id();
    let claim = claims.reserve("v", owner).await.unwrap();
    let shard = bench.fleet.router().shard(owner).unwrap();
    let mut tx = shard.begin().await.unwrap();
    claims.write_in(&mut tx, &claim).await.unwrap();
    let next = bench.id();
    let mut waits = Box::pin(claims.reserve("v", next));
    assert!(timeout(SHORT, &mut waits).await.is_err());
    tx.commit().await.unwrap();

    let refused = timeout(LIMIT, waits).await.unwrap();
    assert!(taken(&refused), "{refused:?}");
    assert_eq!(claims.find("v").await.unwrap(), Some(owner));
}

async fn unknown_outcome_is_resolved_to_what_the_owners_shard_says(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring());
    let owner = bench.id();
    let stored = claims.reserve("stored", owner).await.unwrap();
    write(&bench, &claims, &stored, owner).await.unwrap();
    assert!(claims.resolve(&stored).await.unwrap());
    assert!(claims.resolve(&stored).await.unwrap());
    assert_eq!(claims.find("stored").await.unwrap(), Some(owner));

    let not = claims.reserve("not", owner).await.unwrap();
    assert!(!claims.resolve(&not).await.unwrap());
    take(&claims, "not", bench.id()).await.unwrap();
    let late = write(&bench, &claims, &not, owner).await;
    assert!(matches!(late, Err(ClaimError::Lost)), "{late:?}");
}

async fn mark_belongs_on_the_shard_of_the_owner(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring());
    let claim = claims.reserve("v", bench.id()).await.unwrap();
    let elsewhere = bench.fleet.router().virtual_shard(VirtualShard::new(4));
    let mut tx = elsewhere.unwrap().begin().await.unwrap();
    let refused = claims.write_in(&mut tx, &claim).await;
    assert!(matches!(refused, Err(ClaimError::Elsewhere)), "{refused:?}");
    tx.rollback().await.unwrap();
    let mut nowhere = bench.fleet.catalog().begin().await.unwrap();
    let refused = claims.write_in(&mut nowhere, &claim).await;
    assert!(matches!(refused, Err(ClaimError::Elsewhere)), "{refused:?}");
}

async fn reconciler_ends_what_was_left_half_way(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring()).lease(SHORT);
    let owner = bench.id();
    let unwritten = claims.reserve("unwritten", owner).await.unwrap();
    let unconfirmed = claims.reserve("unconfirmed", owner).await.unwrap();
    write(&bench, &claims, &unconfirmed, owner).await.unwrap();
    let other = bench.claims(ring()).reserve("fresh", owner).await.unwrap();
    // Nothing is due yet.
    let (mut confirmed, mut freed, mut forgotten) = (0, 0, 0);
    eventually(LIMIT, async || {
        let done = reconciled(&bench, &claims).await;
        confirmed += done.0;
        freed += done.1;
        forgotten += done.3;
        forgotten == 1 && freed == 1
    })
    .await;
    // By its reservation or by its mark, whichever was due first.
    assert!(confirmed <= 1);
    assert_eq!(claims.find("unconfirmed").await.unwrap(), Some(owner));
    assert!(matches!(
        claims.confirm(&unwritten).await,
        Err(ClaimError::Lost)
    ));
    claims.confirm(&other).await.unwrap();
    assert_eq!(
        count(&bench, "SELECT count(*) AS n FROM ms_claim WHERE NOT held").await,
        0
    );
    // The tombstone outlasts every writer that could still come.
    assert_eq!(
        count(&bench, "SELECT count(*) AS n FROM ms_claim_mark").await,
        1
    );
    assert_eq!(reconciled(&bench, &claims).await, (0, 0, 0, 0));
}

async fn value_that_was_given_up_is_freed_by_the_reconciler_and_no_sooner_taken(engine: Engine) {
    let bench = Bench::new(engine).await;
    let claims = bench.claims(ring()).lease(SHORT);
    let owner = bench.id();
    let claim = claims.reserve("v", owner).await.unwrap();
    write(&bench, &claims, &claim, owner).await.unwrap();
    claims.confirm(&claim).await.unwrap();
    assert!(claims.held("v", bench.id()).await.unwrap().is_none());

    let held = claims.held("v", owner).await.unwrap().unwrap();
    let mut tx = bench
        .fleet
        .router()
        .shard(owner)
        .unwrap()
        .begin()
        .await
        .unwrap();
    claims.release_in(&mut tx, &held).await.unwrap();
    tx.commit().await.unwrap();
    // Killed before it released.
    assert!(taken(&claims.reserve("v", bench.id()).await));
    eventually(LIMIT, async || reconciled(&bench, &claims).await.2 == 1).await;
    take(&claims, "v", bench.id()).await.unwrap();
    // Who released already has nothing more to release.
    claims.release(&held).await.unwrap();
    assert!(claims.find("v").await.unwrap().is_some());
}
