//! Hubs that share an L2 which fails, forgets to tell, or both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use maxscale_cache::conformance;
use maxscale_cache::remote::{
    Advert, Beat, Bump, Bumped, Claimed, Fence, Found, Heard, LocalRemote, Notice, Remote,
    RemoteError,
};
use maxscale_cache::{Hub, HubBuilder, Invalidated};
use maxscale_tests::eventually;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep, timeout};

use crate::held::Held;
use crate::source::{LIMIT, LONG, Source};

/// A [`LocalRemote`] with a switch for each way to fail.
#[derive(Clone)]
pub(crate) struct Faulty(Arc<Inner>);

struct Inner {
    remote: LocalRemote,
    down: AtomicBool,
    hangs: AtomicBool,
    deaf: AtomicBool,
    loses_bumps: AtomicBool,
    lies: AtomicBool,
    silent: AtomicBool,
    told: AtomicUsize,
    gaps: broadcast::Sender<()>,
}

impl Faulty {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            remote: LocalRemote::default(),
            down: false.into(),
            hangs: false.into(),
            deaf: false.into(),
            loses_bumps: false.into(),
            lies: false.into(),
            silent: false.into(),
            told: 0.into(),
            gaps: broadcast::Sender::new(8),
        }))
    }

    /// A hub that waits for it as long as it takes.
    pub(crate) fn hub(&self) -> HubBuilder {
        Hub::builder().remote(self.clone()).remote_timeout(LIMIT)
    }

    pub(crate) fn set_deaf(&self) {
        self.0.deaf.store(true, Ordering::SeqCst);
    }

    pub(crate) fn set_loses_bumps(&self, loses: bool) {
        self.0.loses_bumps.store(loses, Ordering::SeqCst);
    }

    /// Lets all who listen hear that something was lost.
    pub(crate) fn tell_gap(&self) {
        let _ = self.0.gaps.send(());
    }

    /// Lets bumps be confirmed that were none.
    pub(crate) fn set_lies(&self) {
        self.0.lies.store(true, Ordering::SeqCst);
    }

    fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    async fn fail(&self) -> Result<(), RemoteError> {
        if self.0.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.0.down.load(Ordering::SeqCst) {
            return Err(RemoteError::Unconfirmed("down".into()));
        }
        Ok(())
    }
}

impl Remote for Faulty {
    async fn read(&self, key: &str) -> Result<Option<Found>, RemoteError> {
        self.fail().await?;
        self.0.remote.read(key).await
    }

    async fn claim(
        &self,
        key: &str,
        owner: u64,
        hold: Duration,
        ttl: Duration,
    ) -> Result<Claimed, RemoteError> {
        self.fail().await?;
        self.0.remote.claim(key, owner, hold, ttl).await
    }

    async fn release(&self, key: &str, owner: u64) -> Result<(), RemoteError> {
        self.fail().await?;
        self.0.remote.release(key, owner).await
    }

    async fn beat(&self, advert: Advert<'_>) -> Result<Beat, RemoteError> {
        self.fail().await?;
        self.0.remote.beat(advert).await
    }

