//! The copies in Redis: what is sent, and what the answers mean.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join_all};
use maxscale_core::clock::Timestamp;
use maxscale_core::id::Id;
use maxscale_core::keys::Secret;
use maxscale_core::redis::{Arg, Command, Redis, RedisError, Script, ScriptCall};

use super::packed::field;
use super::reads::{Read, Reads, Wanted};
use super::{head, packed};
use crate::realm::Realm;
use crate::session::durable::{Snapshot, Untold};
use crate::session::map::{Place, SessionMapError, SessionRoute};
use crate::session::record::{Session, Standing};
use crate::session::rules;
use crate::session::store::Touch;

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("hash.lua"), include_str!($file)))
    };
}

static CLAIM: Script = script!("claim.lua");
static STORE: Script = script!("store.lua");
static TOUCH: Script = script!("touch.lua");
static SETTLE: Script = script!("settle.lua");

/// Who claimed and did not store within this time has a successor.
const CLAIM_AGES: Duration = Duration::from_secs(1);
/// Longer than any read of the rows should take; a later one is not stored.
const CLAIM_LASTS: Duration = Duration::from_secs(60);
/// How long it is remembered that a user has no session.
const NONE_LASTS: Duration = Duration::from_secs(600);
/// An id as keys have it, in bytes.
const USER_LEN: usize = 22;
/// All fields of a hash: more, and Redis would not pack it.
const MOST_FIELDS: usize = 100;

/// The hashes of all users on all servers.
#[derive(Debug)]
pub(super) struct Copies {
    servers: Vec<Server>,
    route: ArcSwap<SessionRoute>,
    /// What keys begin with, up to the user.
    prefix: String,
}

/// A server, and how it is read from.
#[derive(Debug)]
struct Server {
    redis: Redis,
    reads: Reads,
}

/// What is known of a session without the rows.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most are known, and a box would be an allocation for each request"
)]
pub(super) enum Found {
    /// What a copy says of it; `None` if it is over.
    Known(Option<(Session, Standing)>),
    /// There is no copy.
    NoCopy,
    /// The server did not answer.
    Silence,
}

/// The right to store what is read from the rows from now on.
#[derive(Debug)]
pub(super) struct Claim {
    place: Place,
    nonce: [u8; 16],
}

// === impl Copies ===

impl Copies {
    pub(super) fn new(
        servers: Vec<Redis>,
        route: SessionRoute,
        prefix: &str,
        realm: Realm,
    ) -> Result<Self, SessionMapError> {
        route.fits(servers.len())?;
        let servers = servers.into_iter().map(|redis| {
            let reads = Reads::new(&redis);
            Server { redis, reads }
        });
        Ok(Self {
            servers: servers.collect(),
            route: ArcSwap::from_pointee(route),
            prefix: format!("{prefix}:s:{realm}:"),
        })
    }

    pub(super) fn route(&self) -> Arc<SessionRoute> {
        self.route.load_full()
    }

    pub(super) fn reroute(&self, route: SessionRoute) -> Result<(), SessionMapError> {
        route.fits(self.servers.len())?;
        self.route.store(route.into());
        Ok(())
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = &Redis> {
        self.servers.iter().map(|it| &it.redis)
    }

    /// Whether all servers that may have the user's copy are known to answer.
    pub(super) fn is_up(&self, user: Id) -> bool {
        let route = self.route.load();
        route
            .places_of(user)
            .all(|place| self.at(place).redis.is_up())
    }

    /// Reads a session, by one command or with others by one.
    pub(super) async fn read(&self, user: Id, session: Id) -> Found {
        let place = self.place(user);
        let key = self.key(user);
        let reads = &self.at(place).reads;
        let wanted = Wanted { key, session };
        let Some(read) = reads.one(wanted.clone()).await else {
            return Found::Silence;
        };
        if !read.record.as_deref().is_some_and(packed::has_more) {
            return found(&read, place, user, session);
        }
        // Erased, as few need it.
        let all: BoxFuture<'_, _> = Box::pin(reads.all(wanted));
        match all.await {
            Some(read) => found(&read, place, user, session),
            None => Found::Silence,
        }
    }

    /// Claims the user's hash; `None` if there is a copy, or somebody else is at it.
    pub(super) async fn claim(&self, user: Id) -> Result<Option<Claim>, RedisError> {
        let Ok(nonce) = Secret::random() else {
            return Ok(None);
        };
        let place = self.place(user);
        let claim = self
            .call(&CLAIM, user)
            .arg(nonce.to_vec())
            .arg(since(place))
            .arg(i64::try_from(CLAIM_AGES.as_micros()).unwrap_or(i64::MAX))
            .arg(whole_seconds(CLAIM_LASTS));
        let granted = self.run(place, claim).await? == 1;
        Ok(granted.then_some(Claim { place, nonce }))
    }

    /// Stores what was read after `claim` was made. False if something has changed
    /// since: the hash was dropped, the server is another, or somebody else claimed.
    pub(super) async fn store(
        &self,
        user: Id,
        claim: &Claim,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Result<bool, RedisError> {
        let (fields, whole) = fields(snapshot, now);
        let (state, rest) = head::of(snapshot, whole);
        let mut store = self
            .call(&STORE, user)
            .arg(claim.nonce.to_vec())
            .arg(since(claim.place))
            .arg(whole_seconds(lasts(snapshot, now)))
            .arg(state.to_vec())
            .arg(rest);
        for part in fields {
            store = store.arg(part);
        }
        Ok(self.run(claim.place, store).await? == 1)
    }

    /// Moves forward when a session was last used; whether its row should hear of it.
    pub(super) async fn touch(&self, touch: &Touch) -> Result<bool, RedisError> {
        let place = self.place(touch.user);
        let call = self
            .call(&TOUCH, touch.user)
            .arg(touch.session.as_uuid().into_bytes().to_vec())
            .arg(since(place))
            .arg(i64::from(packed::seconds(touch.at)))
            .arg(whole_seconds(rules::LAG_MOST))
            .arg(i64::from(rules::LAG_PART));
        Ok(self.run(place, call).await? == 1)
    }

    /// Drops the user's hash, whatever is in it, wherever somebody may read it.
    pub(super) async fn drop(&self, user: Id) -> Result<(), RedisError> {
        let route = self.route.load();
        let drops = route.places_of(user).map(|place| {
            let drop = Command::new("DEL").key(self.key(user)).attempts(2);
            self.at(place).redis.command(drop)
        });
        try_join_all(drops).await.map(drop)
    }

    /// Drops the user's hash wherever it may not know of these changes. Who reads the
    /// rows to make one goes on, and it is kept if he has read of them: most were told
    /// already, and would be read twice.
    pub(super) async fn settle(&self, it: Untold) -> Result<(), RedisError> {
        let route = self.route.load();
        let settles = route.places_of(it.user).map(|place| {
            let call = self
                .call(&SETTLE, it.user)
                .arg(it.changes.to_be_bytes().to_vec())
                .arg(since(place))
                .attempts(2);
            self.run(place, call)
        });
        try_join_all(settles).await.map(drop)
    }

    fn key(&self, user: Id) -> Bytes {
        let mut key = String::with_capacity(self.prefix.len() + USER_LEN);
        key.push_str(&self.prefix);
        // Shorter than hexadecimal by a step of the server's allocator.
        URL_SAFE_NO_PAD.encode_string(user.as_uuid(), &mut key);
        key.into()
    }

    fn place(&self, user: Id) -> Place {
        self.route.load().place_of(user)
    }

    fn at(&self, place: Place) -> &Server {
        &self.servers[usize::from(place.server)]
    }

    fn call<'s>(&self, script: &'s Script, user: Id) -> ScriptCall<'s> {
        script.call().key(self.key(user))
    }

