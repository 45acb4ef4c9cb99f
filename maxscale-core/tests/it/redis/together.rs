//! Reads that go in one go, by a connection of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use maxscale_core::redis::{Arg, Command, Redis, RedisConfig, RedisError, Reply};
use maxscale_tests::RedisServer;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use super::past::host;
use super::{SOON, connect, patient};

/// Sets `keys`, each to its own name.
pub(super) async fn set(redis: &Redis, keys: &[&str]) {
    for key in keys {
        let set = Command::new("SET").key(*key).arg(*key);
        redis.command(set).await.unwrap();
    }
}

/// Reads `keys` in one go.
pub(super) async fn get(redis: &Redis, keys: &[&str]) -> Vec<Result<Reply, RedisError>> {
    let gets = keys.iter().map(|key| Command::new("GET").key(*key));
    let replies = redis.read_all_from(gets.collect()).await;
    replies.into_iter().map(|it| it.map(|(it, _)| it)).collect()
}

/// Whether each of `keys` has its own name.
pub(super) async fn are_read(redis: &Redis, keys: &[&str]) -> bool {
    let all = get(redis, keys).await.into_iter().zip(keys);
    all.into_iter()
        .all(|(reply, key)| reply.is_ok_and(|it| it == Reply::Bytes((*key).to_owned().into())))
}

/// What the server says of connections whose last command was GET.
pub(super) async fn talks(redis: &Redis) -> Vec<String> {
    let list = redis.command(Command::new("CLIENT").arg("LIST")).await;
    let list = list.unwrap().into_bytes().unwrap();
    let lines = std::str::from_utf8(&list).unwrap().lines();
    let talks = lines.filter(|line| line.contains(" cmd=get "));
    talks.map(str::to_owned).collect()
}

async fn number(redis: &Redis, command: Command) -> i64 {
    redis.command(command).await.unwrap().as_int().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_come_in_order_and_an_error_is_of_its_own_command() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let keys: Vec<String> = (0..500).map(|n| format!("key-{n}")).collect();
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    set(&redis, &keys).await;
    assert!(are_read(&redis, &keys).await);
    let push = Command::new("LPUSH").key("list").arg("x");
    assert_eq!(redis.command(push).await.unwrap(), Reply::Int(1));
    keys[1] = "list";
    keys[2] = "none";
    let replies = get(&redis, &keys).await;
    let wrong = replies[1].as_ref().unwrap_err();
    assert!(wrong.to_string().contains("WRONGTYPE"), "{wrong}");
    assert_eq!(*replies[2].as_ref().unwrap(), Reply::Nil);
    assert_eq!(
        *replies[499].as_ref().unwrap(),
        Reply::Bytes("key-499".into())
    );
    assert_eq!(talks(&redis).await.len(), 1, "one after the other");

    let forms = vec![
        Command::new("MGET").key("key-0").key("none"),
        Command::new("GETRANGE").key("key-0").args([0, 2]),
        Command::new("STRLEN").key("key-0"),
        Command::new("GET").key(Arg::Bytes("key-0".into())),
    ];
    let replies = redis.read_all_from(forms).await;
    let replies: Vec<Reply> = replies.into_iter().map(|it| it.unwrap().0).collect();
    let key: Reply = Reply::Bytes("key-0".into());
    assert_eq!(replies[0], Reply::Array(vec![key.clone(), Reply::Nil]));
    assert_eq!(replies[1..3], [Reply::Bytes("key".into()), Reply::Int(5)]);
    assert_eq!(replies[3], key);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_that_the_server_closed_costs_nobody_a_reply() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    set(&redis, &["a", "b"]).await;
    assert!(are_read(&redis, &["a", "b"]).await);
    let common = number(&redis, Command::new("CLIENT").arg("ID")).await;
    let talks = talks(&redis).await;
    let id = talks[0].split(['=', ' ']).nth(1).unwrap();
    let kill = Command::new("CLIENT").args(["KILL", "ID", id]);
    assert_eq!(number(&redis, kill).await, 1);
    assert!(are_read(&redis, &["a", "b"]).await);
    assert!(are_read(&redis, &["b", "a"]).await);
    let now = number(&redis, Command::new("CLIENT").arg("ID")).await;
    assert_eq!(now, common, "the common connection still stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_server_is_waited_for_until_the_deadline() {
    let server = RedisServer::start().await;
    let redis = super::ample(&server).await;
    set(&redis, &["a", "b"]).await;
    assert!(are_read(&redis, &["a", "b"]).await);
    server.pause();
    for reply in get(&redis, &["a", "b"]).await {
        // Down, if its probe was the first to find out.
        let silent = matches!(reply, Err(RedisError::Timeout { .. } | RedisError::Down));
        assert!(silent, "{reply:?}");
    }
    server.resume();
    maxscale_tests::eventually(SOON, async || are_read(&redis, &["a", "b"]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_says_who_it_is_and_which_database_it_means() {
    let server = RedisServer::start().await;
    let admin = patient(&server).await;
    let user = ["SETUSER", "ada", "on", ">secret", "~*", "+@all"];
    let user = Command::new("ACL").args(user);
    admin.command(user).await.unwrap();
    let url = format!("redis://ada:secret@{}/3", host(&server.url()));
    let redis = connect(RedisConfig::new(&url).unwrap().timeout(SOON)).await;
    set(&redis, &["a", "b"]).await;
    assert!(are_read(&redis, &["a", "b"]).await);
    let talks = talks(&redis).await;
    assert!(talks[0].contains(" db=3 "), "{talks:?}");
    assert!(talks[0].contains(" user=ada "), "{talks:?}");
}

/// Leads all who connect to `first`, and once `moved` is set to `second`.
async fn fork(first: &RedisServer, second: &RedisServer, moved: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let targets = [first, second].map(|it| host(&it.url()).to_owned());
    tokio::spawn(async move {
        while let Ok((mut here, _)) = listener.accept().await {
            let target = targets[usize::from(moved.load(Ordering::SeqCst))].clone();
            tokio::spawn(async move {
                let mut there = TcpStream::connect(target).await.unwrap();
                // Whoever ends first ends it.
                let _ = copy_bidirectional(&mut here, &mut there).await;
            });
        }
    });
    format!("redis://{address}")
}

/// What a server says under its lineage must not be taken for what another one says.
#[tokio::test(flavor = "multi_thread")]
async fn connection_that_came_to_another_server_is_not_used() {
    let (first, second) = (RedisServer::start().await, RedisServer::start().await);
    let moved = Arc::new(AtomicBool::new(false));
    let url = fork(&first, &second, moved.clone()).await;
    let redis = connect(RedisConfig::new(&url).unwrap().timeout(SOON)).await;
    set(&redis, &["a", "b"]).await;
    moved.store(true, Ordering::SeqCst);
    assert!(are_read(&redis, &["a", "b"]).await);
    moved.store(false, Ordering::SeqCst);
    assert!(are_read(&redis, &["a", "b"]).await);
    assert_eq!(talks(&redis).await.len(), 1);
}
