//! Two processes that remember, and a session that one of them ends.

use maxscale_auth::jwt::{SessionTokens, TokenError};
use maxscale_auth::session::{MemorySessions, Sessions, Which, Why};
use maxscale_core::fact::VirtualShard;
use maxscale_shard::Engine;
use maxscale_tests::{RedisServer, eventually};
use tokio::time::Instant;

use super::{EMAIL, PROOF};
use crate::counting::Counting;
use crate::near::{BOUND, hub};
use crate::signing_keys::tokens;
use crate::support::{Bench, LIMIT, keys};

/// A process, as far as it matters here.
struct Peer {
    store: Counting,
    tokens: SessionTokens,
}

impl Peer {
    async fn new(bench: &Bench, memory: &MemorySessions, url: &str) -> Self {
        let store = Counting::new(memory.clone());
        let sessions = Sessions::builder(store.clone(), keys(), bench.ids.clone())
            .clock(bench.clock.clone())
            .near(&hub(url).await)
            .build();
        let tokens = SessionTokens::new(sessions, tokens(), bench.keep().await).unwrap();
        Self { store, tokens }
    }

    async fn serves(&self, token: &str) -> bool {
        match self.tokens.recognise(token).await {
            Ok(_) => true,
            Err(TokenError::Over) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Whether a token that is good is recognised without asking the store.
    async fn remembers(&self, token: &str) -> bool {
        let before = self.store.loads();
        assert!(self.serves(token).await);
        self.store.loads() == before
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_token_is_served_nowhere_a_second_after_its_session_ended() {
    let server = RedisServer::start().await;
    let bench = Bench::new(Engine::Sqlite).await;
    let memory = MemorySessions::new(bench.clock.clone());
    let here = Peer::new(&bench, &memory, &server.url()).await;
    let there = Peer::new(&bench, &memory, &server.url()).await;
    let user = bench.ids.draw(VirtualShard::new(3));
    for _ in 0..8 {
        let sessions = here.tokens.sessions();
        let text = sessions.begin(user, PROOF, "").await.unwrap();
        let session = sessions.read(&text).unwrap();
        let principal = sessions.recognise(&session).await.unwrap().unwrap();
        let token = here.tokens.issue(&principal, EMAIL).await.unwrap();
        for peer in [&here, &there] {
            eventually(LIMIT, async || peer.remembers(&token).await).await;
        }

        let which = Which::One(principal.session());
        let revoked = sessions.revoke(user, which, Why::Ordered).await;
        let acknowledged = Instant::now();
        assert_eq!(revoked.unwrap().ended.len(), 1);
        assert!(!here.serves(&token).await);
        loop {
            let after = acknowledged.elapsed();
            if !there.serves(&token).await {
                break;
            }
            assert!(after < BOUND, "served {after:?} after the acknowledgement");
            tokio::task::yield_now().await;
        }
        assert!(!there.serves(&token).await, "it came back");
    }
}
