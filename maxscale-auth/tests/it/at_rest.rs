//! What sessions leave in Redis and in their rows: how much, and nothing of use.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use maxscale_auth::session::{
    DurableSessions, Level, MemorySessions, Methods, Proof, RedisSessions, SessionStore, Sessions,
    Untold,
};
use maxscale_core::id::Id;
use maxscale_shard::Engine;
use maxscale_tests::eventually;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::copies::{Copied, HOUR, connect, create, draw, key, session};
use crate::support::{Bench, LIMIT};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_stored_is_of_use_to_a_thief() {
    let copied = Copied::of(Bench::new(Engine::Postgres).await, 1).await;
    let sessions = Sessions::builder(
        copied.store(),
        copied.bench.keys.clone(),
        copied.bench.ids.clone(),
    )
    .clock(copied.bench.clock.clone())
    .build();
    let proof = Proof {
        level: Level::Aal1,
        methods: Methods::PASSWORD,
    };
    let user = draw(&copied.bench)();
    let first = sessions.begin(user, proof, "a browser").await.unwrap();
    let principal = sessions.recognise(&sessions.read(&first).unwrap()).await;
    let second = sessions.rotate(&principal.unwrap().unwrap(), proof).await;
    let tokens = [first, second.unwrap().unwrap()];
    let token = sessions.read(&tokens[1]).unwrap();
    eventually(LIMIT, async || {
        assert!(sessions.recognise(&token).await.unwrap().is_some());
        // The head, the session, and the secret before.
        copied.ask("HLEN", &[&key(user)]).await.as_int() == Some(3)
    })
    .await;

    let mut dump: Vec<u8> = Vec::new();
    for key in copied.keys().await {
        dump.extend(key.as_bytes());
        for part in copied.ask("HGETALL", &[&key]).await.into_array().unwrap() {
            dump.extend(part.into_bytes().unwrap());
        }
    }
    let redis = dump.len();
    for rows in [
        "SELECT t::text AS row FROM ms_session t",
        "SELECT t::text AS row FROM ms_session_user t",
    ] {
        // Bytes appear as hexadecimal digits.
        dump.extend(copied.bench.texts(rows).await.as_bytes());
    }
    let has = |what: &[u8]| dump.windows(what.len()).any(|it| it == what);
    for token in &tokens {
        let secret = &URL_SAFE_NO_PAD.decode(&token[4..]).unwrap()[38..70];
        let hash: String = hex(&Sha256::digest(secret));
        assert!(has(hash.as_bytes()), "this is how it would be found");
        for form in [
            secret,
            hex(secret).as_bytes(),
            URL_SAFE_NO_PAD.encode(secret).as_bytes(),
            STANDARD_NO_PAD.encode(secret).as_bytes(),
            token.as_bytes(),
            &token.as_bytes()[4..],
            &token.as_bytes()[60..90],
        ] {
            assert!(!has(form), "{}", hex(form));
        }
    }
    let found = dump[..redis].windows(32);
    let hash = Sha256::digest(&URL_SAFE_NO_PAD.decode(&tokens[1][4..]).unwrap()[38..70]);
    assert_eq!(found.filter(|it| **it == hash[..]).count(), 1, "in Redis");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_takes_300_bytes_at_most() {
    bytes_per_session(20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn million_sessions_take_300_bytes_each_at_most() {
    bytes_per_session(1_000_000).await;
}

/// One session per user, in a Redis as it comes.
async fn bytes_per_session(users: u32) {
    const AT_ONCE: u32 = 64;
    let copied = Copied::new().await;
    copied.ask("CONFIG", &["SET", "appendonly", "no"]).await;
    let memory = MemorySessions::new(copied.bench.clock.clone());
    let redis = connect(&copied.servers[0].url()).await;
    let store = RedisSessions::builder(memory.clone(), [redis])
        .clock(copied.bench.clock.clone())
        .wait(LIMIT)
        .build()
        .unwrap();
    let before = copied.info("memory", "used_memory").await;

    let mut sessions = Vec::new();
    for _ in 0..users {
        let session = session(&copied.bench, None, 30 * 24 * HOUR);
        create(&memory, &session).await;
        let (user, changes) = (session.user, 1);
        memory.told(Untold { user, changes }).await.unwrap();
        sessions.push((session.user, session.id));
    }
    let mut loads = JoinSet::new();
    let part = sessions.len().div_ceil(usize::try_from(AT_ONCE).unwrap());
    for part in sessions.chunks(part) {
        let (store, part): (_, Vec<(Id, Id)>) = (store.clone(), part.to_vec());
        loads.spawn(async move {
            for (user, session) in part {
                assert!(store.load(user, session).await.unwrap().is_some());
            }
        });
    }
    loads.join_all().await;

    assert_eq!(copied.ask("DBSIZE", &[]).await.as_int(), Some(users.into()));
    let after = copied.info("memory", "used_memory").await;
    let bytes = (after - before) / u64::from(users);
    eprintln!("{users} sessions: {bytes} bytes each");
    assert!(bytes <= 300, "{bytes}");
}
