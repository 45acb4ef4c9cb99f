//! What the time of an answer tells about an account: nothing, with the floor.

#[cfg(feature = "openapi")]
mod whole;

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use maxscale_auth::password::{OlderHashes, Scheme};
use maxscale_auth::{Floor, PasswordPool, PasswordPoolConfig};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use crate::rank;
use crate::support::LIMIT;

/// Held by each test that measures: four in flight are as many as it says.
static ALONE: AsyncMutex<()> = AsyncMutex::const_new(());

/// Samples of each kind that are not counted: the floor knows nothing yet.
const WARM: usize = 16;

const WRONG: &str = "not the password at all";

/// By py-bcrypt, of another password.
const BCRYPT_6: &str = "$2b$06$s35aummpv/VuhfMEcJ9Ff.ng96QDr9tQTT0sX7Fxk2URc224qXHu6";
const BCRYPT_8: &str = "$2b$08$JH5llCUnL.ojPv1M9Y2e.u21fcFXAozEBp3H21H3baR6x90PFBHEu";
const BCRYPT_10: &str = "$2b$10$2eHjK4RQZCPM.BTQJyiJi.7E2g6IMcmKmLdMhKaoDtEkkMAnPInpK";

const ARGON2: &str = "$argon2id$v=19$m=19456,t=2,p=1$BznJUV+XDDDV6Aq0SjqApQ$pxJYStCbmiR1CIlOl3MiJqUQzzapRiyOqrgWox/4EgE";

const KINDS: [&str; 4] = ["unknown", "argon2", "bcrypt", "wrapped"];

struct Logins {
    pool: PasswordPool,
    floor: Option<Floor<Scheme>>,
    stored: [Option<String>; 4],
}

// === impl Logins ===

impl Logins {
    async fn new(cost: u32, bcrypt: &str, held: bool) -> Self {
        let mut config = PasswordPoolConfig::default();
        config.wait = LIMIT;
        // None waits for another, which would hide what each takes.
        config.threads = 4;
        config.older = Some(OlderHashes::bcrypt(cost).wrapped());
        let pool = PasswordPool::new(config).await.unwrap();
        let wrapped = pool.wrap(bcrypt).await.unwrap().unwrap().to;
        Self {
            floor: held.then(|| Floor::new(pool.slowest())),
            pool,
            stored: [
                None,
                Some(ARGON2.into()),
                Some(bcrypt.into()),
                Some(wrapped),
            ],
        }
    }

    /// The seconds until a wrong password is answered.
    async fn wrong(&self, kind: usize) -> f64 {
        let begun = Instant::now();
        let held = self.floor.as_ref().map(Floor::begin);
        let verified = self.pool.verify(WRONG, self.stored[kind].as_deref()).await;
        let verified = verified.unwrap();
        assert!(!verified.right);
        if let Some(held) = held {
            held.until_floor(verified.scheme).await;
        }
        begun.elapsed().as_secs_f64()
    }
}

