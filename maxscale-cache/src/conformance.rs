//! What every [`Remote`] must keep; run [`check`] against yours.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use maxscale_cache::{conformance, remote::LocalRemote};
//!
//! conformance::check(LocalRemote::default(), "doc").await;
//! # }
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::remote::{Fence, Heard, Notice, Remote, RemoteError};

const TTL: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(5);
const QUIET: Notice<'_> = Notice::new("conformance", "bump");

/// Runs the whole suite under keys that begin with `prefix`.
///
/// # Panics
///
/// Panics at the first promise that `remote` breaks.
pub async fn check(remote: impl Remote, prefix: &str) {
    let remote = Arc::new(remote);
    let key = |name: &str| format!("{prefix}:{name}");

    fill_under_the_fence_of_a_miss_is_read_back(&*remote, &key("fill")).await;
    fence_without_a_bump_stays(&*remote, &key("stays")).await;
    bump_drops_the_value(&*remote, &key("bump")).await;
    bump_between_read_and_fill_refuses_the_fill(&*remote, &key("fence")).await;
    bump_of_an_unknown_key_refuses_fills_too(&*remote, &key("unknown")).await;
    fence_never_given_is_refused(&*remote, &key("forged")).await;
    value_ends_with_its_ttl(&*remote, &key("ttl")).await;
    bytes_come_back_as_they_were(&*remote, &key("bytes")).await;
    fills_under_one_fence_leave_one_whole_value(&remote, &key("fills")).await;
    racing_bumps_leave_no_older_value(&remote, &key("race")).await;
    bump_is_told_to_all_who_listen(&*remote, &key("told"), &key("channel")).await;
}

async fn fill_under_the_fence_of_a_miss_is_read_back(remote: &impl Remote, key: &str) {
    let fence = miss(remote, key).await;
    assert!(fill(remote, key, fence, "1").await, "first fill refused");
    assert_eq!(value(remote, key).await, Some("1".into()));
}

async fn fence_without_a_bump_stays(remote: &impl Remote, key: &str) {
    let fence = miss(remote, key).await;
    assert_eq!(miss(remote, key).await, fence, "a second reader's fence");
    assert!(fill(remote, key, fence, "1").await);
    let (_, filled) = ok(remote.read(key)).await;
    assert_eq!(filled, fence, "a fill moved the fence");
    assert!(fill(remote, key, fence, "2").await, "second fill refused");
}

async fn bump_drops_the_value(remote: &impl Remote, key: &str) {
    let fence = miss(remote, key).await;
    assert!(fill(remote, key, fence, "1").await);
    ok(remote.bump(key, QUIET)).await;
    assert_eq!(value(remote, key).await, None, "value after a bump");
}

async fn bump_between_read_and_fill_refuses_the_fill(remote: &impl Remote, key: &str) {
    let before = miss(remote, key).await;
    ok(remote.bump(key, QUIET)).await;
    assert!(!fill(remote, key, before, "old").await, "old fill accepted");
    let after = miss(remote, key).await;
    assert!(fill(remote, key, after, "new").await);
    assert!(!fill(remote, key, before, "old").await, "old fill accepted");
    assert_eq!(value(remote, key).await, Some("new".into()));
}

async fn bump_of_an_unknown_key_refuses_fills_too(remote: &impl Remote, key: &str) {
    ok(remote.bump(key, QUIET)).await;
    let first = miss(remote, key).await;
    ok(remote.bump(key, QUIET)).await;
    ok(remote.bump(key, QUIET)).await;
    assert!(!fill(remote, key, first, "old").await, "old fill accepted");
}

async fn fence_never_given_is_refused(remote: &impl Remote, key: &str) {
    // The key is unknown: forgotten by the store, as it were.
    let forgotten = Fence::new(1);
    assert!(!fill(remote, key, forgotten, "x").await, "fence made up");
    assert_eq!(value(remote, key).await, None);
}

