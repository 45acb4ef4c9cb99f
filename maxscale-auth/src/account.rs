use std::fmt;
use std::sync::Arc;

use maxscale_core::Chain;
use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator};
use maxscale_core::keys::KeyRing;
use maxscale_shard::{Claim, Claims, NodeId, Router, Row, ShardError, Sql, Statement, Tx};

use crate::email::Email;
use crate::error::AuthError;
use crate::password::{Context, Factors, PasswordPool};
use crate::principal::Principal;
use crate::session::{Drawn, Level, Methods, NewSession, Proof, Sessions, SqlSessions, Which, Why};

/// Accounts by email and password. Cheap to clone.
///
/// An account lies where the router says that its id does; its email is a claim,
/// so that one email never has two accounts, whatever crashes when.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    router: Router,
    emails: Claims,
    ids: Arc<IdGenerator>,
    passwords: PasswordPool,
    rows: SqlSessions,
    sessions: Sessions,
}

/// What [`Accounts`] needs; see [`Accounts::builder`].
#[derive(Debug)]
#[must_use]
pub struct AccountsBuilder {
    router: Router,
    ids: Arc<IdGenerator>,
    keys: Arc<KeyRing>,
    passwords: PasswordPool,
    clock: Clock,
}

/// An account, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id, by which the router finds its shard.
    pub id: Id,
    /// The normalised email address.
    pub email: String,
    /// The name that the user chose.
    pub name: String,
}

/// A session that just began.
#[derive(Clone)]
pub struct LoggedIn {
    /// Whose it is.
    pub user: User,
    /// The text that the client must keep.
    pub token: String,
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("LoggedIn");
        shown.field("user", &self.user).finish_non_exhaustive()
    }
}

const INSERT: Sql = Sql::both(
    "INSERT INTO ms_user (shard_id, user_id, email, name, password_hash, created_at)
     VALUES ($1, $2, $3, $4, $5, $6)",
);
const LOAD: Sql = Sql::both(
    "SELECT email, name, password_hash FROM ms_user WHERE shard_id = $1 AND user_id = $2",
);
const RENAME: Sql = Sql::both("UPDATE ms_user SET name = $3 WHERE shard_id = $1 AND user_id = $2");

const MAX_NAME: usize = 100;

const BY_PASSWORD: Proof = Proof {
    level: Level::Aal1,
    methods: Methods::PASSWORD,
};

// === impl AccountsBuilder ===

impl AccountsBuilder {
    /// Sets the clock. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Finishes the handle.
    pub fn build(self) -> Accounts {
        let emails = Claims::new(self.router.clone(), self.keys.clone(), "email");
        let rows = SqlSessions::new(self.router.clone(), self.clock.clone());
        let sessions = Sessions::builder(rows.clone(), self.keys, self.ids.clone())
            .clock(self.clock)
            .build();
        Accounts(Arc::new(Inner {
            router: self.router,
            emails,
            ids: self.ids,
            passwords: self.passwords,
            rows,
            sessions,
        }))
    }
}

// === impl Accounts ===

impl Accounts {
    /// Starts a handle to the accounts on `router`'s nodes.
    pub fn builder(
        router: Router,
        ids: Arc<IdGenerator>,
        keys: Arc<KeyRing>,
        passwords: PasswordPool,
    ) -> AccountsBuilder {
        AccountsBuilder {
            router,
            ids,
            keys,
            passwords,
            clock: Clock::system(),
        }
    }

