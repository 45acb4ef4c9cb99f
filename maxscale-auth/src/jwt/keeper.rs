//! The keys as one process knows them, and who sees to it that they come and go.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use maxscale_core::Chain;
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::control::Backoff;
use maxscale_core::keys::{KeyRing, Secret};
use maxscale_shard::Router;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::keys::Keys;
use super::public::Algorithm;
use super::published::Published;
use super::rotation::Rotation;
use super::signing::SigningKey;
use super::store::{KeyStore, KeyStoreError, Stored};
use crate::background::Background;
use crate::realm::Realm;

/// The keys that sign and verify a realm's access tokens, as they lie in the database for
/// all processes. Cheap to clone.
///
/// Each process looks at them in the background, four times as often as
/// [`Rotation::seen_within`] asks for, and does what is to be done with them; of several
/// that want to do the same, one does. A process that cannot look goes on verifying by
/// what it read last, and signs nothing once that is older than `seen_within`: another key
/// may sign by then, and what the old one signs be refused.
///
/// All processes have the same rotation, and clocks that differ by no more than
/// [`AccessTokens::LEEWAY`](super::AccessTokens::LEEWAY). They look until the last clone is
/// dropped.
#[derive(Clone, Debug)]
pub struct SigningKeys {
    keeper: Arc<Keeper>,
    /// Ends with the last clone.
    _looks: Arc<Background>,
}

/// What [`SigningKeys`] needs; see [`SigningKeys::builder`].
#[derive(Debug)]
#[must_use]
pub struct SigningKeysBuilder {
    store: KeyStore,
    rotation: Rotation,
    algorithm: Algorithm,
    clock: Clock,
}

#[derive(Debug)]
struct Keeper {
    store: KeyStore,
    rotation: Rotation,
    algorithm: Algorithm,
    clock: Clock,
    view: ArcSwap<View>,
    /// One look at a time.
    looking: Mutex<()>,
}

/// What was read.
#[derive(Debug)]
struct View {
    keys: Keys,
    published: Published,
    /// How long nothing is to be done, from `read_at` on.
    due_in: Duration,
    /// From before it was read.
    read_at: Timestamp,
}

// === impl SigningKeys ===

impl SigningKeys {
    /// Starts with the keys in `router`'s database, sealed by `ring`, whose tables
    /// [`MIGRATIONS`](crate::MIGRATIONS) made. `rotation` says when they come and go.
    pub const fn builder(
        router: Router,
        ring: Arc<KeyRing>,
        rotation: Rotation,
    ) -> SigningKeysBuilder {
        SigningKeysBuilder {
            store: KeyStore {
                router,
                ring,
                realm: Realm::MAIN,
            },
            rotation,
            algorithm: Algorithm::EdDsa,
            clock: Clock::system(),
        }
    }

    /// What verifies, as this process read it last. Asks nobody.
    pub fn keys(&self) -> Keys {
        self.keeper.view.load().keys.clone()
    }

    /// What signs: the keys of no longer ago than [`Rotation::seen_within`]. The database is
    /// asked only if they are older.
    ///
    /// # Errors
    ///
    /// Returns [`KeyStoreError`] if they are older and cannot be read.
    pub async fn signing(&self) -> Result<Keys, KeyStoreError> {
        let keeper = &self.keeper;
        if keeper.is_stale() {
            keeper.look().await?;
        }
        Ok(self.keys())
    }

    /// Reads the keys, and does what is to be done with them now.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, what it did is done as a whole or not at all.
    ///
    /// # Errors
    ///
    /// Returns [`KeyStoreError`]: the keys stay those that were read last. It may be
    /// repeated.
    pub async fn look(&self) -> Result<(), KeyStoreError> {
        self.keeper.look().await
    }

    /// Whether what this process knows is older than it may be.
    pub fn is_stale(&self) -> bool {
        self.keeper.is_stale()
    }

    /// The realm whose tokens they sign.
    pub fn realm(&self) -> Realm {
        self.keeper.store.realm
    }

    /// When keys come and go.
    pub fn rotation(&self) -> &Rotation {
        &self.keeper.rotation
    }

    /// Whether `text` has the header of a key that verifies: enough for a text that one of
    /// them has signed.
    #[cfg(feature = "near")]
    pub(super) fn have_signed(&self, text: &str) -> bool {
        let header = text.split_once('.').map_or(text, |(header, _)| header);
        self.keeper.view.load().keys.of(header).is_some()
    }

