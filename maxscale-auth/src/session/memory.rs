//! Sessions of one process, gone with it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use maxscale_core::clock::Clock;
use maxscale_core::id::Id;

use super::durable::{DurableSessions, Snapshot, Untold};
use super::record::{Roles, Session, Standing};
use super::rules;
use super::store::{
    Created, Listed, NewSession, Reach, Revoked, Rotation, SessionStore, Touch, Which, Why,
};

/// Keeps sessions in this process, for tests and for what may forget them. Cheap to
/// clone; clones are the same store.
///
/// Of a revoked session its id stays until the process ends.
#[derive(Clone, Debug)]
pub struct MemorySessions {
    users: Arc<Mutex<HashMap<Id, User>>>,
    clock: Clock,
}

#[derive(Debug, Default)]
struct User {
    standing: Standing,
    told: u64,
    sessions: HashMap<Id, Kept>,
}

#[derive(Debug)]
struct Kept {
    session: Session,
    device: String,
    revoked: bool,
}

// === impl MemorySessions ===

impl MemorySessions {
    /// A store without any session.
    pub fn new(clock: Clock) -> Self {
        Self {
            users: Arc::default(),
            clock,
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Id, User>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionStore for MemorySessions {
    type Error = Infallible;

    async fn create(&self, new: &NewSession<'_>, most: NonZeroU32) -> Result<Created, Infallible> {
        let now = self.clock.now();
        let mut users = self.users();
        let user = users.entry(new.session.user).or_default();
        if user.sessions.contains_key(&new.session.id) {
            return Ok(Created::Exists);
        }
        let kept = Kept {
            session: new.session.clone(),
            device: new.device.to_owned(),
            revoked: false,
        };
        user.sessions.insert(new.session.id, kept);
        user.standing.changes += 1;
        let live = user.live().filter(|it| it.session.is_live(now));
        let ended = rules::beyond(live.map(|it| &it.session), new.session.id, most);
        user.end(&ended);
        Ok(Created::Stored { ended })
    }

    async fn load(&self, user: Id, session: Id) -> Result<Option<(Session, Standing)>, Infallible> {
        let users = self.users();
        let found = users.get(&user).and_then(|user| {
            let kept = user.sessions.get(&session).filter(|it| !it.revoked)?;
            Some((kept.session.clone(), user.standing.clone()))
        });
        Ok(found)
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), Infallible> {
        let mut users = self.users();
        for touch in touches {
            let user = users.get_mut(&touch.user);
            if let Some(kept) = user.and_then(|it| it.sessions.get_mut(&touch.session)) {
                kept.session.last_active = kept.session.last_active.max(touch.at);
            }
        }
        Ok(())
    }

    async fn rotate(&self, user: Id, session: Id, rotation: &Rotation) -> Result<bool, Infallible> {
        let mut users = self.users();
        let Some(user) = users.get_mut(&user) else {
            return Ok(false);
        };
        let kept = user.sessions.get_mut(&session).filter(|it| !it.revoked);
        let rotated = kept.is_some_and(|kept| rules::rotate(&mut kept.session, rotation));
        user.standing.changes += u64::from(rotated);
        Ok(rotated)
    }

    async fn revoke(&self, user: Id, which: Which, _why: Why) -> Result<Revoked, Infallible> {
        let mut users = self.users();
        let user = users.entry(user).or_default();
        let meant = user.live().map(|it| it.session.id);
        let ended: Vec<Id> = meant.filter(|id| which.means(*id)).collect();
        user.end(&ended);
        user.standing.changes += 1;
        Ok(Revoked {
            ended,
            reach: Reach::Everywhere,
        })
    }

    async fn list(&self, user: Id) -> Result<Vec<Listed>, Infallible> {
        let users = self.users();
        let live = users.get(&user).into_iter().flat_map(User::live);
        let mut listed: Vec<Listed> = live.map(Kept::listed).collect();
        listed.sort_by_key(|it| std::cmp::Reverse(it.session.id));
        Ok(listed)
    }

    async fn set_roles(&self, user: Id, roles: &Roles) -> Result<Reach, Infallible> {
        let mut users = self.users();
        let standing = &mut users.entry(user).or_default().standing;
        standing.roles = roles.clone();
        standing.changes += 1;
        Ok(Reach::Everywhere)
    }

    async fn changed(&self, _user: Id) -> Result<Reach, Infallible> {
        // Nothing stands before it.
        Ok(Reach::Everywhere)
    }
}

impl DurableSessions for MemorySessions {
    async fn snapshot(&self, user: Id) -> Result<Snapshot, Infallible> {
        let now = self.clock.now();
        let users = self.users();
        let snapshot = users.get(&user).map(|user| {
            let live = user.live().map(|it| &it.session);
            Snapshot {
                standing: user.standing.clone(),
                sessions: live.filter(|it| it.is_live(now)).cloned().collect(),
            }
        });
        Ok(snapshot.unwrap_or_default())
    }

    async fn untold(&self, after: Option<Id>, limit: u32) -> Result<Vec<Untold>, Infallible> {
        let users = self.users();
        let untold = users.iter().filter(|(id, user)| {
            after.is_none_or(|after| **id > after) && user.told < user.standing.changes
        });
        let mut untold: Vec<Untold> = untold
            .map(|(id, user)| Untold {
                user: *id,
                changes: user.standing.changes,
            })
            .collect();
        untold.sort_unstable_by_key(|it| it.user);
        untold.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(untold)
    }

    async fn told(&self, it: Untold) -> Result<(), Infallible> {
        if let Some(user) = self.users().get_mut(&it.user) {
            user.told = user.told.max(it.changes);
        }
        Ok(())
    }
}

// === impl User ===

impl User {
    fn live(&self) -> impl Iterator<Item = &Kept> {
        self.sessions.values().filter(|it| !it.revoked)
    }

    fn end(&mut self, ended: &[Id]) {
        for id in ended {
            if let Some(kept) = self.sessions.get_mut(id) {
                kept.revoked = true;
            }
        }
    }
}

impl Kept {
    fn listed(&self) -> Listed {
        Listed {
            session: self.session.clone(),
            device: self.device.clone(),
        }
    }
}
