//! Makes, lists, exchanges and ends keys.

use std::time::Duration;

use maxscale_core::id::Id;
use maxscale_shard::Node;

use super::form::Drawn;
use super::record::{ApiKey, MadeApiKey, NewApiKey};
use super::{ApiKeyError, ApiKeys, rows};
use crate::account::{Accounts, Opened, checked_name};
use crate::audit::Audited;
use crate::error::AuthError;
use crate::guard::Guard;
use crate::principal::Principal;

/// What came of a change while the account was held: a refusal has changed nothing.
type Outcome<T> = Result<Result<T, ApiKeyError>, AuthError>;

impl ApiKeys {
    /// The most rows that one [`sweep`](Self::sweep) deletes.
    pub const SWEPT_AT_ONCE: u32 = 100;

    /// Makes a key for the principal, who proved who he is a moment ago
    /// ([`Accounts::FRESH_FOR`]). Its text is had here, and never again.
    ///
    /// It is made while the account is held, in which the principal's session still lives:
    /// who ended his sessions before has no new key.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, or when the answer is lost, there may be a key that nobody has: its
    /// owner sees it among the others, and ends it.
    ///
    /// # Errors
    ///
    /// Returns [`ApiKeyError`].
    pub async fn create(
        &self,
        principal: &Principal,
        new: &NewApiKey,
    ) -> Result<MadeApiKey, ApiKeyError> {
        let name = checked_name(&new.name)?;
        let scopes = self.scopes_of(new.scopes.names())?;
        if !(Duration::from_secs(1)..=Self::MAX_LIFE).contains(&new.life) {
            return Err(ApiKeyError::Life);
        }
        let mut opened = self.open(principal).await?;
        let (user, id) = self.draw_id(principal);
        let now = self.sessions().now();
        let key = ApiKey {
            id,
            user,
            lineage: id,
            name,
            scopes,
            quota: new.quota,
            created_at: now,
            expires_at: now.after(new.life),
            used_at: None,
        };
        let made = self.create_in(&mut opened, key, new.life).await;
        self.0.accounts.finish(opened, made).await?
    }

    async fn create_in(
        &self,
        opened: &mut Opened,
        key: ApiKey,
        life: Duration,
    ) -> Outcome<MadeApiKey> {
        if !self.has_room(opened, key.user).await? {
            return Ok(Err(ApiKeyError::TooMany));
        }
        self.make(opened, key, life).await.map(Ok)
    }

    /// Makes a key that replaces one of the principal's, with the same name, scopes and
    /// quota and a life as long; the one before goes on for `overlap`, if it does not end
    /// earlier. So it can be exchanged where it is used, one place after the other.
    ///
    /// A key that was replaced may be so again, as after an answer that was lost, and ends
    /// no later by it.
    ///
    /// # Cancellation
    ///
    /// As of [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// Returns [`ApiKeyError`].
    pub async fn rotate(
        &self,
        principal: &Principal,
        key: Id,
        overlap: Duration,
    ) -> Result<MadeApiKey, ApiKeyError> {
        if overlap > Self::MAX_OVERLAP {
            return Err(ApiKeyError::Overlap);
        }
        let mut opened = self.open(principal).await?;
        let made = self.rotate_in(&mut opened, principal, (key, overlap)).await;
        self.0.accounts.finish(opened, made).await?
    }

    async fn rotate_in(
        &self,
        opened: &mut Opened,
        principal: &Principal,
        (key, overlap): (Id, Duration),
    ) -> Outcome<MadeApiKey> {
        let (user, id) = self.draw_id(principal);
        let now = self.sessions().now();
        let times = (now, now.after(overlap));
        if !self.has_room(opened, user).await? {
            return Ok(Err(ApiKeyError::TooMany));
        }
        let (tx, shard) = opened.on();
        let Some((old, life)) = rows::shorten(tx, shard, (user, key), times).await? else {
            return Ok(Err(ApiKeyError::NoKey));
        };
        let next = ApiKey {
            id,
            created_at: now,
            expires_at: now.after(life),
            used_at: None,
            ..old
        };
        opened.tell(Audited::ApiKeyRotated { key, next: id });
        self.make(opened, next, life).await.map(Ok)
    }