async fn value_ends_with_its_ttl(remote: &impl Remote, key: &str) {
    let fence = miss(remote, key).await;
    let short = Duration::from_millis(50);
    assert!(ok(remote.fill(key, fence, "1".into(), short)).await);
    let end = Instant::now() + LIMIT;
    while value(remote, key).await.is_some() {
        assert!(Instant::now() < end, "value outlives its TTL");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn bytes_come_back_as_they_were(remote: &impl Remote, key: &str) {
    let fence = miss(remote, key).await;
    let bytes: Bytes = (0..=u8::MAX).cycle().take(300_000).collect();
    assert!(ok(remote.fill(key, fence, bytes.clone(), TTL)).await);
    assert!(value(remote, key).await == Some(bytes), "bytes changed");
}

async fn fills_under_one_fence_leave_one_whole_value<R: Remote>(remote: &Arc<R>, key: &str) {
    let fence = miss(&**remote, key).await;
    let fills = (0..50_u8).map(|n| {
        let (remote, key) = (remote.clone(), key.to_owned());
        tokio::spawn(async move {
            let bytes = Bytes::from(vec![n; 1_000]);
            ok(remote.fill(&key, fence, bytes, TTL)).await
        })
    });
    for filled in join_all(fills).await {
        assert!(filled.expect("the fill did not panic"), "fill refused");
    }
    let bytes = value(&**remote, key).await.unwrap_or_default();
    let whole = bytes.len() == 1_000 && bytes.iter().all(|b| *b == bytes[0]);
    assert!(whole, "a value of two fills");
}

/// Writers raise a register and bump; readers fill what they saw. Whatever is
/// cached after a bump must be at least as new as the register was before it.
async fn racing_bumps_leave_no_older_value<R: Remote>(remote: &Arc<R>, key: &str) {
    use std::sync::atomic::{AtomicU64, Ordering};

    let register = Arc::new(AtomicU64::new(0));
    let fillers = (0..4).map(|_| {
        let (remote, register, key) = (remote.clone(), register.clone(), key.to_owned());
        tokio::spawn(async move {
            while register.load(Ordering::SeqCst) < 300 {
                let (found, fence) = ok(remote.read(&key)).await;
                if found.is_some() {
                    tokio::task::yield_now().await;
                    continue;
                }
                let seen = register.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                let bytes = Bytes::copy_from_slice(&seen.to_be_bytes());
                ok(remote.fill(&key, fence, bytes, TTL)).await;
            }
        })
    });
    let fillers: Vec<_> = fillers.collect();
    for now in 1..=300_u64 {
        register.store(now, Ordering::SeqCst);
        ok(remote.bump(key, QUIET)).await;
        for _ in 0..3 {
            let Some(bytes) = value(&**remote, key).await else {
                continue;
            };
            let found = u64::from_be_bytes(bytes[..].try_into().expect("eight bytes"));
            assert!(found >= now, "value {found} after bump {now}");
        }
    }
    for filler in fillers {
        filler.await.expect("no fill panicked");
    }
}

async fn bump_is_told_to_all_who_listen(remote: &impl Remote, key: &str, channel: &str) {
    let mut first = remote.listen(channel);
    let mut second = remote.listen(channel);
    let mut elsewhere = remote.listen("conformance-elsewhere");
    let told = Heard::Message("hello".into());
    for listener in [&mut first, &mut second] {
        // Listening may begin a moment after the call, so the bump is repeated.
        let heard = async {
            loop {
                ok(remote.bump(key, Notice::new(channel, "hello"))).await;
                let wait = Duration::from_millis(20);
                while let Ok(Some(heard)) = timeout(wait, listener.next()).await {
                    if heard == told {
                        return;
                    }
                }
            }
        };
        assert!(timeout(LIMIT, heard).await.is_ok(), "a bump was not heard");
    }
    let wait = Duration::from_millis(20);
    while let Ok(Some(heard)) = timeout(wait, elsewhere.next()).await {
        assert_eq!(heard, Heard::Missed, "heard on another channel");
    }
}

async fn miss(remote: &impl Remote, key: &str) -> Fence {
    let (value, fence) = ok(remote.read(key)).await;
    assert_eq!(value, None, "a value under {key}");
    fence
}

async fn value(remote: &impl Remote, key: &str) -> Option<Bytes> {
    ok(remote.read(key)).await.0
}

async fn fill(remote: &impl Remote, key: &str, fence: Fence, value: &'static str) -> bool {
    ok(remote.fill(key, fence, value.into(), TTL)).await
}

async fn ok<T>(step: impl Future<Output = Result<T, RemoteError>>) -> T {
    step.await.expect("the store answers during the suite")
}
