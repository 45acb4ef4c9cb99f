//! Profiles: what is read with every page, so it goes through the cache.
//!
//! It is loaded from the primary: an old value from a replica would stay in the cache.

use std::sync::Arc;
use std::time::Duration;

use maxscale_auth::{Accounts, AuthError, User};
use maxscale_cache::{Cache, CacheError, CacheSpec, Hub, Invalidated};
use maxscale_core::id::Id;
use maxscale_core::refusal::{Class, Classify};
use serde::{Deserialize, Serialize};

/// How old a profile is shown at most, whatever went wrong.
const LIVES: Duration = Duration::from_secs(60);

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
    cache: Cache<Profile>,
}

/// A profile could not be had.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ProfileError(CacheError<AuthError>);

// === impl Profiles ===

impl Profiles {
    /// Profiles of `accounts`, kept in `hub`.
    pub fn new(accounts: Accounts, hub: &Hub) -> Self {
        let cache = hub.cache(CacheSpec::new("profile", 1).l2_ttl(LIVES));
        Self { accounts, cache }
    }

    /// The profile of `user`, if there is such an account.
    ///
    /// # Errors
    ///
    /// Returns [`ProfileError`] when neither cache nor shard have it in time.
    pub async fn get(&self, user: Id) -> Result<Option<Arc<Profile>>, ProfileError> {
        let accounts = self.accounts.clone();
        let load = move || async move {
            let user = accounts.user(user).await?;
            Ok::<_, AuthError>(user.as_ref().map(Profile::from))
        };
        let found = self.cache.get_or_load(&user.to_string(), load).await;
        found.map_err(ProfileError)
    }

    /// Call it after the profile of `user` was changed and committed.
    ///
    /// This process shows the change from here on, also while Redis is down;
    /// then others may show the old profile until it is back, or for the time
    /// that a value lives in their L1.
    pub async fn changed(&self, user: Id) {
        // The hub asks again by itself: there is nothing to do for the caller.
        let _: Invalidated = self.cache.invalidate(&user.to_string()).await;
    }
}

impl Classify for ProfileError {
    fn class(&self) -> Class {
        self.0.class()
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
