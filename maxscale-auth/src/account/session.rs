//! Sessions that begin and end in the transaction of what allows or forbids them.

use maxscale_core::Chain;

use super::client::Device;
use super::row::{Account, Opened};
use super::{Accounts, Client, LoggedIn, User};
use crate::audit::Audited;
use crate::email::Email;
use crate::error::AuthError;
use crate::session::{Created, Drawn, Level, Methods, NewSession, Proof, StoreError, Which, Why};

pub(super) const BY_PASSWORD: Proof = Proof {
    level: Level::Aal1,
    methods: Methods::PASSWORD,
};

pub(super) const BY_MAIL: Proof = Proof {
    level: Level::Aal1,
    methods: Methods::MAIL,
};

impl Accounts {
    /// Begins a session, and ends the one that the client brought.
    pub(super) async fn begin_in(
        &self,
        opened: &mut Opened,
        proof: Proof,
        client: &Client<'_>,
    ) -> Result<Drawn, AuthError> {
        let user = opened.account.user.id;
        if let Some(old) = client.session.filter(|it| it.user() == user) {
            let which = Which::One(old.session());
            self.end_in(opened, which, Why::LoggedOut).await?;
        }
        let drawn = self.0.sessions.draw(user, proof)?;
        let new = NewSession {
            session: &drawn.session,
            device: client.agent,
        };
        let most = self.0.sessions.policy().per_user;
        let created = self.0.records.create_in(&mut opened.tx, &new, most).await?;
        match created {
            Created::Stored { ended } => {
                let id = drawn.session.id;
                if !ended.is_empty() {
                    let why = Why::TooMany;
                    (opened.told).push_of(id, Audited::SessionsRevoked { ended, why });
                }
                let (level, methods) = (proof.level, proof.methods);
                (opened.told).push_of(id, Audited::SessionBegun { level, methods });
                Ok(drawn)
            }
            Created::Exists => Err(AuthError::Session(StoreError::exists())),
        }
    }

    /// Ends sessions of the account.
    pub(super) async fn end_in(
        &self,
        opened: &mut Opened,
        which: Which,
        why: Why,
    ) -> Result<(), AuthError> {
        let user = opened.account.user.id;
        let ended = self.0.records.revoke_in(&mut opened.tx, user, which, why);
        let ended = ended.await?;
        if !ended.is_empty() {
            (opened.told).push(Audited::SessionsRevoked { ended, why });
        }
        Ok(())
    }

    /// Commits what was done and tells the audit, or takes it back if it was not all done.
    pub(crate) async fn finish<T>(
        &self,
        opened: Opened,
        done: Result<T, AuthError>,
    ) -> Result<T, AuthError> {
        let user = opened.account.user.id;
        match done {
            Ok(done) => {
                opened.tx.commit().await?;
                opened.told.tell(user, &self.0.sessions);
                // What was committed is final, and every process finds that it has not
                // been told; the answer to what was done does not depend on it.
                if let Err(error) = self.0.sessions.changed(user).await {
                    tracing::warn!(error = %Chain(&error), "a change of sessions is told later");
                }
                Ok(done)
            }
            Err(error) => {
                // A lost connection takes it back as well.
                if let Err(kept) = opened.tx.rollback().await {
                    tracing::debug!(error = %Chain(&kept), "a transaction was given up");
                }
                Err(error)
            }
        }
    }

    /// What a client gets whose session just began.
    pub(super) async fn logged_in(
        &self,
        user: User,
        drawn: &Drawn,
        client: &Client<'_>,
    ) -> Result<LoggedIn, AuthError> {
        // Somebody else's, on the same device.
        if let Some(old) = client.session.filter(|it| it.user() != user.id) {
            self.log_out(old).await?;
        }
        let email = Email::parse(&user.email)?;
        let device = match client.known_device(&email, &self.0.keys) {
            Some(known) => known,
            None => self.know(&email, Device::draw()?).await,
        };
        Ok(LoggedIn {
            token: drawn.token.text(),
            device: device.text(&email, &self.0.keys),
            user,
        })
    }
}

impl Account {
    /// Refuses an account that nobody may use.
    pub(super) const fn is_open(&self) -> Result<(), AuthError> {
        match self.locked {
            true => Err(AuthError::Locked),
            false => Ok(()),
        }
    }
}
