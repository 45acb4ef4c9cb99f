//! Sessions that processes remember for a second, while one of them ends them.

mod frozen;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::Response;
use maxscale_auth::session::{SessionPolicy, Sessions, Which, Why};
use maxscale_auth::{CookiePolicy, Principal, SessionLayer, StrongLayer};
use maxscale_cache::Hub;
use maxscale_cache::remote::RedisRemote;
use maxscale_core::id::Id;
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_core::refusal::ReplyBody;
use maxscale_tests::{Proxy, RedisServer, Way, eventually};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt as _};

use crate::activity::{Desk, PROOF};
use crate::counting::Counting;
use crate::support::{LIMIT, ask, cookie, handler, keys};

/// How long a revoked session may be served elsewhere.
pub(crate) const BOUND: Duration = Duration::from_secs(1);

/// A process, as far as it matters here: sessions that it remembers on a hub of its own.
struct Peer {
    store: Counting,
    sessions: Sessions,
    layer: SessionLayer,
}

pub(crate) async fn hub(url: &str) -> Hub {
    let redis = Redis::open(RedisConfig::new(url).unwrap().timeout(LIMIT));
    assert!(redis.wait_ready(LIMIT).await);
    let remote = RedisRemote::new(redis);
    Hub::builder().remote(remote).remote_timeout(LIMIT).build()
}

impl Peer {
    async fn new(desk: &Desk, url: &str) -> Self {
        let store = Counting::new(desk.memory.clone());
        let mut policy = SessionPolicy::default();
        // Whenever the store is asked, a request is noted too.
        policy.touch_every = Duration::ZERO;
        let sessions = Sessions::builder(store.clone(), keys(), desk.ids.clone())
            .clock(desk.clock.clone())
            .policy(policy)
            .near(&hub(url).await)
            .build();
        let layer = SessionLayer::new(sessions.clone(), CookiePolicy::new(true));
        let peer = Self {
            store,
            sessions,
            layer,
        };
        peer.wait_until_near(&desk.begin().await).await;
        peer
    }

    async fn serves(&self, token: &str, strong: bool) -> bool {
        let answer: Response<ReplyBody<_>> = if strong {
            let handler = StrongLayer.layer(handler());
            let asked = self.layer.layer(handler).oneshot(cookie(token));
            let answer: Result<_, Infallible> = asked.await;
            answer.unwrap().map(|_| ReplyBody::inner(()))
        } else {
            ask(&self.layer, cookie(token)).await
        };
        answer.extensions().get::<Principal>().is_some()
    }

    /// Whether a request does not ask the store.
    async fn remembers(&self, token: &str) -> bool {
        let before = self.store.loads();
        self.serves(token, false).await;
        self.store.loads() == before
    }

    /// Returns once the feed is heard.
    async fn wait_until_near(&self, token: &str) {
        eventually(LIMIT, async || self.remembers(token).await).await;
    }
}

/// What came of the requests of one user, from the acknowledgement on.
#[derive(Default)]
struct Outcome {
    /// When `revoke` had answered.
    acknowledged: OnceLock<Instant>,
    /// How many were served, here and elsewhere.
    served: [AtomicU64; 2],
    /// How long after it those began that were served all the same.
    late: Mutex<Vec<(Asked, Duration)>>,
    refused: AtomicU64,
    done: AtomicBool,
}

/// Who was asked, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    here: bool,
    strong: bool,
}

impl Outcome {
    async fn keep_asking(&self, peer: &Peer, token: &str, asked: Asked) {
        while !self.done.load(Ordering::SeqCst) {
            let began = Instant::now();
            let serves = peer.serves(token, asked.strong).await;
            if serves {
                let served = &self.served[usize::from(!asked.here)];
                served.fetch_add(1, Ordering::SeqCst);
            }
            match self.acknowledged.get() {
                None => {}
                Some(_) if !serves => {
                    self.refused.fetch_add(1, Ordering::SeqCst);
                }
                // What began before it may be served.
                Some(at) if began > *at => {
                    let late = (asked, began - *at);
                    self.late.lock().unwrap().push(late);
                }
                Some(_) => {}
            }
            tokio::task::yield_now().await;
        }
    }