/// What answers about each kind took, in seconds.
struct Times<const N: usize>([(&'static str, Vec<f64>); N]);

// === impl Times ===

impl<const N: usize> Times<N> {
    /// Of these kinds, whose first answers are not counted.
    async fn warm(kinds: [&'static str; N], ask: impl AsyncFn(usize) -> f64) -> Self {
        let mut times = Self(kinds.map(|kind| (kind, Vec::new())));
        times.take(WARM, ask).await;
        times.0.iter_mut().for_each(|(_, times)| times.clear());
        times
    }

    /// Takes so many of each, interleaved, with four in flight.
    async fn take(&mut self, samples: usize, ask: impl AsyncFn(usize) -> f64) {
        let order = shuffled::<N>(samples);
        let (next, times) = (AtomicUsize::new(0), Mutex::new(&mut self.0));
        let caller = || async {
            while let Some(&kind) = order.get(next.fetch_add(1, Ordering::SeqCst)) {
                let took = ask(kind).await;
                times.lock().unwrap()[kind].1.push(took);
            }
        };
        tokio::join!(caller(), caller(), caller(), caller());
    }

    /// How well each pair of kinds is told apart.
    fn pairs(&self) -> Vec<(String, f64)> {
        let pairs = rank::pairs(&self.0);
        let samples = self.0[0].1.len();
        eprintln!("{samples} of each: {pairs:.3?}");
        pairs
    }
}

/// Whether each pair is within these bounds.
fn all_within(pairs: &[(String, f64)], bounds: &RangeInclusive<f64>) -> bool {
    pairs.iter().all(|(_, auc)| bounds.contains(auc))
}

/// What 200 samples of each kind have to be within.
const BY_200: RangeInclusive<f64> = 0.40..=0.60;
/// And 2,000.
const BY_2_000: RangeInclusive<f64> = 0.47..=0.53;

/// How often 200 more are taken. Where nobody can tell, one of ten pairs is outside by
/// chance once in some 200 runs, as 0.40 is 3.5 deviations away. What was taken before
/// counts on, so that the estimate only gets better: by 600 chance is six deviations
/// away from the bound, and what tells by 0.65 is three beyond it, as before.
const ROUNDS: usize = 3;

/// Asserts that no pair of kinds is told apart by 200 samples of each.
async fn assert_alike<const N: usize>(times: &mut Times<N>, ask: impl AsyncFn(usize) -> f64) {
    for _ in 0..ROUNDS {
        times.take(200, &ask).await;
        if all_within(&times.pairs(), &BY_200) {
            return;
        }
    }
    panic!("time tells: {:?}", times.pairs());
}

/// Each kind so many times: in every `N` each kind once, in an order that changes.
fn shuffled<const N: usize>(times: usize) -> Vec<usize> {
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        // Knuth's MMIX generator, of which the high bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let block = |_| {
        let mut kinds: [usize; N] = std::array::from_fn(|kind| kind);
        for at in (1..kinds.len()).rev() {
            kinds.swap(at, draw(at + 1));
        }
        kinds
    };
    (0..times).flat_map(block).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_does_not_tell_what_a_password_was_checked_against() {
    let _alone = ALONE.lock().await;
    let logins = Logins::new(8, BCRYPT_8, true).await;
    let ask = async |kind| logins.wrong(kind).await;
    let mut times = Times::warm(KINDS, ask).await;
    assert_alike(&mut times, ask).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "8,000 logins take minutes; CONTRIBUTING.md has the command"]
async fn time_does_not_tell_it_in_two_thousand_samples_either() {
    let _alone = ALONE.lock().await;
    let logins = Logins::new(6, BCRYPT_6, true).await;
    let ask = async |kind| logins.wrong(kind).await;
    let mut times = Times::warm(KINDS, ask).await;
    times.take(2_000, ask).await;
    let pairs = times.pairs();
    assert!(all_within(&pairs, &BY_2_000), "{pairs:?}");
}

/// That the test above sees what the floor hides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_floor_time_tells() {
    let _alone = ALONE.lock().await;
    let logins = Logins::new(10, BCRYPT_10, false).await;
    let ask = async |kind| logins.wrong(kind).await;
    let mut times = Times::warm(KINDS, ask).await;
    times.take(40, ask).await;
    let pairs = times.pairs();
    let told = |&(_, auc): &&(String, f64)| !BY_200.contains(auc);
    assert!(pairs.iter().filter(told).count() >= 3, "{pairs:?}");
}

#[test]
fn order_has_each_kind_as_often_as_another() {
    let order = shuffled::<4>(100);
    for kind in 0..KINDS.len() {
        assert_eq!(order.iter().filter(|&&drawn| drawn == kind).count(), 100);
        assert!((0..4).all(|place| order.iter().skip(place).step_by(4).any(|&k| k == kind)));
    }
}
