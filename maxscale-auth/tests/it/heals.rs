//! Sign-ups that something stops half-way.

use maxscale_auth::AuthError;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;
use maxscale_shard::{Claims, Engine, Tx, sql};
use maxscale_tests::eventually;

use crate::support::{Bench, LIMIT, PASSWORD};

on_both!(
    crash_before_the_insert_leaves_the_email_free,
    crash_between_insert_and_confirm_heals_for_the_account_that_is_there,
    email_is_free_at_once_when_the_insert_failed,
);

const EMAIL: &str = "ada@example.org";

/// Ends the leases of who has reserved an email and not got it yet; of how many.
async fn end_lease(bench: &Bench) -> u64 {
    let end = sql("UPDATE ms_claim SET lease_until = 0 WHERE NOT held");
    let mut ended = 0;
    for node in bench.router().nodes().iter() {
        ended += node.database().execute(end.clone()).await.unwrap();
    }
    ended
}

/// What a process left behind that was killed after it reserved the email.
async fn left_behind(bench: &Bench, written: bool) -> Id {
    let emails = Claims::new(bench.router().clone(), bench.keys.clone(), "email");
    let emails = emails.lease(LIMIT);
    let owner = bench.ids.draw(VirtualShard::new(3));
    let claim = emails.reserve(EMAIL, owner).await.unwrap();
    if written {
        let row = sql(
            "INSERT INTO ms_user (shard_id, user_id, email, name, password_hash, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        );
        let row = row.bind(owner.shard()).bind(owner).bind(EMAIL);
        let row = row.bind("Ada").bind("?").bind(0_i64);
        let mut tx = bench.router().shard(owner).unwrap().begin().await.unwrap();
        tx.execute(row).await.unwrap();
        emails.write_in(&mut tx, &claim).await.unwrap();
        tx.commit().await.unwrap();
    }
    // While it may still come back, and be it only for a moment, the email is taken.
    let early = bench.accounts.log_in(EMAIL, PASSWORD).await;
    assert!(matches!(early, Err(AuthError::Credentials)), "{early:?}");
    // Then its lease runs out.
    assert_eq!(end_lease(bench).await, 1);
    owner
}

async fn crash_before_the_insert_leaves_the_email_free(bench: Bench) {
    let orphan = left_behind(&bench, false).await;
    let ada = eventually(LIMIT, async || {
        let tried = bench.accounts.sign_up(EMAIL, PASSWORD, "Ada").await;
        assert!(
            matches!(tried, Ok(_) | Err(AuthError::EmailTaken)),
            "{tried:?}"
        );
        tried
    })
    .await;

    assert_ne!(ada.user.id, orphan);
    assert_eq!(
        bench.accounts.log_in(EMAIL, PASSWORD).await.unwrap().user,
        ada.user
    );
}

async fn crash_between_insert_and_confirm_heals_for_the_account_that_is_there(bench: Bench) {
    let owner = left_behind(&bench, true).await;
    let emails = Claims::new(bench.router().clone(), bench.keys.clone(), "email");
    eventually(LIMIT, async || {
        let tried = bench.accounts.sign_up(EMAIL, PASSWORD, "Ada").await;
        assert!(matches!(tried, Err(AuthError::EmailTaken)), "{tried:?}");
        emails.find(EMAIL).await.unwrap() == Some(owner)
    })
    .await;
    let users = bench.counts("SELECT count(*) AS n FROM ms_user").await;
    assert_eq!(users.iter().sum::<i64>(), 1);
}

async fn email_is_free_at_once_when_the_insert_failed(bench: Bench) {
    bench
        .everywhere("ALTER TABLE ms_session RENAME TO hidden")
        .await;
    let failed = bench.accounts.sign_up(EMAIL, PASSWORD, "Ada").await;
    assert!(matches!(failed, Err(AuthError::Shard(_))), "{failed:?}");
    assert_eq!(
        bench.counts("SELECT count(*) AS n FROM ms_user").await,
        [0, 0]
    );

    bench
        .everywhere("ALTER TABLE hidden RENAME TO ms_session")
        .await;

    bench
        .accounts
        .sign_up(EMAIL, PASSWORD, "Ada")
        .await
        .unwrap();
}

/// A process that slept through its lease finds another owner and leaves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_up_that_lost_its_email_takes_its_rows_back() {
    let bench = Bench::new(Engine::Postgres).await;
    let mut locks: Vec<Tx> = Vec::new();
    for node in bench.router().nodes().iter() {
        let mut tx = node.database().begin().await.unwrap();
        tx.execute(sql("LOCK TABLE ms_user IN EXCLUSIVE MODE"))
            .await
            .unwrap();
        locks.push(tx);
    }
    let accounts = bench.accounts.clone();
    let slow = tokio::spawn(async move { accounts.sign_up(EMAIL, PASSWORD, "Slow").await });

    // It has reserved and waits for the lock; its lease runs out, and another one
    // becomes the owner.
    let other = bench.ids.draw(VirtualShard::new(0));
    eventually(LIMIT, async || end_lease(&bench).await == 1).await;
    let emails = Claims::new(bench.router().clone(), bench.keys.clone(), "email");
    let claim = emails.reserve(EMAIL, other).await.unwrap();
    emails.confirm(&claim).await.unwrap();
    for tx in locks {
        tx.rollback().await.unwrap();
    }

    let lost = slow.await.unwrap();
    assert!(matches!(lost, Err(AuthError::EmailTaken)), "{lost:?}");
    assert_eq!(
        bench.counts("SELECT count(*) AS n FROM ms_user").await,
        [0, 0]
    );
    assert_eq!(
        bench.counts("SELECT count(*) AS n FROM ms_session").await,
        [0, 0]
    );
}