    fn late(&self) -> Vec<(Asked, Duration)> {
        self.late.lock().unwrap().clone()
    }
}

/// Ends all sessions of a user while 200 requests with them are under way on both
/// peers, others touch them and change their roles, and looks on for `linger`.
async fn revoke_under_load(desk: &Desk, peers: &Arc<[Peer; 2]>, linger: Duration) -> Vec<Duration> {
    let user = desk.user();
    let mut tokens = Vec::new();
    for _ in 0..10 {
        tokens.push(desk.sessions.begin(user, PROOF, "").await.unwrap());
    }
    let outcome = Arc::new(Outcome::default());
    let mut tasks = JoinSet::new();
    for n in 0..200 {
        let (peers, outcome) = (peers.clone(), outcome.clone());
        let here = n % 2 == 0;
        let strong = n % 8 < 2;
        // Who asks the store would make the others forget what he is told is over.
        let token = tokens[if strong { 0 } else { 1 + n % 9 }].clone();
        tasks.spawn(async move {
            let peer = &peers[usize::from(!here)];
            let asked = Asked { here, strong };
            outcome.keep_asking(peer, &token, asked).await;
        });
    }
    for n in 0..2 {
        let (peers, outcome) = (peers.clone(), outcome.clone());
        tasks.spawn(async move { keep_changing(&peers[n].sessions, user, &outcome).await });
    }
    eventually(LIMIT, async || {
        let served = outcome
            .served
            .each_ref()
            .map(|it| it.load(Ordering::SeqCst));
        served.iter().all(|served| *served > 1_000)
    })
    .await;
    let revoked = peers[0]
        .sessions
        .revoke(user, Which::All, Why::Ordered)
        .await;
    outcome.acknowledged.set(Instant::now()).unwrap();
    assert_eq!(revoked.unwrap().ended.len(), tokens.len());
    sleep(linger).await;
    // On a machine that stood still they may not have asked by then.
    eventually(LIMIT, async || {
        outcome.refused.load(Ordering::SeqCst) >= 200
    })
    .await;
    outcome.done.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let late = outcome.late();
    let elsewhere = Asked {
        here: false,
        strong: false,
    };
    for (asked, after) in &late {
        assert_eq!(
            *asked, elsewhere,
            "served {after:?} after the acknowledgement"
        );
        assert!(*after < BOUND, "served {after:?} after the acknowledgement");
    }
    late.into_iter().map(|(_, after)| after).collect()
}

/// Writes what was noted, and gives the user roles.
async fn keep_changing(sessions: &Sessions, user: Id, outcome: &Outcome) {
    let roles = maxscale_auth::session::Roles::new(["editor"]).unwrap();
    while !outcome.done.load(Ordering::SeqCst) {
        sessions.shutdown().await.unwrap();
        let _ = sessions.set_roles(user, &roles).await.unwrap();
        sleep(Duration::from_millis(10)).await;
    }
}

