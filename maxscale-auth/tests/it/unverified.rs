//! Accounts whose sign-up nobody confirms go, and who wants the address gets it.

use std::time::Duration;

use maxscale_auth::{Accounts, AuthError, MailKind};
use maxscale_core::id::Id;
use maxscale_shard::{Claims, Engine, Sql, sql};
use maxscale_tests::eventually;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::mail::at;
use crate::support::{Bench, LIMIT, PASSWORD};

on_both!(
    account_that_nobody_confirms_goes_with_all_it_has,
    account_that_somebody_needs_stays,
    sign_up_ends_a_sweep_that_crashed,
    reconciler_ends_a_sweep_that_crashed,
    sweeps_that_race_sign_ups_lose_or_make_room,
    sweeps_that_race_magic_links_lose_or_leave_nothing,
);

const EMAIL: &str = "ada@example.org";
const DAY: Duration = Duration::from_secs(86_400);
/// Addresses of a race.
const MANY: usize = 12;

async fn sign_up(accounts: &Accounts, email: &str) {
    let signed_up = accounts.sign_up(email, PASSWORD, "Ada", &at(email)).await;
    signed_up.unwrap();
}

async fn owner(accounts: &Accounts, email: &str) -> Option<Id> {
    accounts.emails().find(email).await.unwrap()
}

impl Bench {
    /// How many accounts a sweep of all nodes deleted.
    async fn sweep(&self, accounts: &Accounts) -> u64 {
        let mut swept = 0;
        for node in self.router().nodes().iter() {
            swept += accounts.sweep(node).await.unwrap().unverified;
        }
        swept
    }

    /// Rows of accounts, tokens and addresses.
    async fn rows_left(&self) -> [i64; 3] {
        let mut left = [0; 3];
        let counts = [
            "SELECT count(*) AS n FROM ms_user",
            "SELECT count(*) AS n FROM ms_mail_token",
            "SELECT count(*) AS n FROM ms_claim",
        ];
        for (left, count) in left.iter_mut().zip(counts) {
            *left = self.counts(count).await.iter().sum();
        }
        left
    }

    /// Signs up with the newest link that was sent.
    async fn confirm(&self, accounts: &Accounts, email: &str) -> Id {
        let token = self.letters.token(MailKind::ConfirmSignUp, email).await;
        let confirmed = accounts.confirm_sign_up(&token, PASSWORD, &at("c")).await;
        confirmed.unwrap().user.id
    }

    /// Many accounts that are due, and their addresses.
    async fn due(&self, accounts: &Accounts) -> Vec<String> {
        let emails: Vec<String> = (0..MANY).map(|n| format!("{n}@example.org")).collect();
        for email in &emails {
            sign_up(accounts, email).await;
            self.letters.take(MailKind::ConfirmSignUp, email).await;
        }
        self.time.advance(8 * DAY);
        emails
    }

    /// Does `work` with each address while two sweep.
    async fn race<W>(&self, accounts: &Accounts, emails: &[String], work: impl Fn(String) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let mut running = JoinSet::new();
        for email in emails {
            running.spawn(work(email.clone()));
        }
        // The first of them has hashed by then.
        sleep(self.passwords.slowest()).await;
        let (one, other) = tokio::join!(self.sweep(accounts), self.sweep(accounts));
        running.join_all().await;
        let mut left = 0;
        for email in emails {
            left += u64::from(owner(accounts, email).await.is_some());
        }
        eprintln!("{one} + {other} of {MANY} were swept, {left} have an account");
        assert!(usize::try_from(one + other).unwrap() <= MANY);
    }
}

async fn account_that_nobody_confirms_goes_with_all_it_has(bench: Bench) {
    let accounts = bench.quiet();
    sign_up(&accounts, EMAIL).await;
    let first = owner(&accounts, EMAIL).await;
    let token = bench.letters.token(MailKind::ConfirmSignUp, EMAIL).await;
    bench.time.advance(7 * DAY);
    assert_eq!(bench.sweep(&accounts).await, 0);
    bench.time.advance(Duration::from_secs(1));
    assert_eq!(bench.sweep(&accounts).await, 1);
    assert_eq!(bench.rows_left().await, [0; 3]);
    assert_eq!(bench.sweep(&accounts).await, 0);

    let late = accounts.confirm_sign_up(&token, PASSWORD, &at("1")).await;
    assert!(matches!(late, Err(AuthError::MailToken)), "{late:?}");
    sign_up(&accounts, EMAIL).await;
    assert_ne!(Some(bench.confirm(&accounts, EMAIL).await), first);
}

