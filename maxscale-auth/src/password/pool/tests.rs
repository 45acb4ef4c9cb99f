use std::sync::mpsc;

use super::*;
use crate::password::{Context, Factors};

const PASSWORD: &str = "correct horse battery";
/// Longer than any test runs.
const LIMIT: Duration = Duration::from_secs(120);

async fn pool(threads: usize, wait: Duration, queue: usize) -> PasswordPool {
    let mut config = PasswordPoolConfig::default();
    (config.threads, config.wait, config.queue) = (threads, wait, queue);
    PasswordPool::new(config).await.unwrap()
}

fn new(pool: &PasswordPool) -> NewPassword {
    let (context, factors) = (Context::default(), Factors::default());
    pool.policy().check(PASSWORD, &context, factors).unwrap()
}

/// Takes the only thread, until it is let go.
struct Taken {
    go: mpsc::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), AuthError>>,
}

impl Taken {
    async fn thread_of(pool: &PasswordPool) -> Self {
        let (go, gone) = mpsc::channel::<()>();
        let (begun, has_begun) = oneshot::channel();
        let inner = pool.inner.clone();
        let ended = tokio::spawn(async move {
            let work = move |_: &mut Memory| {
                begun.send(()).unwrap();
                let _ = gone.recv();
                Ok(())
            };
            inner.run_within(LIMIT, work).await
        });
        has_begun.await.unwrap();
        Self { go, ended }
    }

    async fn let_go(self) {
        self.go.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }
}

/// Waits until so many wait in the queue.
async fn queued(pool: &PasswordPool, jobs: usize) {
    while pool.inner.queue.len() != jobs {
        tokio::task::yield_now().await;
    }
}

fn counts(
    ran: &Arc<std::sync::atomic::AtomicUsize>,
) -> impl FnOnce(&mut Memory) -> Result<(), AuthError> + use<> {
    let ran = ran.clone();
    move |_| {
        ran.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn password_verifies_only_against_its_own_hash() {
    let pool = pool(1, LIMIT, 8).await;
    let stored = pool.hash(new(&pool)).await.unwrap();
    assert!(
        stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{stored}"
    );
    let verify = async |password, stored| pool.verify(password, stored).await;
    let right = verify(PASSWORD, Some(&stored)).await.unwrap();
    assert!(right.right && right.upgrade.is_none());
    assert_eq!(right.scheme, Scheme::Argon2);
    let wrong = verify("correct horse batterz", Some(&stored)).await;
    assert!(!wrong.unwrap().right);
    let nobody = verify(PASSWORD, None).await.unwrap();
    assert!(!nobody.right && nobody.scheme == Scheme::Nobody);
    assert!(matches!(
        verify("x", Some("?")).await,
        Err(AuthError::StoredHash)
    ));
    let long = "x".repeat(1_000_000);
    assert!(!verify(&long, Some(&stored)).await.unwrap().right);
}

#[tokio::test]
async fn who_waits_too_long_is_refused() {
    let pool = pool(1, Duration::from_millis(1), 8).await;
    let taken = Taken::thread_of(&pool).await;
    let refused = pool.verify(PASSWORD, None).await;
    assert!(matches!(refused, Err(AuthError::Busy)));
    assert_eq!(pool.inner.meters.late.get(), 1);
    taken.let_go().await;
}

#[tokio::test]
async fn beyond_the_queue_nobody_waits() {
    let pool = pool(1, LIMIT, 2).await;
    let taken = Taken::thread_of(&pool).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn({
                let pool = pool.clone();
                async move { pool.verify(PASSWORD, None).await }
            })
        })
        .collect();
    queued(&pool, 2).await;
    let refused = pool.verify(PASSWORD, None).await;
    assert!(matches!(refused, Err(AuthError::Busy)));
    assert_eq!(pool.inner.meters.full.get(), 1);
    taken.let_go().await;
    for waited in waiting {
        assert!(!waited.await.unwrap().unwrap().right);
    }
}

#[tokio::test]
async fn who_goes_away_before_it_began_is_not_hashed_and_takes_no_place() {
    let pool = pool(1, LIMIT, 2).await;
    let taken = Taken::thread_of(&pool).await;
    let ran = Arc::default();
    let gone: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn({
                let (inner, work) = (pool.inner.clone(), counts(&ran));
                async move { inner.run(work).await }
            })
        })
        .collect();
    queued(&pool, 2).await;
    for task in gone {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert_eq!(pool.inner.meters.left.get(), 2);
    // The queue has two places, and both are free again.
    let here: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn({
                let pool = pool.clone();
                async move { pool.verify(PASSWORD, None).await }
            })
        })
        .collect();
    queued(&pool, 2).await;
    taken.let_go().await;
    for task in here {
        assert!(!task.await.unwrap().unwrap().right);
    }
    assert_eq!(ran.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn thread_stays_taken_when_the_caller_of_a_running_hash_goes_away() {
    let pool = pool(1, LIMIT, 8).await;
    let taken = Taken::thread_of(&pool).await;
    taken.ended.abort();
    assert!(taken.ended.await.unwrap_err().is_cancelled());
    assert_eq!(pool.inner.meters.left.get(), 0);
    let next = tokio::spawn({
        let pool = pool.clone();
        async move { pool.verify(PASSWORD, None).await }
    });
    queued(&pool, 1).await;
    assert!(!next.is_finished());
    taken.go.send(()).unwrap();
    assert!(!next.await.unwrap().unwrap().right);
}

#[tokio::test]
async fn panic_costs_its_caller_alone() {
    let pool = pool(1, LIMIT, 8).await;
    let panics = |_: &mut Memory| -> Result<(), AuthError> { panic!("a bug") };
    let failed = pool.inner.run(panics).await;
    assert!(matches!(failed, Err(AuthError::Hash(_))));
    assert!(!pool.verify(PASSWORD, None).await.unwrap().right);
}

#[tokio::test]
async fn shutdown_waits_for_what_runs_and_refuses_the_rest() {
    let pool = pool(1, LIMIT, 8).await;
    let taken = Taken::thread_of(&pool).await;
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.verify(PASSWORD, None).await }
    });
    queued(&pool, 1).await;
    let shutdown = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shutdown().await }
    });
    assert!(matches!(waiting.await.unwrap(), Err(AuthError::Busy)));
    assert!(!shutdown.is_finished());
    taken.let_go().await;
    shutdown.await.unwrap();
    pool.shutdown().await;
    let late = pool.hash(new(&pool)).await;
    assert!(matches!(late, Err(AuthError::Busy)));
}

#[tokio::test]
async fn threads_end_with_the_last_handle() {
    let pool = pool(2, LIMIT, 8).await;
    let (queue, ended) = (Arc::downgrade(&pool.inner.queue), pool.inner.ended.clone());
    drop(pool.clone());
    assert!(queue.upgrade().is_some());
    drop(pool);
    drop(ended.acquire_many(2).await.unwrap());
}
