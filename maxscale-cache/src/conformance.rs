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

use crate::remote::{Advert, Bump, Bumped, FENCE_TTL, Fence, Heard, Notice, Remote, RemoteError};

const TTL: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(5);
const QUIET: Notice<'_> = Notice::new("conformance", "beat");

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
    soft_bump_keeps_the_value_and_refuses_fills(&*remote, &key("soft")).await;
    bump_tells_the_version_of_what_was_there(&*remote, &key("version")).await;
    claim_keeps_others_out_for_its_time(&*remote, &key("claim")).await;
    claim_ends_with_a_fill_a_release_and_a_bump(&*remote, &key("claimed")).await;
    racing_claims_give_one_turn(&remote, &key("turns")).await;
    several_reads_answer_in_order(&*remote, &key("many")).await;
    board_tells_what_all_use(&*remote, &key("board")).await;
    notice_is_heard_by_all_who_listen(&*remote, &key("channel")).await;
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
    let found = ok(remote.read(key)).await.expect("it was filled");
    assert_eq!(found.fence, fence, "a fill moved the fence");
    assert!(fill(remote, key, fence, "2").await, "second fill refused");
}

async fn bump_drops_the_value(remote: &impl Remote, key: &str) {
    let fence = miss(remote, key).await;
    assert!(fill(remote, key, fence, "1").await);
    ok(remote.bump(key, Bump::new())).await;
    assert_eq!(value(remote, key).await, None, "value after a bump");
}

async fn bump_between_read_and_fill_refuses_the_fill(remote: &impl Remote, key: &str) {
    let before = miss(remote, key).await;
    ok(remote.bump(key, Bump::new())).await;
    assert!(!fill(remote, key, before, "old").await, "old fill accepted");
    let after = miss(remote, key).await;
    assert!(fill(remote, key, after, "new").await);
    assert!(!fill(remote, key, before, "old").await, "old fill accepted");
    assert_eq!(value(remote, key).await, Some("new".into()));
}

async fn bump_of_an_unknown_key_refuses_fills_too(remote: &impl Remote, key: &str) {
    ok(remote.bump(key, Bump::new())).await;
    let first = miss(remote, key).await;
    ok(remote.bump(key, Bump::new())).await;
    ok(remote.bump(key, Bump::new())).await;
    assert!(!fill(remote, key, first, "old").await, "old fill accepted");
}

async fn fence_never_given_is_refused(remote: &impl Remote, key: &str) {
    // The key is unknown: forgotten by the store, as it were.
    let forgotten = Fence::new(1);
    assert!(!fill(remote, key, forgotten, "x").await, "fence made up");
    assert_eq!(value(remote, key).await, None);
}

async fn soft_bump_keeps_the_value_and_refuses_fills(remote: &impl Remote, key: &str) {
    let before = miss(remote, key).await;
    assert!(fill(remote, key, before, "1").await);
    let bumped = bump(remote, key, true).await;
    let found = ok(remote.read(key)).await.expect("the value stays");
    assert_eq!(found.value, Some("1".into()), "value after a soft bump");
    assert_eq!(found.fence, bumped.fence);
    assert_ne!(found.fence, before, "a soft bump moves the fence");
    assert!(!fill(remote, key, before, "old").await, "old fill accepted");
    assert!(fill(remote, key, bumped.fence, "2").await);
    assert_eq!(value(remote, key).await, Some("2".into()));
    ok(remote.bump(key, Bump::new())).await;
    bump(remote, key, true).await;
    assert_eq!(value(remote, key).await, None, "there was none to keep");
}

async fn bump_tells_the_version_of_what_was_there(remote: &impl Remote, key: &str) {
    assert_eq!(bump(remote, key, false).await.before, 0);
    let fence = miss(remote, key).await;
    let high = u64::MAX - 1;
    assert!(ok(remote.fill(key, fence, high, "1".into(), TTL)).await);
    let soft = bump(remote, key, true).await;
    assert_eq!(soft.before, high);
    assert_eq!(
        bump(remote, key, false).await.before,
        high,
        "the value stayed"
    );
    assert_eq!(bump(remote, key, false).await.before, 0, "there was none");
    let fence = miss(remote, key).await;
    assert!(fill(remote, key, fence, "1").await);
    assert_eq!(bump(remote, key, false).await.before, 0, "it had none");
}