    /// Creates an account and logs it in.
    ///
    /// # Cancellation
    ///
    /// Dropped or crashed half-way, no account exists for the email, and the
    /// email is free again once its reservation has run out.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`]: bad input, [`AuthError::EmailTaken`],
    /// [`AuthError::Busy`], or a database that could not be asked.
    pub async fn sign_up(
        &self,
        email: &str,
        password: &str,
        name: &str,
    ) -> Result<LoggedIn, AuthError> {
        let email = Email::parse(email)?;
        let name = checked_name(name)?;
        // Asked first without a hash: most refusals are old accounts.
        if self.0.emails.find(email.as_str()).await?.is_some() {
            return Err(AuthError::EmailTaken);
        }
        let context = Context::of(email.as_str(), &name);
        let policy = self.0.passwords.policy();
        let password = policy.check(password, &context, Factors::PasswordAlone)?;
        // Hashed before the reservation, whose lease should not run meanwhile.
        let hash = self.0.passwords.hash(password).await?;
        let (claim, user, drawn) = self.settle(&email, &name, &hash).await?;
        match self.0.emails.confirm(&claim).await {
            Ok(()) => Ok(LoggedIn {
                token: self.0.sessions.text(&drawn.token),
                user,
            }),
            // The account is there, and its mark with it: whoever looks next for the
            // email, or the reconciler, confirms it.
            Err(error) => Err(error.into()),
        }
    }

    /// Reserves the email and stores the account, on another node if the first
    /// ones cannot be reached.
    async fn settle(
        &self,
        email: &Email,
        name: &str,
        hash: &str,
    ) -> Result<(Claim, User, Drawn), AuthError> {
        let mut away = Vec::new();
        loop {
            let id = self.draw(&away)?;
            let claim = self.0.emails.reserve(email.as_str(), id).await?;
            let user = User {
                id,
                email: email.as_str().to_owned(),
                name: name.to_owned(),
            };
            let error = match self.insert(&user, hash, &claim).await {
                Ok(drawn) => return Ok((claim, user, drawn)),
                Err(error) => error,
            };
            // Whoever tries again should not meet the own reservation. Only where
            // nobody knows whether the account is stored, its shard has to say so.
            let unknown = matches!(&error, AuthError::Shard(ShardError::OutcomeUnknown { .. }));
            let freed = match unknown {
                true => self.0.emails.resolve(&claim).await,
                false => self.0.emails.release(&claim).await.map(|()| false),
            };
            match freed {
                Ok(false) => {}
                // Stored, with a session whose token is lost: logging in begins another.
                Ok(true) => return Err(error),
                Err(kept) => {
                    tracing::debug!(error = %Chain(&kept), "the email stays reserved until its lease runs out");
                    return Err(error);
                }
            }
            match error {
                AuthError::Shard(cause) if cause.is_unreachable() && away.len() < MAX_AWAY => {
                    let node = self.0.router.shard(id)?.node().id().clone();
                    tracing::warn!(%node, error = %Chain(&cause), "a new account goes to another node");
                    away.push(node);
                }
                error => return Err(error),
            }
        }
    }

    /// Checks a password and begins a session.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Credentials`] for an unknown email and for a wrong
    /// password alike, after the same work.
    pub async fn log_in(&self, email: &str, password: &str) -> Result<LoggedIn, AuthError> {
        let email = Email::parse(email).map_err(|_| AuthError::Credentials)?;
        let known = match self.0.emails.find(email.as_str()).await? {
            Some(id) => self.load(id).await?,
            None => None,
        };
        let hash = known.as_ref().map(|(_, hash)| hash.as_str());
        let right = self.0.passwords.verify(password, hash).await?.right;
        match known {
            Some((user, _)) if right => {
                let token = self.0.sessions.begin(user.id, BY_PASSWORD, "").await?;
                Ok(LoggedIn { user, token })
            }
            _ => Err(AuthError::Credentials),
        }
    }

    /// Ends the session that the principal came with.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Shard`] when its shard could not be asked.
    pub async fn log_out(&self, principal: &Principal) -> Result<(), AuthError> {
        let (user, session) = (principal.user(), principal.session());
        let revoked = self
            .0
            .sessions
            .revoke(user, Which::One(session), Why::LoggedOut);
        revoked.await.map(drop)
    }

