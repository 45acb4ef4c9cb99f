//! Sessions in memory that count what they are asked, and hold or refuse touches.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use maxscale_auth::session::{
    Created, Listed, MemorySessions, NewSession, Reach, Revoked, Roles, Rotation, Session,
    SessionStore, Standing, Touch, Which, Why,
};
use maxscale_core::id::Id;
use maxscale_shard::ShardError;
use tokio::sync::Semaphore;

#[derive(Clone)]
pub(crate) struct Counting(Arc<Inner>);

struct Inner {
    store: MemorySessions,
    loads: AtomicU64,
    touched: Mutex<Vec<Touch>>,
    gate: Mutex<Option<Arc<Semaphore>>>,
    refuses: AtomicBool,
    dropped: Mutex<Option<Arc<AtomicBool>>>,
}

impl Counting {
    pub(crate) fn new(store: MemorySessions) -> Self {
        Self(Arc::new(Inner {
            store,
            loads: AtomicU64::new(0),
            touched: Mutex::default(),
            gate: Mutex::default(),
            refuses: AtomicBool::new(false),
            dropped: Mutex::default(),
        }))
    }

    pub(crate) fn loads(&self) -> u64 {
        self.0.loads.load(Ordering::SeqCst)
    }

    /// What was written, in its order.
    pub(crate) fn touched(&self) -> Vec<Touch> {
        self.0.touched.lock().unwrap().clone()
    }

    /// Lets a touch wait until there is a permit for it.
    pub(crate) fn hold_touches(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.0.gate.lock().unwrap() = Some(gate.clone());
        gate
    }

    pub(crate) fn refuse_touches(&self, refuses: bool) {
        self.0.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Raises `flag` when nobody has the store any more.
    pub(crate) fn tell_drop(&self, flag: Arc<AtomicBool>) {
        *self.0.dropped.lock().unwrap() = Some(flag);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(flag) = self.dropped.get_mut().unwrap() {
            flag.store(true, Ordering::SeqCst);
        }
    }
}

fn fine<T>(answer: Result<T, std::convert::Infallible>) -> Result<T, ShardError> {
    answer.map_err(|never| match never {})
}

impl SessionStore for Counting {
    type Error = ShardError;

    async fn create(&self, new: &NewSession<'_>, most: NonZeroU32) -> Result<Created, ShardError> {
        fine(self.0.store.create(new, most).await)
    }

    async fn load(&self, user: Id, id: Id) -> Result<Option<(Session, Standing)>, ShardError> {
        self.0.loads.fetch_add(1, Ordering::SeqCst);
        fine(self.0.store.load(user, id).await)
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), ShardError> {
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            let _permit = gate.acquire().await.unwrap();
        }
        if self.0.refuses.load(Ordering::SeqCst) {
            return Err(ShardError::Connect {
                database: "node-1".into(),
                source: "connection refused".into(),
            });
        }
        self.0.touched.lock().unwrap().extend_from_slice(touches);
        fine(self.0.store.touch(touches).await)
    }

    async fn rotate(&self, user: Id, id: Id, rotation: &Rotation) -> Result<bool, ShardError> {
        fine(self.0.store.rotate(user, id, rotation).await)
    }

    async fn revoke(&self, user: Id, which: Which, why: Why) -> Result<Revoked, ShardError> {
        fine(self.0.store.revoke(user, which, why).await)
    }

    async fn list(&self, user: Id) -> Result<Vec<Listed>, ShardError> {
        fine(self.0.store.list(user).await)
    }

    async fn set_roles(&self, user: Id, roles: &Roles) -> Result<Reach, ShardError> {
        fine(self.0.store.set_roles(user, roles).await)
    }

    async fn changed(&self, user: Id) -> Result<Reach, ShardError> {
        fine(self.0.store.changed(user).await)
    }
}