async fn claim_keeps_others_out_for_its_time(remote: &impl Remote, key: &str) {
    let hold = Duration::from_millis(100);
    let mine = ok(remote.claim(key, 1, hold, FENCE_TTL)).await;
    assert!(mine.wait.is_zero() && mine.now > 0, "{mine:?}");
    let again = ok(remote.claim(key, 1, hold, FENCE_TTL)).await;
    assert!(again.wait.is_zero(), "one's own claim is renewed");
    let other = ok(remote.claim(key, 2, hold, FENCE_TTL)).await;
    assert_eq!(other.found.fence, mine.found.fence);
    let looker = ok(remote.claim(key, 0, hold, FENCE_TTL)).await;
    assert!(looker.wait.is_zero(), "who claims nothing waits for nobody");
    let end = Instant::now() + LIMIT;
    while !ok(remote.claim(key, 2, hold, FENCE_TTL))
        .await
        .wait
        .is_zero()
    {
        assert!(Instant::now() < end, "a claim outlives its time");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn claim_ends_with_a_fill_a_release_and_a_bump(remote: &impl Remote, key: &str) {
    let claim = async |owner| ok(remote.claim(key, owner, TTL, FENCE_TTL)).await;
    let mine = claim(1).await;
    assert!(!claim(2).await.wait.is_zero(), "claimed twice");
    ok(remote.release(key, 2)).await;
    assert!(!claim(2).await.wait.is_zero(), "somebody else released it");
    ok(remote.release(key, 1)).await;
    assert!(claim(2).await.wait.is_zero(), "claim after a release");

    assert!(fill(remote, key, mine.found.fence, "1").await);
    let after = claim(1).await;
    assert!(after.wait.is_zero(), "claim after a fill");
    assert_eq!(after.found.value, Some("1".into()));
    bump(remote, key, false).await;
    assert!(claim(2).await.wait.is_zero(), "claim after a bump");
}

async fn racing_claims_give_one_turn<R: Remote>(remote: &Arc<R>, key: &str) {
    let claims = (1..=20).map(|owner| {
        let (remote, key) = (remote.clone(), key.to_owned());
        tokio::spawn(async move { ok(remote.claim(&key, owner, TTL, FENCE_TTL)).await })
    });
    let mut turns = 0;
    for claimed in join_all(claims).await {
        let claimed = claimed.expect("the claim did not panic");
        turns += u32::from(claimed.wait.is_zero());
    }
    assert_eq!(turns, 1, "claims that were given at once");
}

async fn several_reads_answer_in_order(remote: &impl Remote, key: &str) {
    let keys: Vec<Arc<str>> = (0..20).map(|n| format!("{key}{n}").into()).collect();
    for (n, key) in keys.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
        let fence = miss(remote, key).await;
        let value = Bytes::from(n.to_string());
        assert!(ok(remote.fill(key, fence, 0, value, TTL)).await);
    }
    let found = remote.read_many(&keys).await;
    assert_eq!(found.len(), keys.len());
    for (n, found) in found.into_iter().enumerate() {
        let found = found.expect("the store answers during the suite");
        let value = found.and_then(|found| found.value);
        let expected = (n % 2 == 0).then(|| Bytes::from(n.to_string()));
        assert_eq!(value, expected, "key {n}");
    }
}

async fn board_tells_what_all_use(remote: &impl Remote, board: &str) {
    let beat = async |origin: &str, seen, schemas: &[(&str, Duration)]| {
        let schemas = schemas.iter().map(|(name, ttl)| ((*name).into(), *ttl));
        let schemas: Vec<(Arc<str>, Duration)> = schemas.collect();
        ok(remote.beat(Advert::new(board, origin, seen, &schemas, QUIET))).await
    };
    let names = |beat: &crate::remote::Beat| {
        let mut names: Vec<_> = beat.schemas.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    };
    let one = beat("one", 0, &[("a:1", TTL)]).await;
    assert_eq!(names(&one), ["a:1"]);
    assert_eq!(
        one.schemas[0].1,
        Duration::ZERO,
        "nobody has to learn of it"
    );
    let two = beat(
        "two",
        0,
        &[("a:2", TTL), ("b:1", Duration::from_millis(30))],
    )
    .await;
    assert_eq!(names(&two), ["a:1", "a:2", "b:1"]);
    assert_eq!(two.era, one.era);
    assert!(two.now >= one.now);
    // What one has not seen, or might still not know of, two has to wait for.
    let wait = |beat: &crate::remote::Beat| {
        let found = beat.schemas.iter().find(|(name, _)| name == "a:2");
        found.map(|(_, wait)| *wait)
    };
    let waits = wait(&two).expect("two uses it") <= two.valid_for;
    assert!(waits, "a wait is no longer than a view is valid");
    let one = beat("one", one.now, &[("a:1", TTL)]).await;
    beat("one", one.now, &[("a:1", TTL)]).await;
    let two = beat("two", two.now, &[("a:2", TTL)]).await;
    assert_eq!(wait(&two), Some(Duration::ZERO), "everybody has seen it");
    // `b:1` ends with its values, `a:1` outlives its process.
    let end = Instant::now() + LIMIT;
    while names(&beat("two", two.now, &[("a:2", TTL)]).await) != ["a:1", "a:2"] {
        assert!(Instant::now() < end, "a schema outlives its values");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn value_ends_with_its_ttl(remote: &impl Remote, key: &str) {
    let fence = miss(remote, key).await;
    let short = Duration::from_millis(50);
    assert!(ok(remote.fill(key, fence, 0, "1".into(), short)).await);
    let end = Instant::now() + LIMIT;
    while value(remote, key).await.is_some() {
        assert!(Instant::now() < end, "value outlives its TTL");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn bytes_come_back_as_they_were(remote: &impl Remote, key: &str) {
    let fence = miss(remote, key).await;
    let bytes: Bytes = (0..=u8::MAX).cycle().take(300_000).collect();
    assert!(ok(remote.fill(key, fence, 0, bytes.clone(), TTL)).await);
    assert!(value(remote, key).await == Some(bytes), "bytes changed");
}

async fn fills_under_one_fence_leave_one_whole_value<R: Remote>(remote: &Arc<R>, key: &str) {
    let fence = miss(&**remote, key).await;
    let fills = (0..50_u8).map(|n| {
        let (remote, key) = (remote.clone(), key.to_owned());
        tokio::spawn(async move {
            let bytes = Bytes::from(vec![n; 1_000]);
            ok(remote.fill(&key, fence, 0, bytes, TTL)).await
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
                let found = ok(remote.claim(&key, 0, TTL, FENCE_TTL)).await.found;
                let fence = found.fence;
                if found.value.is_some() {
                    tokio::task::yield_now().await;
                    continue;
                }
                let seen = register.load(Ordering::SeqCst);
                tokio::task::yield_now().await;
                let bytes = Bytes::copy_from_slice(&seen.to_be_bytes());
                ok(remote.fill(&key, fence, 0, bytes, TTL)).await;
            }
        })
    });
    let fillers: Vec<_> = fillers.collect();
    for now in 1..=300_u64 {
        register.store(now, Ordering::SeqCst);
        ok(remote.bump(key, Bump::new())).await;
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

async fn notice_is_heard_by_all_who_listen(remote: &impl Remote, channel: &str) {
    let mut first = remote.listen(channel);
    let mut second = remote.listen(channel);
    let mut elsewhere = remote.listen("conformance-elsewhere");
    let told = Heard::Message("hello".into());
    for listener in [&mut first, &mut second] {
        // Listening may begin a moment after the call, so it is repeated.
        let heard = async {
            loop {
                ok(remote.tell(Notice::new(channel, "hello"))).await;
                let wait = Duration::from_millis(20);
                while let Ok(Some(heard)) = timeout(wait, listener.next()).await {
                    if heard == told {
                        return;
                    }
                }
            }
        };
        assert!(
            timeout(LIMIT, heard).await.is_ok(),
            "a notice was not heard"
        );
    }
    let wait = Duration::from_millis(20);
    while let Ok(Some(heard)) = timeout(wait, elsewhere.next()).await {
        assert_eq!(heard, Heard::Missed, "heard on another channel");
    }
}

async fn miss(remote: &impl Remote, key: &str) -> Fence {
    let found = ok(remote.claim(key, 0, TTL, FENCE_TTL)).await.found;
    assert_eq!(found.value, None, "a value under {key}");
    found.fence
}

async fn value(remote: &impl Remote, key: &str) -> Option<Bytes> {
    ok(remote.read(key)).await?.value
}

async fn bump(remote: &impl Remote, key: &str, keeps_value: bool) -> Bumped {
    let bump = Bump {
        keeps_value,
        ..Bump::new()
    };
    ok(remote.bump(key, bump)).await
}

async fn fill(remote: &impl Remote, key: &str, fence: Fence, value: &'static str) -> bool {
    ok(remote.fill(key, fence, 0, value.into(), TTL)).await
}

async fn ok<T>(step: impl Future<Output = Result<T, RemoteError>>) -> T {
    step.await.expect("the store answers during the suite")
}
