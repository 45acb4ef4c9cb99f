//! Profiles: what is read with every page, so it goes through the cache.
//!
//! It is loaded from the primary: an old value from a replica would stay in the cache.

use std::sync::Arc;
use std::time::Duration;

use maxscale_auth::{Accounts, AuthError, User};
use maxscale_cache::{Cache, CacheError, CacheSpec, Hub, Token};
use maxscale_core::id::Id;
use maxscale_core::refusal::{Class, Classify};
use maxscale_queue::{EnqueueOptions, Queue, QueueError};
use maxscale_shard::{Router, ShardError, TxOptions, Work};
use serde::{Deserialize, Serialize};

use crate::forget::Forget;
use crate::reads::{LIVES, read};

/// What a user shows of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The user's id.
    pub id: String,
    /// The email address.
    pub email: String,
    /// The chosen name.
    pub name: String,
}

/// Profiles by user, near and far. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Profiles {
    accounts: Accounts,
    router: Router,
    queue: Queue,
    cache: Cache<Profile>,
}

/// A profile could not be had, or not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// Neither cache nor shard have it in time.
    #[error(transparent)]
    Read(CacheError<AuthError>),
    /// The account refuses it.
    #[error(transparent)]
    Account(#[from] AuthError),
    /// Nobody would tell others of the change.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

// === impl Profiles ===

impl Profiles {
    /// Profiles of `accounts`, kept in `hub`.
    pub fn new(accounts: Accounts, router: Router, queue: Queue, hub: &Hub) -> Self {
        let cache = hub.cache(CacheSpec::new("profile", 1).l2_ttl(LIVES));
        Self {
            accounts,
            router,
            queue,
            cache,
        }
    }

    /// The profile of `user`, if there is such an account; with the change that `since`
    /// is of, whichever process made that.
    ///
    /// # Errors
    ///
    /// Returns [`ProfileError::Read`].
    pub async fn get(
        &self,
        user: Id,
        since: Option<Token>,
    ) -> Result<Option<Arc<Profile>>, ProfileError> {
        let accounts = self.accounts.clone();
        let load = move || async move {
            let user = accounts.user(user).await?;
            Ok::<_, AuthError>(user.as_ref().map(Profile::from))
        };
        let found = read(&self.cache, &user.to_string(), since, load).await;
        found.map_err(ProfileError::Read)
    }

    /// Gives the account of `user` another name. What drops the old profile is
    /// committed with it; call [`changed`](Self::changed) for who does not want to wait
    /// for a worker.
    ///
    /// # Errors
    ///
    /// Returns [`ProfileError::Account`] or [`ProfileError::Queue`]. Of a database that
    /// did not answer nobody knows whether it has the name.
    pub async fn rename(&self, user: Id, name: &str) -> Result<bool, ProfileError> {
        let shard = self.router.shard(user).map_err(AuthError::from)?;
        let forget = Forget::new([self.cache.invalidation(&user.to_string())]);
        let (accounts, queue, forget) = (&self.accounts, &self.queue, &forget);
        let renamed = shard.write(TxOptions::new(), |tx| {
            Work::new(async move {
                let renamed = accounts.rename_in(tx, user, name).await?;
                queue
                    .enqueue_in(tx, forget, EnqueueOptions::default())
                    .await?;
                Ok::<_, ProfileError>(renamed)
            })
        });
        Ok(renamed.await?.value)
    }

    /// Call it after the profile of `user` was changed and committed; gives what a
    /// client brings to see that everywhere.
    ///
    /// This process shows the change from here on, also while Redis is down;
    /// then others may show the old profile until it is back, or for the time
    /// that a value lives in their L1.
    pub async fn changed(&self, user: Id) -> Token {
        // The hub asks again by itself: there is nothing to do for the caller.
        self.cache.invalidate_with_token(&user.to_string()).await.1
    }
}

// === impl ProfileError ===

impl ProfileError {
    fn cause(&self) -> &dyn Classify {
        match self {
            Self::Read(error) => error,
            Self::Account(error) => error,
            Self::Queue(error) => error,
        }
    }
}

impl Classify for ProfileError {
    fn class(&self) -> Class {
        self.cause().class()
    }

    fn code(&self) -> &'static str {
        self.cause().code()
    }

    fn detail(&self) -> Option<String> {
        self.cause().detail()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.cause().retry_after()
    }
}

impl From<ShardError> for ProfileError {
    fn from(error: ShardError) -> Self {
        Self::Account(error.into())
    }
}

impl From<&User> for Profile {
    fn from(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email.clone(),
            name: user.name.clone(),
        }
    }
}
