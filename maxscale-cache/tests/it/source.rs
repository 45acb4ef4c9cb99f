//! What stands for a database: one register that counts how often it is read.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use maxscale_cache::{Cache, CacheError, CacheSpec, Hub, Token};

/// How long what has to happen may take on a machine that is busy with others.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How long after an invalidation another process may serve what was before,
/// if the message was lost.
pub(crate) const BOUND: Duration = Duration::from_millis(1_500);

/// L1 keeps values for so long that no test passes by waiting for their end.
pub(crate) const LONG: CacheSpec = CacheSpec::new("number", 1)
    .l1_ttl(Duration::from_secs(600))
    .l2_ttl(Duration::from_secs(600));

#[derive(Clone, Debug, Default)]
pub(crate) struct Source(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    value: AtomicU64,
    loads: AtomicU64,
}

impl Source {
    pub(crate) fn set(&self, value: u64) {
        self.0.value.store(value, Ordering::SeqCst);
    }

    pub(crate) fn loads(&self) -> u64 {
        self.0.loads.load(Ordering::SeqCst)
    }

    /// Reads the register through `cache`.
    pub(crate) async fn read(
        &self,
        cache: &Cache<u64>,
        id: &str,
    ) -> Result<u64, CacheError<Infallible>> {
        let source = self.clone();
        let value = cache.get_or_load(id, move || async move {
            source.0.loads.fetch_add(1, Ordering::SeqCst);
            let value = source.0.value.load(Ordering::SeqCst);
            // Time for a drop to come between reading and keeping.
            for _ in 0..value % 4 {
                tokio::task::yield_now().await;
            }
            Ok(Some(value))
        });
        value
            .await
            .map(|value| *value.expect("the register exists"))
    }
}

impl Source {
    /// Reads through `cache` what is at least as new as `token` says.
    pub(crate) async fn read_since(&self, cache: &Cache<u64>, id: &str, token: Token) -> u64 {
        let source = self.clone();
        let load = move || async move {
            source.0.loads.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Infallible>(Some(source.0.value.load(Ordering::SeqCst)))
        };
        let value = cache.get_min_version(id, token, load).await;
        *value.unwrap().expect("the register exists")
    }

    /// Reads a register that takes long enough for others to come meanwhile.
    pub(crate) async fn read_slowly(&self, cache: &Cache<u64>, id: &str) -> u64 {
        let source = self.clone();
        let load = move || async move {
            source.0.loads.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok::<_, Infallible>(Some(source.0.value.load(Ordering::SeqCst)))
        };
        let value = cache.get_or_load(id, load).await;
        *value.unwrap().expect("the register exists")
    }
}

/// Four readers while a writer changes the register and invalidates, 2,000
/// times, and on until a load and a drop have met: no read that begins after an
/// invalidation returns an older value.
pub(crate) async fn race(hub: &Hub) {
    let (cache, source) = (hub.cache::<u64>(LONG), Source::default());
    let known = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (cache, source, known) = (cache.clone(), source.clone(), known.clone());
            let done = done.clone();
            tokio::spawn(async move {
                loop {
                    let at_least = known.load(Ordering::SeqCst);
                    let value = source.read(&cache, "raced").await.unwrap();
                    assert!(value >= at_least, "{value} after {at_least}");
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    // Hits never wait, and the writer needs a thread too.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for value in 1..=100_000 {
        if value > 2_000 && hub.stats().rejected_by_fence > 0 {
            break;
        }
        source.set(value);
        let _ = cache.invalidate("raced").await;
        known.store(value, Ordering::SeqCst);
        if value % 3 == 0 {
            assert_eq!(source.read(&cache, "raced").await.unwrap(), value);
        } else {
            // Lets the readers begin loads that the next drop overtakes.
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    let stats = hub.stats();
    assert!(stats.rejected_by_fence > 0, "nothing raced: {stats:?}");
}
