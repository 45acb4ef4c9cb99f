//! Sessions whose store fails in the way that a test chooses.

use std::num::NonZeroU32;

use maxscale_auth::session::{
    Created, Listed, NewSession, Reach, Revoked, Roles, Rotation, Session, SessionStore,
    SqlSessions, Standing, Touch, Which, Why,
};
use maxscale_core::id::Id;
use maxscale_shard::ShardError;

#[derive(Clone, Debug)]
pub(crate) enum Failing {
    /// Nobody may ask it.
    Untouchable,
    /// Its node answers nothing.
    Down,
    /// It takes no writes.
    Reads(SqlSessions),
}

impl Failing {
    fn refuse<T>(&self) -> Result<T, ShardError> {
        if let Self::Untouchable = self {
            panic!("the store was asked");
        }
        Err(ShardError::Connect {
            database: "node-1".into(),
            source: "connection refused".into(),
        })
    }
}

impl SessionStore for Failing {
    type Error = ShardError;

    async fn create(&self, _: &NewSession<'_>, _: NonZeroU32) -> Result<Created, ShardError> {
        self.refuse()
    }

    async fn load(&self, user: Id, id: Id) -> Result<Option<(Session, Standing)>, ShardError> {
        match self {
            Self::Reads(sessions) => sessions.load(user, id).await,
            _ => self.refuse(),
        }
    }

    async fn touch(&self, _: &[Touch]) -> Result<(), ShardError> {
        self.refuse()
    }

    async fn rotate(&self, _: Id, _: Id, _: &Rotation) -> Result<bool, ShardError> {
        self.refuse()
    }

    async fn revoke(&self, _: Id, _: Which, _: Why) -> Result<Revoked, ShardError> {
        self.refuse()
    }

    async fn list(&self, _: Id) -> Result<Vec<Listed>, ShardError> {
        self.refuse()
    }

    async fn set_roles(&self, _: Id, _: &Roles) -> Result<Reach, ShardError> {
        self.refuse()
    }

    async fn changed(&self, _: Id) -> Result<Reach, ShardError> {
        self.refuse()
    }
}
