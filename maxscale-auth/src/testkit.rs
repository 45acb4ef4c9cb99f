//! What every [`SessionStore`] must keep; run [`check`] against yours.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use maxscale_auth::session::MemorySessions;
//! use maxscale_auth::testkit;
//! use maxscale_core::clock::{Clock, Timestamp};
//! use maxscale_core::fact::VirtualShard;
//! use maxscale_core::id::{IdGenerator, KeyspaceTag};
//!
//! let now = Timestamp::from_micros(1_800_000_000_000_000);
//! let (clock, _time) = Clock::manual(now);
//! let ids = IdGenerator::new(clock.clone(), KeyspaceTag::default());
//! let draw = || ids.draw(VirtualShard::new(0));
//!
//! let store = MemorySessions::new(clock);
//! testkit::check(store.clone(), store, draw, now).await;
//! # }
//! ```

mod alone;
mod races;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;

use crate::session::{
    Created, Level, Methods, NewSession, Reach, Revoked, Rotation, SecretHash, Session,
    SessionStore, Touch, Which, Why,
};

/// Long enough for no check to come near it.
const IDLE: Duration = Duration::from_secs(3600);
/// More than a store may leave [`SessionStore::touch`] behind at this idle time.
const LATER: Duration = Duration::from_secs(600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const DEVICE: &str = "a browser";

/// Runs the whole suite on two handles to the same sessions, as two processes have them.
///
/// Users and sessions get ids from `draw`. `now` is what the store's clock shows,
/// which may stand still; a store may drop what of it is less than a second. All
/// that the store is made of has to be up, and patient on a busy machine.
///
/// # Panics
///
/// Panics at the first promise that the store breaks. Outside a tokio runtime.
pub async fn check<S: SessionStore>(one: S, other: S, draw: impl Fn() -> Id, now: Timestamp) {
    let second = now.as_micros() - now.as_micros().rem_euclid(1_000_000);
    let suite = Suite {
        stores: [Arc::new(one), Arc::new(other)],
        draw,
        now: Timestamp::from_micros(second),
    };
    suite.alone().await;
    suite.races().await;
}

struct Suite<S, F> {
    stores: [Arc<S>; 2],
    draw: F,
    now: Timestamp,
}

// === impl Suite ===

impl<S: SessionStore, F: Fn() -> Id> Suite<S, F> {
    fn one(&self) -> &S {
        &self.stores[0]
    }

    fn other(&self) -> &S {
        &self.stores[1]
    }

    fn draw(&self) -> Id {
        (self.draw)()
    }

    /// A session that begins now.
    fn session(&self, user: Id) -> Session {
        Session {
            user,
            id: self.draw(),
            secret_hash: secret(1),
            created_at: self.now,
            last_active: self.now,
            authenticated_at: self.now,
            idle: IDLE,
            ends_at: self.now.after(DAY),
            level: Level::Aal1,
            methods: Methods::PASSWORD,
            version: 1,
            previous: None,
            actor: None,
        }
    }

    /// A session that is stored.
    async fn begun(&self, user: Id) -> Session {
        let session = self.session(user);
        begin(self.one(), &session).await;
        session
    }

    fn rotation(&self, expected: u32, to: u8) -> Rotation {
        Rotation {
            expected,
            secret_hash: secret(to),
            grace_until: self.now.after(Duration::from_secs(10)),
            level: Level::Aal2,
            methods: Methods::PASSWORD | Methods::CODE,
            authenticated_at: self.now.after(Duration::from_secs(1)),
        }
    }
}

fn secret(seed: u8) -> SecretHash {
    SecretHash::new([seed; 32])
}

fn most(sessions: u32) -> NonZeroU32 {
    NonZeroU32::new(sessions).expect("not zero")
}

fn new(session: &Session) -> NewSession<'_> {
    NewSession {
        session,
        device: DEVICE,
    }
}

async fn begin<S: SessionStore>(store: &S, session: &Session) {
    let created = ok(store.create(&new(session), most(100)).await);
    assert_eq!(created, Created::Stored { ended: Vec::new() });
}

async fn load<S: SessionStore>(store: &S, of: &Session) -> Option<Session> {
    let found = ok(store.load(of.user, of.id).await);
    found.map(|(session, _)| session)
}

async fn touch<S: SessionStore>(store: &S, session: &Session, at: Timestamp) {
    let touch = Touch {
        user: session.user,
        session: session.id,
        at,
    };
    ok(store.touch(&[touch]).await);
}

/// Ends sessions, everywhere, and gives their ids in order.
async fn revoke<S: SessionStore>(store: &S, user: Id, which: Which) -> Vec<Id> {
    let Revoked { mut ended, reach } = ok(store.revoke(user, which, Why::LoggedOut).await);
    assert_eq!(reach, Reach::Everywhere, "all of the store is up");
    ended.sort();
    ended
}

fn ok<T, E: std::error::Error>(answer: Result<T, E>) -> T {
    answer.unwrap_or_else(|error| panic!("the store failed: {error:?}"))
}