    async fn fill(
        &self,
        key: &str,
        fence: Fence,
        version: u64,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, RemoteError> {
        self.fail().await?;
        self.0.remote.fill(key, fence, version, value, ttl).await
    }

    async fn tell(&self, notice: Notice<'_>) -> Result<(), RemoteError> {
        self.fail().await?;
        if self.0.silent.load(Ordering::SeqCst) {
            return Err(RemoteError::TimedOut);
        }
        self.0.told.fetch_add(1, Ordering::SeqCst);
        self.0.remote.tell(notice).await
    }

    async fn bump(&self, key: &str, bump: Bump) -> Result<Bumped, RemoteError> {
        self.fail().await?;
        if self.0.loses_bumps.load(Ordering::SeqCst) {
            return Err(RemoteError::TimedOut);
        }
        if self.0.lies.load(Ordering::SeqCst) {
            return self.0.remote.bump("another", bump).await;
        }
        self.0.remote.bump(key, bump).await
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Heard> {
        let this = self.clone();
        let heard = self.0.remote.listen(channel);
        let heard = heard.filter(move |_| {
            let deaf = this.0.deaf.load(Ordering::SeqCst);
            async move { !deaf }
        });
        let gaps = stream::unfold(self.0.gaps.subscribe(), |mut gaps| async move {
            gaps.recv().await.ok()?;
            Some((Heard::Missed, gaps))
        });
        stream::select(heard, gaps).boxed()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_remote_keeps_every_promise() {
    conformance::check(LocalRemote::default(), "local").await;
}

#[tokio::test]
async fn other_hub_drops_what_this_one_invalidates() {
    let (far, source) = (Faulty::new(), Source::default());
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache(LONG));
    source.read(&here, "k").await.unwrap();
    source.read(&there, "k").await.unwrap();
    // Both tasks listen once a message of the one reaches the other.
    eventually(LIMIT, async || {
        source.set(source.read(&here, "k").await.unwrap() + 1);
        assert_eq!(here.invalidate("k").await, Invalidated::Everywhere);
        let new = source.read(&here, "k").await.unwrap();
        timeout(Duration::from_millis(50), async {
            while source.read(&there, "k").await.unwrap() != new {
                tokio::task::yield_now().await;
            }
        })
        .await
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lost_message_leaves_an_old_value_no_longer_than_l1_keeps_it() {
    let (far, source) = (Faulty::new(), Source::default());
    far.0.deaf.store(true, Ordering::SeqCst);
    let spec = LONG.l1_ttl(Duration::from_millis(200));
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache(spec));
    source.read(&there, "k").await.unwrap();
    source.set(1);
    assert_eq!(here.invalidate("k").await, Invalidated::Everywhere);
    let since = Instant::now();
    while source.read(&there, "k").await.unwrap() == 0 {
        // The TTL above, and a step.
        let bound = Duration::from_millis(210);
        assert!(since.elapsed() <= bound, "still the old value");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn load_overtaken_by_another_hub_is_not_kept_even_if_the_message_is_lost() {
    let far = Faulty::new();
    far.0.deaf.store(true, Ordering::SeqCst);
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(LONG));
    let reader = there.clone();
    let read = |load| async move { reader.get_or_load("k", load).await };
    let overtaken = Held::start(0, read).await;
    assert_eq!(here.invalidate("k").await, Invalidated::Everywhere);
    assert_eq!(overtaken.end().await, 0);
    assert_eq!(there.get("k").await, None);
    assert_eq!(here.get("k").await, None);
}

#[tokio::test]
async fn who_saw_what_l2_refused_is_shown_nothing_older_next() {
    let (far, source) = (Faulty::new(), Source::default());
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(LONG));
    source.read(&here, "other").await.unwrap();
    let reader = here.clone();
    let read = |load| async move { reader.get_or_load("k", load).await };
    let refused = Held::start(2, read).await;
    source.set(1);
    assert_eq!(there.invalidate("k").await, Invalidated::Everywhere);
    assert_eq!(source.read(&there, "k").await.unwrap(), 1);
    // Changed, and not told yet.
    source.set(2);
    assert_eq!(refused.end().await, 2);
    assert_eq!(source.read(&here, "k").await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_joins_a_load_from_long_ago_while_nothing_is_heard() {
    let (far, source) = (Faulty::new(), Source::default());
    far.set_deaf();
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(LONG));
    let reader = here.clone();
    let read = |load| async move { reader.get_or_load("k", load).await };
    let older = Held::start(0, read).await;
    source.set(1);
    assert_eq!(there.invalidate("k").await, Invalidated::Everywhere);
    sleep(Duration::from_millis(1_500)).await;
    let newer = timeout(LIMIT, source.read(&here, "k")).await;
    assert_eq!(newer.unwrap().unwrap(), 1);
    assert_eq!(older.end().await, 1);
}

#[tokio::test]
async fn gap_empties_l1() {
    let (far, source) = (Faulty::new(), Source::default());
    far.0.deaf.store(true, Ordering::SeqCst);
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache(LONG));
    source.read(&there, "k").await.unwrap();
    source.set(1);
    assert_eq!(here.invalidate("k").await, Invalidated::Everywhere);
    assert_eq!(source.read(&there, "k").await.unwrap(), 0);
    eventually(LIMIT, async || {
        far.tell_gap();
        source.read(&there, "k").await.unwrap() == 1
    })
    .await;
}

#[tokio::test]
async fn unconfirmed_invalidation_keeps_the_old_value_out_until_it_is_confirmed() {
    let (far, source) = (Faulty::new(), Source::default());
    let [near_hub, far_hub] = [far.hub().build(), far.hub().build()];
    let [here, there] = [&near_hub, &far_hub].map(|hub| hub.cache::<u64>(LONG));
    source.read(&here, "k").await.unwrap();

    // The far tier still answers with the old value, so it must not be asked.
    far.0.loses_bumps.store(true, Ordering::SeqCst);
    source.set(1);
    assert_eq!(here.invalidate("k").await, Invalidated::HereOnly);
    assert_eq!(near_hub.stats().pending, 1);
    assert_eq!(source.read(&here, "k").await.unwrap(), 1);

    far.0.loses_bumps.store(false, Ordering::SeqCst);
    eventually(LIMIT, async || near_hub.stats().pending == 0).await;
    assert_eq!(source.read(&there, "k").await.unwrap(), 1);
    assert_eq!(source.read(&here, "k").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn invalidation_of_which_nobody_was_told_is_not_confirmed() {
    let (far, source) = (Faulty::new(), Source::default());
    let [near_hub, far_hub] = [far.hub().build(), far.hub().build()];
    let [here, there] = [&near_hub, &far_hub].map(|hub| hub.cache::<u64>(LONG));
    source.read(&there, "k").await.unwrap();
    far.0.silent.store(true, Ordering::SeqCst);
    source.set(1);
    assert_eq!(here.invalidate("k").await, Invalidated::HereOnly);
    assert_eq!(
        source.read(&there, "k").await.unwrap(),
        0,
        "it heard nothing"
    );
    far.0.silent.store(false, Ordering::SeqCst);
    eventually(LIMIT, async || near_hub.stats().pending == 0).await;
    eventually(LIMIT, async || source.read(&there, "k").await.unwrap() == 1).await;
}

#[tokio::test]
async fn invalidations_at_once_go_by_few_messages() {
    let far = Faulty::new();
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(LONG));
    let source = Source::default();
    let ids: Vec<_> = (0..640).map(|n| n.to_string()).collect();
    for id in &ids {
        source.read(&there, id).await.unwrap();
    }
    source.set(1);
    for done in join_all(ids.iter().map(|id| here.invalidate(id))).await {
        assert_eq!(done, Invalidated::Everywhere);
    }
    let told = far.0.told.load(Ordering::SeqCst);
    assert!((10..100).contains(&told), "{told} messages");
    for id in &ids {
        eventually(LIMIT, async || source.read(&there, id).await.unwrap() == 1).await;
    }
}

#[tokio::test]
async fn invalidation_whose_caller_gave_up_is_carried_out() {
    let (far, source) = (Faulty::new(), Source::default());
    let hub = far.hub().remote_timeout(Duration::from_millis(200)).build();
    let cache = hub.cache::<u64>(LONG);
    source.read(&cache, "k").await.unwrap();
    far.0.hangs.store(true, Ordering::SeqCst);
    source.set(1);
    let call = timeout(Duration::from_millis(1), cache.invalidate("k"));
    assert!(call.await.is_err());
    assert_eq!(hub.stats().pending, 1);
    assert_eq!(source.read(&cache, "k").await.unwrap(), 1);
    far.0.hangs.store(false, Ordering::SeqCst);
    eventually(LIMIT, async || hub.stats().pending == 0).await;
    let other = far.hub().build().cache::<u64>(LONG);
    assert_eq!(other.get("k").await, None);
}

#[tokio::test]
async fn more_unconfirmed_invalidations_than_fit_turn_l2_off() {
    let (far, source) = (Faulty::new(), Source::default());
    let hub = far.hub().pending_limit(1).build();
    let cache = hub.cache::<u64>(LONG.l1_ttl(Duration::ZERO));
    for id in ["a", "b", "c"] {
        source.read(&cache, id).await.unwrap();
    }
    far.set_down(true);
    source.set(1);
    for id in ["a", "b"] {
        assert_eq!(cache.invalidate(id).await, Invalidated::HereOnly);
    }
    far.set_down(false);
    eventually(LIMIT, async || hub.stats().pending == 0).await;
    assert_eq!(source.read(&cache, "b").await.unwrap(), 1);
    assert_eq!(cache.get("c").await, None);
}

#[tokio::test(start_paused = true)]
async fn far_tier_that_hangs_costs_its_timeout_and_nothing_more() {
    let (far, source) = (Faulty::new(), Source::default());
    far.0.hangs.store(true, Ordering::SeqCst);
    let limit = Duration::from_millis(50);
    let hub = far.hub().remote_timeout(limit).build();
    let cache = hub.cache::<u64>(LONG);
    let since = Instant::now();
    assert_eq!(source.read(&cache, "k").await.unwrap(), 0);
    assert_eq!(since.elapsed(), limit);
    assert_eq!(hub.stats().remote_errors, 1);
}

#[tokio::test]
async fn value_loaded_while_l2_was_down_gives_way_to_no_older_one() {
    let (far, source) = (Faulty::new(), Source::default());
    let spec = LONG.l1_ttl(Duration::from_millis(100));
    let [here, there] = [far.hub().build(), far.hub().build()].map(|hub| hub.cache::<u64>(spec));
    source.read(&there, "k").await.unwrap();
    far.set_down(true);
    // Changed, and not told yet.
    source.set(1);
    assert_eq!(source.read(&here, "k").await.unwrap(), 1);
    far.set_down(false);
    // Until L1 has asked L2 again.
    eventually(LIMIT, async || {
        assert_eq!(source.read(&here, "k").await.unwrap(), 1);
        there.get("k").await.is_some_and(|value| *value == 1)
    })
    .await;
}
