use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_shard::{Claim, ClaimError, Claims, Engine, Fleet};
use maxscale_tests::eventually;
use tokio::task::JoinSet;

use crate::support::{LIMIT, Nodes, open};

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

async fn reservation_that_ran_out_is_taken_over_and_its_confirmation_lost(engine: Engine) {
    let bench = Bench::new(engine).await;
    let (slow, quick) = (bench.id(), bench.id());
    let claims = bench.claims(ring()).lease(Duration::from_millis(200));
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
