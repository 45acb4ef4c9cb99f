//! A process that is killed (`kill -9`) when it has committed that sessions end, and
//! before it told Redis: another one does.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread;

use maxscale_auth::session::{RedisSessions, SessionStore, Sessions, SqlSessions};
use maxscale_auth::{Accounts, Mail, MailKind, Outbox, PasswordPool, PasswordPoolConfig};
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::id::{IdGenerator, KeyspaceTag};
use maxscale_core::redis::Redis;
use maxscale_shard::{Engine, Router, Tx};
use maxscale_tests::{Process, eventually};
use tokio::time::Instant;

use crate::copies::{Copied, HOUR, connect, is_settled, is_there};
use crate::letters::unlimited;
use crate::mail::at;
use crate::support::{Bench, LIMIT, PASSWORD, keys, nodes_of, open, variable};

const NODES: &str = "MAXSCALE_TEST_NODES";
const REDIS: &str = "MAXSCALE_TEST_REDIS";
const TOKEN: &str = "MAXSCALE_TEST_TOKEN";

const EMAIL: &str = "ada@example.org";
const NEW: &str = "another horse battery";

/// Stands still when the transaction of a mail was committed, and its thread with it.
struct Stops;

impl Outbox for Stops {
    type Error = Infallible;

    #[expect(clippy::print_stdout, reason = "how a program tells its test")]
    async fn put(&self, tx: &mut Tx, _: Mail) -> Result<(), Infallible> {
        tx.after_commit(|| {
            println!("committed");
            loop {
                thread::park();
            }
        });
        Ok(())
    }
}

/// Copies that look for what others left untold once an hour.
fn alone(router: &Router, clock: &Clock, redis: Redis) -> RedisSessions<SqlSessions> {
    let rows = SqlSessions::new(router.clone(), clock.clone());
    let copies = RedisSessions::builder(rows, [redis]).clock(clock.clone());
    copies.wait(LIMIT).sweep_every(HOUR).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program that another test starts"]
async fn program_that_resets_a_password() {
    let Some(nodes) = variable(NODES) else { return };
    let urls: Vec<String> = nodes.split(' ').map(str::to_owned).collect();
    let fleet = open(nodes_of(&urls)).await;
    let (clock, _) = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
    let ids = Arc::new(IdGenerator::new(clock.clone(), KeyspaceTag::default()));
    let redis = connect(&variable(REDIS).unwrap()).await;
    let store = alone(fleet.router(), &clock, redis);
    let sessions = Sessions::builder(store, keys(), ids.clone()).clock(clock.clone());
    let passwords = PasswordPool::new(PasswordPoolConfig::default()).await;
    let accounts = Accounts::builder(fleet.router().clone(), ids, keys(), passwords.unwrap())
        .clock(clock)
        .sessions(sessions.build())
        .base_url("https://app.example")
        .outbox(Stops)
        .attempts(unlimited())
        .build()
        .unwrap();
    let token = variable(TOKEN).unwrap();
    let reset = accounts.reset_password(&token, NEW, &at("1")).await;
    println!("done {reset:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_a_killed_process_ended_are_told_by_another() {
    let copied = Copied::of(Bench::new(Engine::Postgres).await, 1).await;
    let bench = &copied.bench;
    let accounts = bench.quiet();
    let (ada, own) = bench.ada(&accounts).await;
    let url = copied.servers[0].url();
    let reader = alone(bench.router(), &bench.clock, connect(&url).await);
    let found = bench.rows().load(ada.user.id, own.session()).await;
    let (session, _) = found.unwrap().unwrap();
    copied.copy(&reader, &session).await;

    accounts.forgot_password(EMAIL, &at("1")).await.unwrap();
    let token = bench.letters.token(MailKind::ResetPassword, EMAIL).await;
    let name = "half_told::program_that_resets_a_password";
    let program = Process::builder(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(NODES, bench.urls.join(" "))
        .env(REDIS, url)
        .env(TOKEN, &token)
        .start();
    program.wait_for_line("committed", LIMIT).await;
    program.kill();
    // It is final, and nobody was told: readers of the copy do not know it yet.
    accounts.log_in(EMAIL, NEW, &at("2")).await.unwrap();
    assert!(is_there(&reader, &session).await);

    let begun = Instant::now();
    let other = copied.store();
    eventually(LIMIT, async || !is_there(&reader, &session).await).await;
    eprintln!("told {:?} after another process began", begun.elapsed());
    assert!(!is_there(&other, &session).await);
    is_settled(bench).await;
    assert!(!is_there(&reader, &session).await);
    let old = accounts.log_in(EMAIL, PASSWORD, &at("3")).await;
    assert!(old.is_err());
}
