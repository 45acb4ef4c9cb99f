//! Keys that processes remember for a second, while one of them ends them.

use maxscale_auth::api_key::{ApiKeyError, MadeApiKey};
use maxscale_auth::session::Sessions;
use maxscale_auth::{Accounts, ApiKeys, CookiePolicy, SessionLayer};
use maxscale_cache::Hub;
use maxscale_tests::{RedisServer, eventually};
use tokio::time::Instant;

use super::layer::{bearer, serves};
use super::{Desk, HERE, builder};
use crate::near::{BOUND, hub};
use crate::support::{Bench, LIMIT, OpenAccounts};

on_both!(revoked_key_is_served_nowhere_a_second_later);

/// A process, as far as it matters here: keys that it remembers on a hub of its own.
struct Peer {
    keys: ApiKeys,
    layer: SessionLayer,
}

impl Peer {
    fn new(bench: &Bench, hub: &Hub) -> Self {
        let sessions = Sessions::builder(bench.rows(), bench.keys.clone(), bench.ids.clone())
            .clock(bench.clock.clone())
            .near(hub)
            .build();
        let (router, passwords) = (bench.router().clone(), bench.passwords.clone());
        let accounts = Accounts::builder(router, bench.ids.clone(), bench.keys.clone(), passwords)
            .clock(bench.clock.clone())
            .sessions(sessions.clone());
        let keys = builder(&OpenAccounts::new(accounts, &bench.letters)).build();
        let layer = SessionLayer::new(sessions, CookiePolicy::new(true)).keys(keys.clone());
        Self { keys, layer }
    }

    async fn serves(&self, made: &MadeApiKey) -> bool {
        match self.keys.recognise(&made.text, &HERE).await {
            // Asked for so often, it is not looked for any more.
            Err(ApiKeyError::Wrong { .. }) => false,
            known => known.unwrap().is_some(),
        }
    }

    async fn serves_strongly(&self, made: &MadeApiKey) -> bool {
        serves(&self.layer, bearer(&made.text), true).await
    }

    /// Returns once it serves the key while nobody can be asked.
    async fn wait_until_it_remembers(&self, bench: &Bench, made: &MadeApiKey) {
        eventually(LIMIT, async || {
            assert!(self.serves(made).await);
            bench
                .everywhere("ALTER TABLE ms_api_key RENAME TO hidden")
                .await;
            let known = self.keys.recognise(&made.text, &HERE).await;
            bench
                .everywhere("ALTER TABLE hidden RENAME TO ms_api_key")
                .await;
            matches!(known, Ok(Some(_)))
        })
        .await;
    }
}

async fn revoked_key_is_served_nowhere_a_second_later(bench: Bench) {
    let server = RedisServer::start().await;
    let desk = Desk::of(bench).await;
    let here = Peer::new(&desk.bench, &hub(&server.url()).await);
    let there = Peer::new(&desk.bench, &hub(&server.url()).await);
    // Who asks the rows forgets what he is told is over: so these are two.
    let (made, strongly) = (desk.make(&["read"]).await, desk.make(&["read"]).await);
    for peer in [&here, &there] {
        peer.wait_until_it_remembers(&desk.bench, &strongly).await;
        peer.wait_until_it_remembers(&desk.bench, &made).await;
    }
    here.keys.revoke_all(desk.user).await.unwrap();
    let acknowledged = Instant::now();
    assert!(!here.serves(&made).await, "here at once");
    assert!(
        !there.serves_strongly(&strongly).await,
        "of the rows at once"
    );
    loop {
        let after = acknowledged.elapsed();
        let served = there.serves(&made).await;
        assert!(!served || after < BOUND, "served after {after:?}");
        if after > BOUND {
            break;
        }
        tokio::task::yield_now().await;
    }
}
