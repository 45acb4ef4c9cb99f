//! A journal in a stream of Redis: who has it, and what it outlives.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_cache::behind::{Ack, Behind, BehindError, Journal, Op, SinkError, Stream};
use maxscale_cache::{Cache, CacheSpec, Hub, JournalError};
use maxscale_core::Chain;
use maxscale_core::redis::{Command, Redis, RedisConfig};
use maxscale_tests::{Cut, Proxy, RedisCluster, RedisServer, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::place::stream;
use super::table::Table;
use super::{SOON, builder, cache, load};
use crate::program::connect;
use crate::source::LIMIT;

const KEY: &str = "{maxscale:!behind:number:journal}";

fn ack(stream: Stream) -> Ack {
    Ack::Journal(Journal::Stream(stream))
}

async fn try_open(
    cache: &Cache<u64>,
    url: &str,
    table: &Table,
) -> Result<Behind<u64>, JournalError> {
    builder(cache, ack(stream(url)), table).open().await
}

/// Waits until the lease of whoever had it before has run out.
async fn open(cache: &Cache<u64>, url: &str, table: &Table) -> Behind<u64> {
    eventually(LIMIT, async || try_open(cache, url, table).await).await
}

async fn number(redis: &Redis, name: &'static str, args: &[&str]) -> i64 {
    let command = Command::new(name).args(args.iter().copied());
    redis.command(command).await.unwrap().as_int().unwrap()
}

async fn set(redis: &Redis, setting: &str, value: &str) {
    let set = Command::new("CONFIG").args(["SET", setting, value]);
    redis.command(set).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_belongs_to_one_until_it_ends_or_its_lease_does() {
    let (server, table) = (RedisServer::start_durable().await, Table::default());
    let (here, there) = (cache(), cache());
    // Long enough to be renewed in time on a busy machine.
    let long = stream(&server.url()).lease(Duration::from_secs(3));
    let behind = builder(&here, ack(long), &table).open().await.unwrap();
    table.set_down(true);
    behind.put("k", 1).await.unwrap();
    let second = try_open(&there, &server.url(), &table).await.unwrap_err();
    assert!(
        matches!(&second, JournalError::InUse { place } if place == KEY),
        "{second:?}"
    );
    drop(behind);
    let behind = open(&there, &server.url(), &table).await;
    assert_eq!(load(&there, &table, "k").await, Some(1));

    // One that ends gracefully makes nobody wait.
    let left = behind.shutdown(Duration::from_millis(50)).await;
    assert_eq!(left.unwrap_err().left(), 1);
    let behind = try_open(&here, &server.url(), &table).await.unwrap();
    table.set_down(false);
    behind.shutdown(LIMIT).await.unwrap();
    assert_eq!(table.get("k"), Some(1));
    let behind = try_open(&there, &server.url(), &table).await.unwrap();
    assert_eq!(behind.replayed().values, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_take_it_over_at_once_one_has_it() {
    let (server, table) = (RedisServer::start_durable().await, Table::default());
    let (cache, admin) = (cache(), connect(&server.url()).await);
    table.set_down(true);
    let behind = open(&cache, &server.url(), &table).await;
    behind.put("k", 1).await.unwrap();
    drop(behind);
    let lease = format!("{KEY}:lease");
    let day = 86_400_000;
    eventually(LIMIT, async || {
        number(&admin, "PTTL", &[&lease]).await <= day
    })
    .await;
    let opens = (0..8).map(|_| {
        let long = stream(&server.url()).lease(LIMIT);
        builder(&cache, ack(long), &table).open()
    });
    let (found, refused): (Vec<_>, Vec<_>) =
        join_all(opens).await.into_iter().partition(Result::is_ok);
    assert_eq!(found.len(), 1);
    for refused in refused {
        assert!(
            matches!(refused, Err(JournalError::InUse { .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_cut_off_beyond_the_lease_is_told_and_changes_nothing() {
    let (server, table) = (RedisServer::start_durable().await, Table::default());
    let proxy = Proxy::start(server.url()).await;
    let (here, there) = (cache(), cache());
    let old = open(&here, &proxy.url(), &table).await;
    table.set_down(true);
    old.put("k", 1).await.unwrap();
    proxy.refuse().await;
    proxy.cut(Cut::Reset).await;
    let error = old.put("k", 2).await.unwrap_err();
    assert!(matches!(error, BehindError::Journal(_)), "{error:?}");

    let new = open(&there, &server.url(), &table).await;
    new.put("k", 3).await.unwrap();
    proxy.heal().await;
    let lost = eventually(LIMIT, async || match old.put("k", 4).await {
        Err(BehindError::Lost) => Ok(()),
        other => Err(other),
    });
    lost.await;
    assert_eq!(old.pending(), 0);
    assert_eq!(
        load(&here, &table, "k").await,
        None,
        "it is read here no more"
    );
    old.shutdown(LIMIT).await.unwrap();
    table.set_down(false);
    new.shutdown(LIMIT).await.unwrap();
    assert_eq!(table.get("k"), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn outage_longer_than_the_lease_ends_nothing() {
    let (server, table) = (RedisServer::start_durable().await, Table::default());
    let cache = cache();
    let behind = open(&cache, &server.url(), &table).await;
    table.set_down(true);
    let mut last = 0;
    for value in 1..=3 {
        last = behind.put("k", value).await.unwrap();
        server.kill().await;
        let error = behind.put("k", 100).await.unwrap_err();
        assert!(matches!(error, BehindError::Journal(_)), "{error:?}");
        tokio::time::sleep(Duration::from_millis(600)).await;
        server.restart().await;
        let put = eventually(LIMIT, async || behind.put("other", value).await).await;
        assert!(put > last);
    }
    assert_eq!(load(&cache, &table, "k").await, Some(3));
    drop(behind);
    let behind = open(&cache, &server.url(), &table).await;
    assert!(behind.put("other", 9).await.unwrap() > last);
    table.set_down(false);
    behind.shutdown(LIMIT).await.unwrap();
    assert_eq!((table.get("k"), table.get("other")), (Some(3), Some(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_lost_everything_gets_it_again_from_whoever_accepted_it() {
    let (server, table) = (RedisServer::start_durable().await, Table::default());
    let cache = cache();
    let behind = open(&cache, &server.url(), &table).await;
    table.set_down(true);
    let mut last = 0;
    for key in 0..100 {
        last = behind.put(&format!("k{key}"), key).await.unwrap();
    }
    let admin = connect(&server.url()).await;
    admin.command(Command::new("FLUSHALL")).await.unwrap();
    eventually(LIMIT, async || number(&admin, "XLEN", &[KEY]).await > 0).await;
    // Another server, with nothing in it.
    server.restart_empty().await;
    let admin = connect(&server.url()).await;
    eventually(LIMIT, async || number(&admin, "XLEN", &[KEY]).await > 0).await;
    drop(behind);
    let behind = open(&cache, &server.url(), &table).await;
    assert_eq!(behind.replayed().values, 100);
    assert!(behind.put("k0", 1_000).await.unwrap() > last);
    table.set_down(false);
    behind.shutdown(LIMIT).await.unwrap();
    assert_eq!((table.get("k0"), table.get("k99")), (Some(1_000), Some(99)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_written_has_no_end_and_all_else_has() {
    let (server, table) = (RedisServer::start_durable().await, Table::default());
    let (cache, admin) = (cache(), connect(&server.url()).await);
    let behind = open(&cache, &server.url(), &table).await;
    table.set_down(true);
    behind.put("k", 1).await.unwrap();
    assert_eq!(number(&admin, "PTTL", &[KEY]).await, -1);
    table.set_down(false);
    eventually(LIMIT, async || number(&admin, "PTTL", &[KEY]).await > 0).await;
    assert_eq!(number(&admin, "XLEN", &[KEY]).await, 0);
    behind.put("k", 2).await.unwrap();
    behind.shutdown(LIMIT).await.unwrap();
    let lease = format!("{KEY}:lease");
    assert!(number(&admin, "PTTL", &[KEY]).await > 0);
    assert!(number(&admin, "PTTL", &[&lease]).await > 0);
    assert_eq!(number(&admin, "DBSIZE", &[]).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_stays_short_while_one_value_cannot_be_written() {
    let server = RedisServer::start_durable().await;
    let admin = connect(&server.url()).await;
    let texts = Hub::builder().build();
    let texts = texts.cache::<String>(CacheSpec::new("text", 1));
    let stuck = |ops: Vec<Op<String>>| async move {
        if ops.iter().any(|op| &*op.id == "stuck") {
            return Err(SinkError::Refused("never".into()));
        }
        Ok(())
    };
    let bury = |_| async { Err("nobody takes it".into()) };
    let behind = Behind::builder(&texts, ack(stream(&server.url())), stuck, bury)
        .max_delay(Duration::from_millis(1))
        .backoff(SOON)
        .open()
        .await
        .unwrap();
    behind.put("stuck", "x".to_owned()).await.unwrap();
    let long = "x".repeat(100_000);
    for _ in 0..200 {
        behind.put("k", long.clone()).await.unwrap();
    }
    let key = "{maxscale:!behind:text:journal}";
    eventually(LIMIT, async || {
        let used = number(&admin, "MEMORY", &["USAGE", key, "SAMPLES", "0"]).await;
        (used < 8 << 20).then_some(()).ok_or(used)
    })
    .await;
    eventually(LIMIT, async || behind.pending() == 1).await;
    drop(behind);
    let never = |_| std::future::pending();
    let behind = eventually(LIMIT, async || {
        let again = ack(stream(&server.url()));
        Behind::builder(&texts, again, never, |_| std::future::pending())
            .open()
            .await
    })
    .await;
    assert_eq!(
        texts.peek("stuck").as_deref().map(String::as_str),
        Some("x")
    );
    drop(behind);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_server_refuses_values_and_gets_empty_all_the_same() {
    let (server, table) = (RedisServer::start_durable().await, Table::default());
    let (cache, admin) = (cache(), connect(&server.url()).await);
    let behind = open(&cache, &server.url(), &table).await;
    table.set_down(true);
    behind.put("k", 1).await.unwrap();
    set(&admin, "maxmemory", "1").await;
    let error = behind.put("k", 2).await.unwrap_err();
    let cause = Chain(&error).to_string();
    assert!(cause.contains("OOM"), "{cause}");
    // Beyond the lease of before.
    tokio::time::sleep(Duration::from_millis(600)).await;
    table.set_down(false);
    eventually(LIMIT, async || number(&admin, "XLEN", &[KEY]).await == 0).await;
    assert_eq!(table.get("k"), Some(1));
    set(&admin, "maxmemory", "0").await;
    behind.put("k", 3).await.unwrap();
    behind.shutdown(LIMIT).await.unwrap();
    assert_eq!(table.get("k"), Some(3));
}

/// Says one line to a server, also one of a cluster.
async fn tell(url: &str, line: &str) {
    let address = url.trim_start_matches("redis://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let line = format!("{line}\r\n");
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+OK\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_keeps_it_on_the_server_of_its_slot_and_on_that_ones_replica() {
    let (cluster, table) = (RedisCluster::start().await, Table::default());
    for url in cluster.urls() {
        tell(&url, "CONFIG SET appendfsync always").await;
    }
    let urls = cluster.urls();
    let hosts: Vec<_> = urls
        .iter()
        .map(|it| it.trim_start_matches("redis://"))
        .collect();
    let url = format!("redis-cluster://{}", hosts.join(","));
    let (here, there) = (cache(), cache());
    let open = async |cache: &Cache<u64>, name: &str| {
        let config = RedisConfig::new(&url).unwrap().timeout(LIMIT);
        let stream = Stream::new(config, name).lease(Duration::from_millis(400));
        let ack = Ack::Replicated(stream.replicas_within(LIMIT), NonZeroU32::MIN);
        eventually(LIMIT, async || {
            builder(cache, ack.clone(), &table).open().await
        })
        .await
    };
    // Names that are in slots of several servers.
    let names = ["a", "b", "c", "d", "e", "f"];
    table.set_down(true);
    for name in names {
        let behind = open(&here, name).await;
        behind.put(name, 1).await.unwrap();
    }
    table.set_down(false);
    for name in names {
        let behind = open(&there, name).await;
        assert_eq!(behind.replayed().values, 1);
        behind.shutdown(LIMIT).await.unwrap();
        assert_eq!(table.get(name), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_may_lose_values_is_refused_with_what_to_set() {
    let (server, table) = (RedisServer::start_durable().await, Table::default());
    let (cache, admin) = (cache(), connect(&server.url()).await);
    for (setting, bad, good) in [
        ("appendonly", "no", "yes"),
        ("appendfsync", "everysec", "always"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
        ("maxmemory-policy", "volatile-ttl", "noeviction"),
    ] {
        set(&admin, setting, bad).await;
        let error = try_open(&cache, &server.url(), &table).await.unwrap_err();
        let text = Chain(&error).to_string();
        assert!(
            text.contains(&format!("cannot open the stream {KEY}")),
            "{text}"
        );
        assert!(text.contains(bad) && text.contains(good), "{text}");
        set(&admin, setting, good).await;
    }
    open(&cache, &server.url(), &table).await;
    let nobody = RedisConfig::new("redis://127.0.0.1:1").unwrap();
    let nobody = ack(Stream::new(nobody, "journal"));
    let error = builder(&cache, nobody, &table).open().await.unwrap_err();
    assert!(matches!(error, JournalError::Stream { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_of_somebody_else_is_refused_and_left_alone() {
    let (server, table) = (RedisServer::start_durable().await, Table::default());
    let (cache, admin) = (cache(), connect(&server.url()).await);
    let add = Command::new("XADD")
        .key(KEY)
        .args(["1-0", "r", "something"]);
    admin.command(add).await.unwrap();
    for _ in 0..2 {
        // Nobody has to wait for the lease of one that could not read it.
        let error = try_open(&cache, &server.url(), &table).await.unwrap_err();
        assert!(
            matches!(&error, JournalError::Decode { id, .. } if id == "1-0"),
            "{error:?}"
        );
    }
    assert_eq!(number(&admin, "XLEN", &[KEY]).await, 1);
}