async fn account_that_somebody_needs_stays(bench: Bench) {
    let accounts = bench.quiet();
    bench.ada(&accounts).await;
    let open = &bench.accounts;
    open.sign_up("open@example.org", PASSWORD, "Eve")
        .await
        .unwrap();
    sign_up(&accounts, "locked@example.org").await;
    let locked = owner(&accounts, "locked@example.org").await.unwrap();
    accounts.lock(locked).await.unwrap();
    sign_up(&accounts, "again@example.org").await;
    sign_up(&accounts, "gone@example.org").await;
    bench.time.advance(8 * DAY);
    sign_up(&accounts, "again@example.org").await;

    assert_eq!(bench.sweep(&accounts).await, 1);
    assert_eq!(bench.users().await, 4);
    assert_eq!(owner(&accounts, "gone@example.org").await, None);
    bench.confirm(&accounts, "again@example.org").await;
}

/// What a process left that was killed between its commit and the freeing.
async fn left_behind(bench: &Bench, accounts: &Accounts) {
    sign_up(accounts, EMAIL).await;
    let user = owner(accounts, EMAIL).await.unwrap();
    let emails = Claims::new(bench.router().clone(), bench.keys.clone(), "email");
    // What it gave up is due for the reconciler at once.
    let emails = emails.lease(Duration::from_millis(1));
    let claim = emails.held(EMAIL, user).await.unwrap().unwrap();
    let shard = bench.router().shard(user).unwrap();
    let mut tx = shard.begin().await.unwrap();
    for text in [
        "DELETE FROM ms_mail_token WHERE shard_id = $1 AND user_id = $2",
        "DELETE FROM ms_user WHERE shard_id = $1 AND user_id = $2",
    ] {
        let delete = Sql::both(text).statement().bind(shard.id()).bind(user);
        tx.execute(delete).await.unwrap();
    }
    emails.release_in(&mut tx, &claim).await.unwrap();
    tx.commit().await.unwrap();
    bench.letters.take(MailKind::ConfirmSignUp, EMAIL).await;
    assert_eq!(bench.rows_left().await, [0, 0, 1]);
}

async fn sign_up_ends_a_sweep_that_crashed(bench: Bench) {
    let accounts = bench.quiet();
    left_behind(&bench, &accounts).await;
    // Nobody is there who could log in, and nothing else goes wrong.
    let nobody = accounts.log_in(EMAIL, PASSWORD, &at("1")).await;
    assert!(matches!(nobody, Err(AuthError::Credentials)), "{nobody:?}");
    accounts.send_magic_link(EMAIL, &at("2")).await.unwrap();

    sign_up(&accounts, EMAIL).await;
    bench.confirm(&accounts, EMAIL).await;
    assert_eq!(bench.users().await, 1);
}

async fn reconciler_ends_a_sweep_that_crashed(bench: Bench) {
    let accounts = bench.quiet();
    left_behind(&bench, &accounts).await;
    eventually(LIMIT, async || {
        for node in bench.router().nodes().iter() {
            accounts.emails().reconcile(node).await.unwrap();
        }
        bench.rows_left().await == [0; 3]
    })
    .await;
}

async fn sweeps_that_race_sign_ups_lose_or_make_room(bench: Bench) {
    let accounts = bench.quiet();
    let emails = bench.due(&accounts).await;
    let again = |email: String| {
        let accounts = accounts.clone();
        async move { sign_up(&accounts, &email).await }
    };
    bench.race(&accounts, &emails, again).await;
    // Each was told that a mail is on its way, and has one that is good.
    for email in &emails {
        let user = bench.confirm(&accounts, email).await;
        assert_eq!(owner(&accounts, email).await, Some(user));
    }
    let users = i64::try_from(MANY).unwrap();
    assert_eq!(bench.users().await, users);
}

