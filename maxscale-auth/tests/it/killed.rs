//! Many processes sign up with the same addresses and are killed at any moment.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use maxscale_auth::{
    Accounts, AuthError, MIGRATIONS, Mail, Outbox, PasswordPool, PasswordPoolConfig,
};
use maxscale_core::clock::Clock;
use maxscale_core::id::{IdGenerator, KeyspaceTag};
use maxscale_shard::{DatabaseOptions, Fleet, FleetConfig, Tx, fleet::NodeSpec, sql};
use maxscale_tests::{Database, PostgresServer, Process, eventually};
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::letters::unlimited;
use crate::mail::at;
use crate::support::{LIMIT, PASSWORD, elsewhere, keys, variable};

const PROCESSES: usize = 4;
/// Kills at most that are added for one in the act.
const MORE: usize = 100;
const URLS: &str = "MAXSCALE_TEST_SIGN_UP_URLS";
const EMAILS: &str = "MAXSCALE_TEST_SIGN_UP_EMAILS";
const TIMES: &str = "MAXSCALE_TEST_SIGN_UP_TIMES";

struct NoMail;

impl Outbox for NoMail {
    type Error = Infallible;

    async fn put(&self, _: &mut Tx, _: Mail) -> Result<(), Infallible> {
        Ok(())
    }
}

async fn fleet(urls: &str) -> Fleet {
    let nodes = (1..).zip(urls.split(','));
    let nodes: Vec<NodeSpec> = nodes
        .map(|(at, url)| NodeSpec::parse(url, at).unwrap())
        .collect();
    let mut options = DatabaseOptions::default();
    options.connections = 3;
    options.acquire_timeout = 3 * LIMIT;
    options.lock_timeout = 3 * LIMIT;
    options.statement_timeout = 3 * LIMIT;
    let config = FleetConfig::new(nodes).shards(64).options(options);
    Fleet::open(config.migrations(MIGRATIONS)).await.unwrap()
}

async fn accounts(fleet: &Fleet) -> Accounts {
    let mut patient = PasswordPoolConfig::default();
    patient.wait = 30 * LIMIT;
    let passwords = PasswordPool::new(patient).await.unwrap();
    let ids = Arc::new(IdGenerator::new(Clock::system(), KeyspaceTag::default()));
    Accounts::builder(fleet.router().clone(), ids, keys(), passwords)
        .base_url("https://app.example")
        .outbox(NoMail)
        .attempts(unlimited())
        .mails(unlimited())
        .build()
        .unwrap()
}

fn email(number: usize) -> String {
    format!("user-{number}@example.org")
}

/// One of the processes; run by the tests below and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
async fn applicant() {
    let told = (variable(URLS), variable(EMAILS), variable(TIMES));
    let (Some(urls), Some(emails), Some(times)) = told else {
        return;
    };
    let (emails, times): (usize, usize) = (emails.parse().unwrap(), times.parse().unwrap());
    let fleet = fleet(&urls).await;
    let accounts = accounts(&fleet).await;
    let mut reached = 0;
    for number in 0..emails {
        let mut signing_up = JoinSet::new();
        for _ in 0..times {
            let accounts = accounts.clone();
            signing_up.spawn(async move {
                let from = elsewhere();
                accounts
                    .sign_up(&email(number), PASSWORD, "Ada", &at(&from))
                    .await
            });
        }
        for answer in signing_up.join_all().await {
            match answer {
                Ok(_) => reached += 1,
                // A killed process has the address reserved.
                Err(AuthError::Busy) => reached += 1,
                Err(error) => println!("{error:?}"),
            }
        }
    }
    println!("reached {reached} of {}", emails * times);
    assert!(reached >= emails * times * 9 / 10);
}

fn start(urls: &str, emails: usize, times: usize) -> Process {
    Process::builder(std::env::current_exe().unwrap())
        .args(["killed::applicant", "--exact", "--ignored", "--nocapture"])
        .env(URLS, urls)
        .env(EMAILS, emails.to_string())
        .env(TIMES, (times / PROCESSES).to_string())
        .start()
}

