//! What a session takes in Redis, and what a request asks of it.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::{Builder, Client, ClientLike as _, Config, Value};
use fred::types::{ClusterHash, CustomCommand};
use maxscale_auth::session::{Level, Methods, Proof, RedisSessions, SqlSessions};
use maxscale_auth::{MIGRATIONS, SessionToken, Sessions};
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::id::IdGenerator;
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::{Fleet, FleetConfig};
use maxscale_tests::RedisServer;

use super::keys;

const USERS: u32 = 1_000;
const READY: Duration = Duration::from_secs(30);

/// Copies of one hash under keys of the same length, as of so many other users.
const COPIES: &str = "local start = string.sub(KEYS[1], 1, -9)
    for n = ARGV[1], ARGV[2] do
        redis.call('COPY', KEYS[1], start .. string.format('%08x', n))
    end";

/// What the handle itself asks, and this bench.
const NOT_OF_REQUESTS: [&str; 7] = ["time", "info", "config", "hello", "client", "ping", "role"];

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    // As it comes: how a hash is packed is the server's own choice.
    let server = RedisServer::start().await;
    let bare = Builder::from_config(Config::from_url(&server.url())?).build()?;
    bare.init().await?;
    let redis = Redis::open(RedisConfig::new(&server.url())?);
    if !redis.wait_ready(READY).await {
        return Err("redis is not ready".into());
    }
    let rows = tempfile::tempdir()?;
    let node = NodeSpec::parse(&format!("sqlite:{}/rows.db", rows.path().display()), 1)?;
    let fleet = Fleet::open(FleetConfig::new(vec![node]).migrations(MIGRATIONS)).await?;
    let router = fleet.router().clone();
    let ids = Arc::new(IdGenerator::new(Clock::system(), router.keyspace()));
    let rows = SqlSessions::new(router.clone(), Clock::system());
    let store = RedisSessions::builder(rows, [redis]).build()?;
    let sessions = Sessions::builder(store, keys()?, ids.clone()).build();

    let before = used(&bare).await?;
    let proof = Proof {
        level: Level::Aal1,
        methods: Methods::PASSWORD,
    };
    let mut tokens = Vec::new();
    for _ in 0..USERS {
        let user = ids.draw_anywhere(router.shards());
        let text = sessions.begin(user, proof, "").await?;
        tokens.push(sessions.read(&text).ok_or("a token that is not read")?);
    }
    // Whoever comes first copies it.
    ask(&sessions, &tokens).await?;

    ask_bare(&bare, "CONFIG", vec!["RESETSTAT".into()]).await?;
    ask(&sessions, &tokens).await?;
    report.bar(Bar {
        name: "auth.redis_per_request_l1_off",
        measured: commands(&bare).await? / f64::from(USERS),
        op: Op::Exactly,
        target: 1.0,
    });

    let each = plan.pick(1_000, 10);
    let keys: Vec<Vec<u8>> = bare.custom(word("KEYS"), vec![Value::from("*")]).await?;
    for (n, key) in (0..).zip(&keys) {
        let key = Value::Bytes(key.clone().into());
        let (from, to) = (n * each + 1, (n + 1) * each - 1);
        let copies = vec![COPIES.into(), 1.into(), key, from.into(), to.into()];
        bare.custom::<Value, _>(word("EVAL"), copies).await?;
    }
    let there: i64 = bare.custom(word("DBSIZE"), Vec::<Value>::new()).await?;
    if there != i64::from(USERS * each) {
        return Err(format!("{there} sessions are there").into());
    }
    let taken = used(&bare).await? - before;
    report.bar(Bar {
        name: "auth.bytes_per_session",
        measured: taken / f64::from(USERS * each),
        op: Op::AtMost,
        target: 300.0,
    });
    Ok(())
}

async fn ask(sessions: &Sessions, tokens: &[SessionToken]) -> Result<(), BoxError> {
    for token in tokens {
        sessions.recognise(token).await?.ok_or("nobody")?;
    }
    Ok(())
}

/// How many commands came since it was last set to zero.
async fn commands(bare: &Client) -> Result<f64, BoxError> {
    let said = ask_bare(bare, "INFO", vec!["commandstats".into()]).await?;
    let lines = said
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_"));
    let calls = lines.filter_map(|line| {
        let (name, rest) = line.split_once(":calls=")?;
        let name = name.split('|').next()?;
        let calls: u32 = rest.split(',').next()?.parse().ok()?;
        (!NOT_OF_REQUESTS.contains(&name)).then_some(calls)
    });
    Ok(f64::from(calls.sum::<u32>()))
}

async fn used(bare: &Client) -> Result<f64, BoxError> {
    let said = ask_bare(bare, "INFO", vec!["memory".into()]).await?;
    let used = (said.lines()).find_map(|line| line.strip_prefix("used_memory:"));
    Ok(used.ok_or("no used_memory")?.trim().parse()?)
}

async fn ask_bare(
    bare: &Client,
    name: &'static str,
    arguments: Vec<Value>,
) -> Result<String, BoxError> {
    Ok(bare.custom(word(name), arguments).await?)
}

fn word(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::FirstKey, false)
}
