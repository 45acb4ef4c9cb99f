//! What the time of an answer tells about an account: nothing, with the floor.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use maxscale_auth::password::{OlderHashes, Scheme};
use maxscale_auth::{Floor, PasswordPool, PasswordPoolConfig};
use tokio::time::Instant;

use crate::rank;
use crate::support::LIMIT;

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

    /// How well each pair of kinds is told apart by `samples` of each, interleaved.
    async fn told_apart(&self, samples: usize) -> Vec<(String, f64)> {
        let order = shuffled(WARM + samples);
        let (next, times) = (
            AtomicUsize::new(0),
            Mutex::new(KINDS.map(|kind| (kind, Vec::new()))),
        );
        // Four in flight.
        let caller = || async {
            while let Some(&kind) = order.get(next.fetch_add(1, Ordering::SeqCst)) {
                let took = self.wrong(kind).await;
                times.lock().unwrap()[kind].1.push(took);
            }
        };
        tokio::join!(caller(), caller(), caller(), caller());
        let mut times = times.into_inner().unwrap();
        for (_, times) in &mut times {
            times.drain(..WARM);
        }
        let pairs = rank::pairs(&times);
        eprintln!("{:?} {pairs:.3?}", self.floor.as_ref().map(Floor::now));
        pairs
    }
}

/// Each kind so many times: in every four each kind once, in an order that changes.
fn shuffled(times: usize) -> Vec<usize> {
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        // Knuth's MMIX generator, of which the high bits are good.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let block = |_| {
        let mut kinds = [0, 1, 2, 3];
        for at in (1..kinds.len()).rev() {
            kinds.swap(at, draw(at + 1));
        }
        kinds
    };
    (0..times).flat_map(block).collect()
}

fn assert_within(pairs: &[(String, f64)], low: f64, high: f64) {
    for (pair, auc) in pairs {
        assert!((low..=high).contains(auc), "{pair}: {auc}, of {pairs:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_does_not_tell_what_a_password_was_checked_against() {
    let logins = Logins::new(8, BCRYPT_8, true).await;
    assert_within(&logins.told_apart(200).await, 0.40, 0.60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "8,000 logins take minutes; CONTRIBUTING.md has the command"]
async fn time_does_not_tell_it_in_two_thousand_samples_either() {
    let logins = Logins::new(6, BCRYPT_6, true).await;
    assert_within(&logins.told_apart(2_000).await, 0.47, 0.53);
}

/// That the test above sees what the floor hides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_floor_time_tells() {
    let logins = Logins::new(10, BCRYPT_10, false).await;
    let pairs = logins.told_apart(40).await;
    let told = |&(_, auc): &&(String, f64)| !(0.40..=0.60).contains(auc);
    assert!(pairs.iter().filter(told).count() >= 3, "{pairs:?}");
}

#[test]
fn order_has_each_kind_as_often_as_another() {
    let order = shuffled(100);
    for kind in 0..KINDS.len() {
        assert_eq!(order.iter().filter(|&&drawn| drawn == kind).count(), 100);
        assert!((0..4).all(|place| order.iter().skip(place).step_by(4).any(|&k| k == kind)));
    }
}