async fn ids(fleet: &Fleet, text: &'static str) -> Vec<Uuid> {
    let mut found = Vec::new();
    for node in fleet.router().nodes().iter() {
        for row in node.database().fetch_all(sql(text)).await.unwrap() {
            found.push(row.get("id").unwrap());
        }
    }
    found.sort_unstable();
    found
}

/// `times` sign-ups for each of `emails` addresses, in four processes of which `kills` die.
async fn race(databases: &[Database], emails: usize, times: usize, kills: usize) {
    let urls: Vec<String> = databases.iter().map(Database::url).collect();
    let urls = urls.join(",");
    let fleet = fleet(&urls).await;
    let mut running: Vec<Process> = (0..PROCESSES)
        .map(|_| start(&urls, emails, times))
        .collect();
    let (mut killed, mut in_the_act) = (0, 0);
    // Where they are done too soon, more of them are killed, and sooner.
    while killed < kills || in_the_act == 0 {
        assert!(killed < kills + MORE, "they are always done before");
        let dice = Uuid::new_v4();
        let [at, pause, ..] = dice.as_bytes();
        let pause = match killed < kills {
            true => Duration::from_millis(300 + 5 * u64::from(*pause)),
            false => Duration::from_millis(u64::from(*pause)),
        };
        sleep(pause).await;
        killed += 1;
        let at = usize::from(*at) % PROCESSES;
        in_the_act += usize::from(running[at].is_running());
        running[at].kill();
        running[at] = start(&urls, emails, times);
    }
    for process in &running {
        assert!(
            process.wait(30 * LIMIT).await.success(),
            "{:?}",
            process.lines()
        );
    }

    // What was killed half-way is older than its lease, and the reconciler comes.
    let end = sql("UPDATE ms_claim SET lease_until = 0 WHERE NOT held");
    let accounts = accounts(&fleet).await;
    let mut left = 0;
    for node in fleet.router().nodes().iter() {
        left += node.database().execute(end.clone()).await.unwrap();
    }
    eventually(LIMIT, async || {
        for node in fleet.router().nodes().iter() {
            accounts.emails().reconcile(node).await.unwrap();
        }
        ids(&fleet, "SELECT owner AS id FROM ms_claim WHERE NOT held")
            .await
            .is_empty()
    })
    .await;
    eprintln!("{in_the_act} of {killed} kills in the act, which left {left} reservations");

    // Of an address that was reserved by who was killed there may be no account yet, if all
    // others came while it was: whoever comes now has one.
    for number in 0..emails {
        let (address, from) = (email(number), elsewhere());
        let client = at(&from);
        let again = accounts.sign_up(&address, PASSWORD, "Ada", &client);
        again.await.unwrap();
    }
    let mut owners = Vec::new();
    for number in 0..emails {
        let owner = accounts.emails().find(&email(number)).await.unwrap();
        owners.extend(owner.map(|it| it.as_uuid()));
    }
    owners.sort_unstable();
    assert_eq!(owners.len(), emails, "each address has an account");
    // And no account is there but these, nor a token of another one.
    assert_eq!(
        ids(&fleet, "SELECT user_id AS id FROM ms_user").await,
        owners
    );
    assert_eq!(
        ids(&fleet, "SELECT owner AS id FROM ms_claim").await,
        owners
    );
    let tokens = ids(&fleet, "SELECT DISTINCT user_id AS id FROM ms_mail_token").await;
    assert_eq!(tokens, owners);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_ups_that_are_killed_leave_one_account_and_no_orphan() {
    let server = PostgresServer::shared().await;
    let mut databases = Vec::new();
    for _ in 0..4 {
        databases.push(server.database().await);
    }
    race(&databases, 6, 16, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a thousand sign-ups for each of two addresses on 16 databases of 4 servers; run by name with --ignored"]
async fn a_thousand_sign_ups_that_are_killed_leave_one_account_and_no_orphan() {
    let (mut servers, mut databases) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let server = PostgresServer::start().await;
        for _ in 0..4 {
            databases.push(server.database().await);
        }
        servers.push(server);
    }
    race(&databases, 2, 1_000, 8).await;
}