async fn sweeps_that_race_magic_links_lose_or_leave_nothing(bench: Bench) {
    let accounts = bench.quiet();
    let emails = bench.due(&accounts).await;
    let link = |email: String| {
        let accounts = accounts.clone();
        async move { accounts.send_magic_link(&email, &at("m")).await.unwrap() }
    };
    bench.race(&accounts, &emails, link).await;
    for email in &emails {
        if owner(&accounts, email).await.is_none() {
            continue;
        }
        // The account stayed for its link, which is good.
        let token = bench.letters.token(MailKind::LogIn, email).await;
        let begun = accounts.redeem_magic_link(&token, &at("r")).await;
        assert_eq!(begun.unwrap().user.email, *email);
    }
    let sent = bench.letters.all();
    assert!(
        sent.iter().all(|mail| mail.kind() != MailKind::LogIn),
        "{sent:?}"
    );
}

/// Waits until somebody in the databases waits for a lock.
async fn is_held_up(bench: &Bench) {
    let waiting = "SELECT count(*) AS n FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(LIMIT, async || {
        bench.counts(waiting).await.iter().sum::<i64>() > 0
    })
    .await;
}

fn sweeping(bench: &Bench, accounts: &Accounts) -> JoinHandle<u64> {
    let (router, accounts) = (bench.router().clone(), accounts.clone());
    tokio::spawn(async move {
        let mut swept = 0;
        for node in router.nodes().iter() {
            swept += accounts.sweep(node).await.unwrap().unverified;
        }
        swept
    })
}

/// What happens after a sweep has found that an account is due, and before it has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweep_looks_again_when_it_has_the_account() {
    let bench = Bench::new(Engine::Postgres).await;
    let accounts = bench.quiet();
    for (number, meanwhile) in [
        "UPDATE ms_user SET email_verified_at = 1 WHERE user_id = $1",
        "UPDATE ms_user SET password_hash = 'a hash' WHERE user_id = $1",
        "UPDATE ms_user SET status = 1 WHERE user_id = $1",
        "INSERT INTO ms_mail_token SELECT shard_id, user_id, '\\x01', 3, email, '', 1, 9e18
         FROM ms_user WHERE user_id = $1",
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("{number}@example.org");
        sign_up(&accounts, &email).await;
        let user = owner(&accounts, &email).await.unwrap();
        bench.time.advance(8 * DAY);
        let mut tx = bench.router().shard(user).unwrap().begin().await.unwrap();
        let hold = sql("SELECT user_id FROM ms_user WHERE user_id = $1 FOR UPDATE");
        tx.fetch_all(hold.bind(user)).await.unwrap();
        let sweeping = sweeping(&bench, &accounts);
        is_held_up(&bench).await;
        tx.execute(sql(meanwhile).bind(user)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(sweeping.await.unwrap(), 0, "{meanwhile}");
        assert!(accounts.user(user).await.unwrap().is_some(), "{meanwhile}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweep_that_is_cut_off_before_it_frees_the_address_leaves_it_to_a_sign_up() {
    let bench = Bench::new(Engine::Postgres).await;
    let accounts = bench.quiet();
    sign_up(&accounts, EMAIL).await;
    bench.letters.take(MailKind::ConfirmSignUp, EMAIL).await;
    bench.time.advance(8 * DAY);
    let mut locks = Vec::new();
    for node in bench.router().nodes().iter() {
        let mut tx = node.database().begin().await.unwrap();
        let lock = sql("SELECT owner FROM ms_claim FOR UPDATE");
        tx.fetch_all(lock).await.unwrap();
        locks.push(tx);
    }
    let sweeping = sweeping(&bench, &accounts);
    is_held_up(&bench).await;
    assert_eq!(bench.rows_left().await, [0, 0, 1]);
    sweeping.abort();
    let end = "SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    bench.counts(end).await;
    for tx in locks {
        tx.rollback().await.unwrap();
    }

    assert!(owner(&accounts, EMAIL).await.is_some());
    sign_up(&accounts, EMAIL).await;
    bench.confirm(&accounts, EMAIL).await;
}
