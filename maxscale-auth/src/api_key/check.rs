//! Who brings a key.

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::ClientIp;
use maxscale_core::id::Id;
use maxscale_core::limit::{ByClientIp, Policy};

use super::{ApiKeyError, ApiKeys};
use crate::audit::Audited;
use crate::error::AuthError;
use crate::principal::Principal;
use crate::session::{Consistency, Known, Recognised, Source, Told};
use crate::token::{By, Fingerprint};

/// A key of the right form, to be asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    token: Fingerprint,
    /// What is remembered of it: its quota alone is asked for.
    known: Option<Known>,
}

impl ApiKeys {
    /// Who brings a key; `None` if it is none, or has ended. What is remembered of it may be
    /// up to a second old, where the accounts' sessions
    /// [remember](crate::session::SessionsBuilder::near). A request is taken from its quota.
    ///
    /// Wrong keys are counted by the client's address: beyond
    /// [`MAX_WRONG`](Self::MAX_WRONG), no key that is not remembered is looked for, and beyond
    /// [`MAX_AGAIN`](Self::MAX_AGAIN) the same one is not.
    ///
    /// # Errors
    ///
    /// Returns [`ApiKeyError::Quota`], [`ApiKeyError::Wrong`], or a database that could not
    /// be asked: nobody knows then.
    pub async fn recognise(
        &self,
        text: &str,
        client: &ClientIp,
    ) -> Result<Option<Principal>, ApiKeyError> {
        let admitted = match self.know(text, Consistency::Bounded) {
            Told::Key(asked) => self.admit(&asked, Some(*client)).await?,
            Told::Known(known) => Some((known, Consistency::Bounded)),
            _ => None,
        };
        let source = Source::with_keys(self.sessions().clone(), Some(self.clone()));
        Ok(admitted.map(|(known, consistency)| Principal::of(known, consistency, &source)))
    }

    /// Whether it begins as keys do.
    pub(crate) fn may_be(&self, text: &str) -> bool {
        self.0.form.begins(text)
    }

    /// Who has what may be a key, as far as nobody has to be asked.
    pub(crate) fn know(&self, text: &str, consistency: Consistency) -> Told {
        let shown = self.0.form.read(text);
        let Some(shown) = shown.filter(|it| it.realm == self.sessions().realm()) else {
            return Told::Nobody;
        };
        let token = Fingerprint {
            user: shown.user,
            session: shown.key,
            by: By::Key(shown.hash),
        };
        match self.sessions().know_verified(token, consistency) {
            Ok(known) if known.what.quota().is_none() => Told::Known(known),
            Ok(known) => Told::Key(Box::new(Asked {
                token: known.what.token.clone(),
                known: Some(known),
            })),
            Err(token) => Told::Key(Box::new(Asked { token, known: None })),
        }
    }

    /// Lets a request of `client` with a key through, as far as its quota goes; `None` if it
    /// is none, or has ended.
    pub(crate) async fn admit(
        &self,
        asked: &Asked,
        client: Option<ClientIp>,
    ) -> Result<Option<(Known, Consistency)>, ApiKeyError> {
        let admitted = match &asked.known {
            Some(known) => (known.clone(), Consistency::Bounded),
            None => match self.look(&asked.token, client).await? {
                Some(known) => (known, Consistency::Strong),
                None => return Ok(None),
            },
        };
        self.charge(&admitted.0.what).await?;
        Ok(Some(admitted))
    }

    /// Asks for a key, unless the client has brought too many wrong ones.
    async fn look(
        &self,
        token: &Fingerprint,
        client: Option<ClientIp>,
    ) -> Result<Option<Known>, ApiKeyError> {
        let client = client.ok_or(ApiKeyError::NoAddress)?;
        let client = ByClientIp::principal(&client);
        let one = format!("{client} {}", token.session);
        let (limits, wrong) = (&self.0.limits, [self.0.wrong.clone().into()]);
        let again = [self.0.again.clone().into()];
        let before = limits.peek(&one, &again).await;
        for stands in [&before, &limits.peek(&client, &wrong).await] {
            if !stands.is_allowed() {
                let retry_after = stands.retry_after();
                return Err(ApiKeyError::Wrong { retry_after });
            }
        }
        let found = self.find(token).await?;
        if found.is_none() {
            // Guesses made at once may all be looked for, and are all counted: a secret of 32
            // bytes is not guessed, and who has a right key must not wait for his own others.
            limits.charge(&one, &again).await;
            // Nothing had been taken: it is the first time.
            let first = before.standings().first();
            if first.is_none_or(|it| it.status.reset.is_zero()) {
                limits.charge(&client, &wrong).await;
            }
            let (user, key) = (token.user, token.session);
            (self.sessions()).tell_of(None::<Id>, Audited::ApiKeyRefused { user, key });
        }
        Ok(found)
    }

    /// Asks the rows.
    pub(crate) async fn find(&self, token: &Fingerprint) -> Result<Option<Known>, AuthError> {
        let By::Key(hash) = &token.by else {
            return Ok(None);
        };
        let asked = async {
            let found = self.0.rows.load(token.user, token.session).await?;
            let right = found.filter(|it| it.hash == *hash);
            Ok(right.map(|it| {
                self.note(token, it.used_at);
                let times = (it.created_at, it.expires_at);
                Recognised::of_key(token, it.held, it.roles, times)
            }))
        };
        self.sessions().find_by(token, asked).await
    }

    /// Notes that a key was used, if that is not known.
    fn note(&self, token: &Fingerprint, used_at: Option<Timestamp>) {
        let now = self.sessions().now();
        if used_at.is_none_or(|at| now.since(at) >= Self::TOUCH_EVERY) {
            self.0.activity.note(token.user, token.session, now);
        }
    }

    /// Takes a request from the key's quota, if it has one.
    async fn charge(&self, known: &Recognised) -> Result<(), ApiKeyError> {
        let (Some(quota), Some(held)) = (known.quota(), &known.key) else {
            return Ok(());
        };
        let policy = Policy::new("api-key", *quota).expect("this is a policy's name");
        let whose = format!("key:{}", held.lineage);
        let decision = self.0.limits.check(&policy, &whose).await;
        match decision.is_allowed() {
            true => Ok(()),
            false => Err(ApiKeyError::Quota {
                retry_after: decision.retry_after(),
            }),
        }
    }
}