    async fn run(&self, place: Place, call: ScriptCall<'_>) -> Result<i64, RedisError> {
        let (reply, _) = self.at(place).redis.script_from(call).await?;
        reply
            .as_int()
            .ok_or(RedisError::Reply { command: "EVALSHA" })
    }
}

/// What is known of a session by the fields of a hash.
fn found(read: &Read, place: Place, user: Id, session: Id) -> Found {
    let lineage = read.lineage.get();
    let head = read.head.as_deref();
    let Some(head) = head.and_then(|it| head::read(it, lineage, place.since)) else {
        return Found::NoCopy;
    };
    let Some(record) = &read.record else {
        return match head.whole {
            true => Found::Known(None),
            false => Found::NoCopy,
        };
    };
    let (previous, actor) = (read.previous.as_deref(), read.actor.as_deref());
    let session = packed::unpack(record, user, session, previous, actor);
    // One that cannot be read was stored by another release: the rows have it.
    session.map_or(Found::NoCopy, |it| Found::Known(Some((it, head.standing))))
}

/// The fields of a user's sessions and their values, in turn, and whether these are
/// all: those that were active last have a place.
fn fields(snapshot: &Snapshot, now: Timestamp) -> (Vec<Arg>, bool) {
    let mut sessions: Vec<&Session> = snapshot.sessions.iter().collect();
    sessions.sort_by_key(|it| std::cmp::Reverse((it.last_active, it.id)));
    let mut fields: Vec<Arg> = Vec::new();
    for session in sessions {
        let id = session.id;
        let session = &Session {
            previous: session.previous.filter(|it| now < it.until),
            ..session.clone()
        };
        let mut of_session: Vec<Vec<u8>> = vec![
            id.as_uuid().into_bytes().to_vec(),
            packed::pack(session).to_vec(),
        ];
        if let Some(previous) = &session.previous {
            of_session.extend([field(b'o', id), packed::pack_previous(previous).to_vec()]);
        }
        if let Some(actor) = session.actor {
            of_session.extend([field(b'a', id), actor.as_uuid().into_bytes().to_vec()]);
        }
        // And the head.
        if (fields.len() + of_session.len()) / 2 + 1 > MOST_FIELDS {
            return (fields, false);
        }
        fields.extend(of_session.into_iter().map(Arg::from));
    }
    (fields, true)
}

/// Until the last of the sessions has ended.
fn lasts(snapshot: &Snapshot, now: Timestamp) -> Duration {
    let ends = snapshot.sessions.iter().map(|it| it.ends_at).max();
    ends.map_or(NONE_LASTS, |ends| ends.since(now))
}

fn since(place: Place) -> Vec<u8> {
    place.since.to_be_bytes().to_vec()
}

/// Rounded up, and never none.
fn whole_seconds(span: Duration) -> i64 {
    let seconds = span.as_micros().div_ceil(1_000_000).max(1);
    // What Redis cannot count is no time limit that anybody meant.
    i64::try_from(seconds)
        .unwrap_or(i64::MAX)
        .min(i64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_to_live_is_rounded_up_and_never_none() {
        for (span, seconds) in [
            (Duration::ZERO, 1),
            (Duration::from_micros(1), 1),
            (Duration::from_millis(1_001), 2),
            (Duration::MAX, i64::from(u32::MAX)),
        ] {
            assert_eq!(whole_seconds(span), seconds);
        }
    }
}