    /// The user's keys that live, the newest first.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Shard`] when the database could not be asked.
    pub async fn list(&self, user: Id) -> Result<Vec<ApiKey>, AuthError> {
        Ok(self.0.rows.list(user, self.sessions().now()).await?)
    }

    /// Ends a key of the user for good. Once it has answered, no request with it is served
    /// by this process, and none by another for longer than a second; where the store is
    /// [asked](crate::StrongLayer), for no time at all.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, it may have been done; this process then knows within a second.
    ///
    /// # Errors
    ///
    /// Returns [`ApiKeyError::NoKey`], or a database that did not confirm: it may be
    /// repeated.
    pub async fn revoke(&self, user: Id, key: Id) -> Result<(), ApiKeyError> {
        match self.end(user, Some(key)).await?.is_empty() {
            true => Err(ApiKeyError::NoKey),
            false => Ok(()),
        }
    }

    /// The same of all keys of the user; says which lived.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Shard`] when the database did not confirm. It may be repeated.
    pub async fn revoke_all(&self, user: Id) -> Result<Vec<Id>, AuthError> {
        self.end(user, None).await
    }

    async fn end(&self, user: Id, key: Option<Id>) -> Result<Vec<Id>, AuthError> {
        let sessions = self.sessions();
        let ended = self.0.rows.revoke(user, key, sessions.now()).await;
        // Also if nobody knows what became of it.
        sessions.forget(user).await;
        let ended = ended?;
        if !ended.is_empty() {
            let keys = ended.clone();
            sessions.tell_of(user, Audited::ApiKeysRevoked { keys });
        }
        Ok(ended)
    }

    /// Deletes rows of `node` whose keys have ended, at most
    /// [`SWEPT_AT_ONCE`](Self::SWEPT_AT_ONCE). Tells how many; as many as that, and there
    /// may be more. What has ended counts for nothing before.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Shard`] when the node does not answer. It may be repeated.
    pub async fn sweep(&self, node: &Node) -> Result<u64, AuthError> {
        let now = self.sessions().now();
        Ok(rows::sweep(node, now, Self::SWEPT_AT_ONCE).await?)
    }

    /// The principal's account, held, if he may change its keys.
    async fn open(&self, principal: &Principal) -> Result<Opened, ApiKeyError> {
        let guard = Guard::logged_in().fresh(Accounts::FRESH_FOR);
        guard.check(Some(principal))?;
        if !principal.has_session_itself() {
            return Err(ApiKeyError::ByToken);
        }
        Ok(self.0.accounts.open_own(principal).await?)
    }

    fn draw_id(&self, principal: &Principal) -> (Id, Id) {
        let user = principal.user();
        (user, self.sessions().ids().draw(user.shard()))
    }

    async fn has_room(&self, opened: &mut Opened, user: Id) -> Result<bool, AuthError> {
        let (tx, shard) = opened.on();
        let many = rows::count(tx, shard, user, self.sessions().now()).await?;
        Ok(many < Self::MAX_PER_USER.into())
    }

    /// Stores a key with a new secret.
    async fn make(
        &self,
        opened: &mut Opened,
        key: ApiKey,
        life: Duration,
    ) -> Result<MadeApiKey, AuthError> {
        let realm = self.sessions().realm();
        let (tx, shard) = opened.on();
        let Drawn { text, hash } = self.0.form.draw(realm, key.user, key.id)?;
        rows::insert(tx, shard, &key, &hash, life).await?;
        let scopes = key.scopes.clone();
        opened.tell(Audited::ApiKeyMade {
            key: key.id,
            scopes,
        });
        Ok(MadeApiKey { text, key })
    }
}