    /// The key set, and for how long it may be kept.
    pub(super) fn published(&self) -> (Published, Duration) {
        let (keeper, view) = (&self.keeper, self.keeper.view.load());
        let age = keeper.clock.now().since(view.read_at);
        let sure = keeper.rotation.seen_within().saturating_sub(age);
        let due = view.due_in.saturating_sub(age);
        (view.published.clone(), Published::cached_for(sure, due))
    }
}

// === impl SigningKeysBuilder ===

impl SigningKeysBuilder {
    /// Sets the realm. Default: [`Realm::MAIN`].
    pub const fn realm(mut self, realm: Realm) -> Self {
        self.store.realm = realm;
        self
    }

    /// Sets how new keys sign. Default: [`Algorithm::EdDsa`].
    pub const fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets the clock. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Reads the keys, makes the first one if there is none, and looks at them from then on.
    ///
    /// # Errors
    ///
    /// Returns [`KeyStoreError`].
    pub async fn open(self) -> Result<SigningKeys, KeyStoreError> {
        let read = read(&self.store, &self.rotation, self.algorithm, &self.clock);
        let view = read.await?;
        let keeper = Arc::new(Keeper {
            store: self.store,
            rotation: self.rotation,
            algorithm: self.algorithm,
            clock: self.clock,
            view: ArcSwap::from_pointee(view),
            looking: Mutex::default(),
        });
        let looks = Background::default();
        looks.spawn(looks_again(keeper.clone()));
        Ok(SigningKeys {
            keeper,
            _looks: Arc::new(looks),
        })
    }
}

// === impl Keeper ===

impl Keeper {
    async fn look(&self) -> Result<(), KeyStoreError> {
        let _one = self.looking.lock().await;
        let view = read(&self.store, &self.rotation, self.algorithm, &self.clock).await?;
        self.view.store(Arc::new(view));
        Ok(())
    }

    fn is_stale(&self) -> bool {
        let age = self.clock.now().since(self.view.load().read_at);
        age >= self.rotation.seen_within()
    }

    /// How long until the next look: until something is to be done, but for a part that is
    /// drawn, so that not all processes come at once.
    fn pause(&self) -> Duration {
        let within = self.rotation.seen_within();
        let drawn = Secret::random::<2>().map_or(0, u16::from_be_bytes);
        let spread = (within / 64).mul_f64(f64::from(drawn) / f64::from(u16::MAX));
        self.view.load().due_in.min(within / 4) + spread
    }
}

/// How often something is done before others are let look: more is never due at once, but
/// where a change is refused again and again because it comes too late.
const STEPS: u32 = 16;

/// What is stored, once all is done that was to be done.
async fn read(
    store: &KeyStore,
    rotation: &Rotation,
    algorithm: Algorithm,
    clock: &Clock,
) -> Result<View, KeyStoreError> {
    let mut steps = 0;
    loop {
        let read_at = clock.now();
        let stored = store.load().await?;
        let states = stored.record.states();
        let next = match rotation.step(&states, read_at) {
            _ if steps == STEPS => None,
            Some(step) => {
                let draw = || SigningKey::random(algorithm);
                // As late as it can be stored: who counts from then on counts too little.
                let since = read_at.after(KeyStore::WITHIN);
                Some(stored.record.after(step, since, draw)?)
            }
            None => (stored.is_sealed_before).then(|| stored.record.clone()),
        };
        let Some(next) = next else {
            return View::of(&stored, rotation.due_in(&states, read_at), read_at);
        };
        // Whether this or another process's change was stored is seen by reading it: what
        // was never stored signs nothing.
        store.exchange(&stored, &next).await?;
        steps += 1;
    }
}

async fn looks_again(keeper: Arc<Keeper>) {
    let within = keeper.rotation.seen_within();
    let backoff = Backoff::new(within / 1_024, within / 16);
    let mut failed = 0_u32;
    loop {
        let pause = match failed {
            0 => keeper.pause(),
            times => {
                let drawn = Secret::random::<1>().map_or(0, |[it]| it);
                backoff.wait(times, f64::from(drawn) / 256.0)
            }
        };
        sleep(pause).await;
        failed = match keeper.look().await {
            Ok(()) => 0,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "cannot look at the keys of tokens");
                failed.saturating_add(1)
            }
        };
    }
}

// === impl View ===

impl View {
    fn of(stored: &Stored, due_in: Duration, read_at: Timestamp) -> Result<Self, KeyStoreError> {
        let keys = stored.record.keys()?;
        Ok(Self {
            published: Published::of(&keys),
            keys,
            due_in,
            read_at,
        })
    }
}