    /// The account, if it exists.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Shard`] when its shard could not be asked.
    pub async fn user(&self, id: Id) -> Result<Option<User>, AuthError> {
        Ok(self.load(id).await?.map(|(user, _)| user))
    }

    /// Gives the account another name; false if there is no such account.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Name`], or [`AuthError::Shard`] when its shard could not be asked.
    pub async fn rename(&self, id: Id, name: &str) -> Result<bool, AuthError> {
        let shard = self.0.router.shard(id)?;
        let statement = renaming(shard.id(), id, name)?;
        Ok(shard.execute(statement).await? == 1)
    }

    /// As [`rename`](Self::rename), in `tx`, which was begun on the account's shard:
    /// for what has to be there with the new name, or not at all.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Name`], or [`AuthError::Shard`] when the database refuses.
    pub async fn rename_in(&self, tx: &mut Tx, id: Id, name: &str) -> Result<bool, AuthError> {
        let shard = self.0.router.shard(id)?;
        Ok(tx.execute(renaming(shard.id(), id, name)?).await? == 1)
    }

    /// Whose email is whose. What a crash left half-way there is ended by
    /// [`Recovery`](maxscale_shard::Recovery), which a service runs in the background.
    pub fn emails(&self) -> &Claims {
        &self.0.emails
    }

    /// The sessions, for [`SessionLayer`](crate::SessionLayer).
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// An id on a node that is ready, if possible none of `away`: a node that is
    /// down refuses no new user.
    fn draw(&self, away: &[NodeId]) -> Result<Id, ShardError> {
        let draw = || self.0.ids.draw_anywhere(self.0.router.shards());
        let mut id = draw();
        for _ in 0..MAX_DRAWS {
            match self.0.router.shard(id) {
                Ok(shard) if !away.contains(shard.node().id()) => return Ok(id),
                _ => id = draw(),
            }
        }
        self.0.router.shard(id).map(|_| id)
    }

    async fn insert(&self, user: &User, hash: &str, claim: &Claim) -> Result<Drawn, AuthError> {
        let shard = self.0.router.shard(user.id)?;
        let drawn = self.0.sessions.draw(user.id, BY_PASSWORD)?;
        let row = INSERT
            .statement()
            .bind(shard.id())
            .bind(user.id)
            .bind(user.email.as_str())
            .bind(user.name.as_str())
            .bind(hash)
            .bind(drawn.session.created_at);
        let mut tx = shard.begin().await?;
        tx.execute(row).await?;
        let new = NewSession {
            session: &drawn.session,
            device: "",
        };
        let most = self.0.sessions.policy().per_user;
        self.0.rows.create_in(&mut tx, &new, most).await?;
        self.0.emails.write_in(&mut tx, claim).await?;
        tx.commit().await?;
        Ok(drawn)
    }

    async fn load(&self, id: Id) -> Result<Option<(User, String)>, AuthError> {
        let shard = self.0.router.shard(id)?;
        let statement = LOAD.statement().bind(shard.id()).bind(id);
        let read = |row: Row| -> Result<(User, String), ShardError> {
            let user = User {
                id,
                email: row.get("email")?,
                name: row.get("name")?,
            };
            Ok((user, row.get("password_hash")?))
        };
        let row = shard.fetch_optional(statement).await?;
        Ok(row.map(read).transpose()?)
    }
}

/// With half of the nodes down, one sign-up in four thousand million finds none.
const MAX_DRAWS: usize = 32;

/// How many nodes that cannot be reached a sign-up passes by. Each costs the
/// time for a connection.
const MAX_AWAY: usize = 2;

fn renaming(shard: VirtualShard, id: Id, name: &str) -> Result<Statement, AuthError> {
    let name = checked_name(name)?;
    Ok(RENAME.statement().bind(shard).bind(id).bind(name))
}

fn checked_name(name: &str) -> Result<String, AuthError> {
    let name = name.trim();
    let fits = (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_control);
    fits.then(|| name.to_owned())
        .ok_or(AuthError::Name { max: MAX_NAME })
}