#[expect(clippy::print_stdout, reason = "what it measures is read by people")]
async fn revoke_often(rounds: u32, linger: Duration) {
    let server = RedisServer::start().await;
    let desk = Desk::new();
    let peers = Arc::new([
        Peer::new(&desk, &server.url()).await,
        Peer::new(&desk, &server.url()).await,
    ]);
    let mut late = Vec::new();
    for _ in 0..rounds {
        late.extend(revoke_under_load(&desk, &peers, linger).await);
    }
    late.sort_unstable();
    let at = |share: usize| late.get(late.len() * share / 100).copied();
    println!(
        "served after the acknowledgement, in the other process: {}; median {:?}, 99 % {:?}, last {:?}",
        late.len(),
        at(50),
        at(99),
        late.last(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_session_is_served_nowhere_a_second_later() {
    revoke_often(4, Duration::from_millis(1_500)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it looks on for a minute; CONTRIBUTING.md has the command"]
async fn revoked_session_is_served_nowhere_for_a_minute() {
    revoke_often(1, Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_remembered_while_the_feed_stands_still() {
    let server = RedisServer::start().await;
    let proxy = Proxy::start(server.url()).await;
    let desk = Desk::new();
    let here = Peer::new(&desk, &server.url()).await;
    let there = Peer::new(&desk, &proxy.url()).await;
    let user = desk.user();
    let begin = async || desk.sessions.begin(user, PROOF, "").await.unwrap();
    // Of the second one the store is asked, which makes this process forget it.
    let (ended, also_ended, kept) = (begin().await, begin().await, desk.begin().await);
    there.wait_until_near(&also_ended).await;

    // On a machine that stands still the feed may be too old before it is remembered.
    eventually(LIMIT, async || {
        proxy.heal().await;
        there.wait_until_near(&kept).await;
        proxy.black_hole(Way::ToClient);
        there.serves(&ended, false).await && there.remembers(&ended).await
    })
    .await;
    let revoked = here.sessions.revoke(user, Which::All, Why::Ordered).await;
    let acknowledged = Instant::now();
    assert_eq!(revoked.unwrap().ended.len(), 2);
    let mut last = None;
    loop {
        let after = acknowledged.elapsed();
        if there.serves(&ended, false).await {
            last = Some(after);
            assert!(after < BOUND, "served after {after:?}");
        }
        assert!(
            !there.serves(&also_ended, true).await,
            "the route is strong"
        );
        if after > BOUND {
            break;
        }
        sleep(Duration::from_millis(1)).await;
    }
    println!("without a message: served last {last:?} after the acknowledgement");
    // And of who is not revoked nothing is remembered any more, however often he asks.
    eventually(LIMIT, async || {
        let mut remembered = false;
        for _ in 0..10 {
            remembered |= there.remembers(&kept).await;
        }
        !remembered
    })
    .await;
    assert!(there.serves(&kept, false).await);
    proxy.heal().await;
    there.wait_until_near(&kept).await;
}

#[tokio::test(start_paused = true)]
async fn store_is_asked_once_a_second_and_for_what_is_not_known() {
    let desk = Desk::new();
    let store = Counting::new(desk.memory.clone());
    let sessions = Sessions::builder(store.clone(), keys(), desk.ids.clone())
        .clock(desk.clock.clone())
        .near(&Hub::builder().build())
        .build();
    let user = desk.user();
    let first = sessions.begin(user, PROOF, "").await.unwrap();
    let other = sessions.begin(user, PROOF, "").await.unwrap();
    let asks = async |text: &str| {
        let before = store.loads();
        let token = sessions.read(text).unwrap();
        let who = sessions.recognise(&token).await.unwrap();
        (store.loads() - before, who)
    };
    assert_eq!(asks(&first).await.0, 1);
    for _ in 0..100 {
        assert_eq!(asks(&first).await.0, 0);
    }
    assert_eq!(asks(&other).await.0, 1, "each session is asked for once");
    assert_eq!((asks(&first).await.0, asks(&other).await.0), (0, 0));
    tokio::time::advance(BOUND).await;
    assert_eq!(asks(&first).await.0, 1);

    // A secret that another process gave out a moment ago.
    let principal = asks(&first).await.1.unwrap();
    let new = desk
        .sessions
        .rotate(&principal, PROOF)
        .await
        .unwrap()
        .unwrap();
    let (asked, who) = asks(&new).await;
    assert!(asked == 1 && who.is_some());

    // That there is none is not remembered.
    let which = Which::One(principal.session());
    sessions.revoke(user, which, Why::LoggedOut).await.unwrap();
    for _ in 0..2 {
        let (asked, who) = asks(&new).await;
        assert!(asked == 1 && who.is_none());
    }
}
