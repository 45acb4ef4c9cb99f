//! Begins and recognises sessions, whatever store keeps them.

use std::num::NonZeroU32;
use std::sync::Arc;

use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::id::{Id, IdGenerator};
use maxscale_core::keys::{KeyRing, PurposeKeys};
use uuid::Uuid;

use super::activity::Activity;
use super::builder::SessionsBuilder;
use super::erased::{DynStore, StoreError};
use super::near::NearSessions;
use super::policy::{Proof, SessionPolicy};
use super::recognised::Recognised;
use super::record::Session;
use super::source::Source;
use super::store::{Created, NewSession, SessionStore, Why};
use crate::api_key::Asked;
use crate::audit::{Audit, AuditEvent, Audited};
use crate::error::AuthError;
use crate::principal::Principal;
use crate::realm::Realm;
use crate::token::{Fingerprint, Presented, SessionToken};

/// The sessions of a service. Cheap to clone.
///
/// When a session was used last is noted in memory and written in the background, every
/// 5 s, once the stored time is older than
/// [`touch_every`](super::SessionPolicy::touch_every): no request waits for it. So the
/// stored time is late by up to that and 5 s, and a session that is not used ends earlier
/// by as much. What the store does not take is tried again, of up to 16,000 sessions. A
/// process that is killed loses what it noted; one that ends calls
/// [`shutdown`](Self::shutdown).
#[derive(Clone, Debug)]
pub struct Sessions(pub(super) Arc<Inner>);

/// How old what is known of a session may be. As a fact in a request it tells the
/// session layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "asked or not")]
pub enum Consistency {
    /// Up to a second, where a handle [remembers](SessionsBuilder::near).
    #[default]
    Bounded,
    /// The store is asked.
    Strong,
}

/// A session that was drawn and is to be stored.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) session: Session,
    pub(crate) token: SessionToken,
}

/// Who has a token, at a time.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) what: Arc<Recognised>,
    pub(crate) at: Timestamp,
}

/// Who has a token, as far as nobody was asked.
pub(crate) enum Told {
    /// Somebody who is remembered.
    Known(Known),
    /// It is none.
    Nobody,
    /// Whoever the store says: it was verified.
    Ask(Fingerprint),
    /// Whoever has this API key, if there is such a one, and room in its quota.
    Key(Box<Asked>),
    /// Nobody can say, now.
    #[cfg(feature = "jwt")]
    Unknown,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Arc<dyn DynStore>,
    /// For tokens.
    pub(super) keys: PurposeKeys,
    pub(super) ids: Arc<IdGenerator>,
    pub(super) realm: Realm,
    pub(super) policy: SessionPolicy,
    pub(super) clock: Clock,
    pub(super) near: Option<NearSessions>,
    pub(super) activity: Activity,
    pub(super) audit: Audit,
}

// === impl Sessions ===

impl Sessions {
    /// Starts a handle to the sessions in `store`.
    pub fn builder(
        store: impl SessionStore,
        keys: Arc<KeyRing>,
        ids: Arc<IdGenerator>,
    ) -> SessionsBuilder {
        SessionsBuilder::new(store, keys, ids)
    }

    /// Begins a session and gives its token's text.
    ///
    /// Who may have had one before, as at a login, uses [`begin_over`](Self::begin_over).
    ///
    /// It is answered once it is stored for good. Where a copy could not be told of it,
    /// other processes may take it for none until they were, and serve those that had
    /// to end for it; [`changed`](Self::changed) tells again, and says how far it got.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] when the store did not confirm: there may be a session
    /// then that nobody has a token of.
    pub async fn begin(&self, user: Id, proof: Proof, device: &str) -> Result<String, AuthError> {
        let drawn = self.draw(user, proof)?;
        self.store_new(&drawn.session, device, self.0.policy.per_user)
            .await?;
        let (level, methods) = (proof.level, proof.methods);
        self.audit(&drawn.session, Audited::SessionBegun { level, methods });
        Ok(drawn.token.text())
    }

    /// A session for `user` with a secret of its own, not stored yet.
    pub(crate) fn draw(&self, user: Id, proof: Proof) -> Result<Drawn, AuthError> {
        let policy = &self.0.policy;
        let id = self.0.ids.draw(user.shard());
        let token = SessionToken::issue(&self.0.keys, self.0.realm, user, id)?;
        let now = self.0.clock.now();
        let session = Session {
            user,
            id,
            secret_hash: token.secret_hash(),
            created_at: now,
            last_active: now,
            authenticated_at: now,
            idle: policy.idle,
            ends_at: now.after(policy.absolute),
            level: proof.level,
            methods: proof.methods,
            version: 1,
            previous: None,
            actor: None,
        };
        Ok(Drawn { session, token })
    }

    pub(super) async fn store_new(
        &self,
        session: &Session,
        device: &str,
        most: NonZeroU32,
    ) -> Result<(), AuthError> {
        let new = NewSession { session, device };
        match self.0.store.create(&new, most).await? {
            Created::Stored { ended } => {
                if !ended.is_empty() {
                    self.forget(session.user).await;
                    let why = Why::TooMany;
                    self.audit(session, Audited::SessionsRevoked { ended, why });
                }
                Ok(())
            }
            Created::Exists => Err(AuthError::Session(StoreError::exists())),
        }
    }

    /// How long sessions last, and how many one user may have.
    pub fn policy(&self) -> &SessionPolicy {
        &self.0.policy
    }

    /// The realm that they are of.
    pub fn realm(&self) -> Realm {
        self.0.realm
    }

    /// Reads a token's text without any I/O; `None` for what was not issued here.
    pub fn read(&self, text: &str) -> Option<SessionToken> {
        self.verify(Presented::read(text)?)
    }

    fn verify(&self, shown: Presented) -> Option<SessionToken> {
        let token = shown.verify(&self.0.keys);
        token.filter(|it| it.realm() == self.0.realm)
    }

    /// Who has the token; `None` if its session is over. What is remembered of it may be
    /// up to a second old, if the handle [remembers](SessionsBuilder::near).
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not answer: nobody knows then.
    pub async fn recognise(&self, token: &SessionToken) -> Result<Option<Principal>, AuthError> {
        match self.recall(token.presented()) {
            Some(known) => Ok(Some(self.principal(known, Consistency::Bounded))),
            None => self.recognise_strong(token).await,
        }
    }

    /// Who has the token, as the store says now.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not answer: nobody knows then.
    pub async fn recognise_strong(
        &self,
        token: &SessionToken,
    ) -> Result<Option<Principal>, AuthError> {
        self.principal_of(&token.fingerprint()).await
    }

    /// Who has it, as the store says now.
    pub(super) async fn principal_of(
        &self,
        token: &Fingerprint,
    ) -> Result<Option<Principal>, AuthError> {
        let known = self.find(token).await?;
        Ok(known.map(|known| self.principal(known, Consistency::Strong)))
    }

    pub(super) fn principal(&self, known: Known, consistency: Consistency) -> Principal {
        Principal::of(known, consistency, &Source::new(self.clone()))
    }

    /// Who has what may be a token, as far as nobody has to be asked.
    pub(super) fn know(&self, text: &str, consistency: Consistency) -> Told {
        let Some(shown) = Presented::read(text) else {
            return Told::Nobody;
        };
        if consistency == Consistency::Bounded
            && let Some(known) = self.recall(&shown)
        {
            return Told::Known(known);
        }
        let token = self.verify(shown);
        token.map_or(Told::Nobody, |token| Told::Ask(token.fingerprint()))
    }

    fn recall(&self, shown: &Presented) -> Option<Known> {
        self.recall_if(shown.user(), |token| token.is_of(shown))
    }

    /// What this process remembers of a token that it has verified, and asked the store
    /// for, within the last second: of the one of `user` that `is` says.
    pub(super) fn recall_if(&self, user: Uuid, is: impl Fn(&Fingerprint) -> bool) -> Option<Known> {
        let what = self.0.near.as_ref()?.get(user, is)?;
        let at = self.0.clock.now();
        // A secret that is not known may be one that another process has just given out.
        what.is_live(at).then_some(Known { what, at })
    }

    /// Asks the store.
    pub(super) async fn find(&self, token: &Fingerprint) -> Result<Option<Known>, AuthError> {
        let (user, id) = (token.user, token.session);
        let near = self.0.near.as_ref().map(|near| (near, near.begin(user)));
        let found = self.0.store.load(user, id).await?;
        let at = self.0.clock.now();
        let of = |token: &Fingerprint| {
            let (session, standing) = found.as_ref()?;
            Recognised::of(session, standing, token, at).map(Arc::new)
        };
        let known = of(token);
        if let (Some((session, _)), Some(_)) = (&found, &known) {
            self.note(session, at);
        }
        if let Some((near, begun)) = near {
            near.learn(&begun, token, known.clone(), of);
        }
        Ok(known.map(|what| Known { what, at }))
    }

    fn note(&self, session: &Session, now: Timestamp) {
        // A session that is used all the time must not end for want of a note.
        let every = self.0.policy.touch_every.min(session.idle / 4);
        if now.since(session.last_active) >= every {
            self.0.activity.note(session.user, session.id, now);
        }
    }

    /// Writes what is noted of sessions' last requests. To be called when the last
    /// request was answered; what is noted after it is written in the background again.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, up to 1,000 sessions that are being written may keep their
    /// older time.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Session`] when the store did not take it. It may be repeated.
    pub async fn shutdown(&self) -> Result<(), AuthError> {
        Ok(self.0.activity.flush().await?)
    }

    /// Makes this process, and by a message the others, ask the store again.
    pub(crate) async fn forget(&self, user: Id) {
        if let Some(near) = &self.0.near {
            near.forget(user).await;
        }
    }

    /// Tells of a request that was refused before anybody was asked whose it is: by the
    /// token that it carries.
    pub(crate) fn tell_of_token(&self, text: Option<&str>, what: Audited) {
        self.0.audit.tell(|| {
            let token = text.and_then(|text| self.read(text));
            AuditEvent {
                user: token.as_ref().map(|it| it.user),
                session: token.as_ref().map(|it| it.session),
                ..AuditEvent::new(self.0.clock.now(), self.0.realm, what)
            }
        });
    }

    /// Tells what `principal` did, or was kept from.
    pub(crate) fn tell(&self, principal: &Principal, what: Audited) {
        self.0.audit.tell(|| AuditEvent {
            session: Some(principal.session()),
            actor: principal.actor(),
            ..self.event(Some(principal.user()), what)
        });
    }

    /// Tells what happened to `session`.
    pub(super) fn audit(&self, session: &Session, what: Audited) {
        self.0.audit.tell(|| AuditEvent {
            session: Some(session.id),
            actor: session.actor,
            ..self.event(Some(session.user), what)
        });
    }

    /// Tells what happened to `user`, if that is known, whoever did it.
    pub(crate) fn tell_of(&self, user: impl Into<Option<Id>>, what: Audited) {
        self.0.audit.tell(|| self.event(user.into(), what));
    }

    /// Tells what happened to `user`, or to one session of his that he has himself.
    pub(crate) fn tell_of_own(&self, user: Id, session: Option<Id>, what: Audited) {
        self.0.audit.tell(|| AuditEvent {
            session,
            ..self.event(Some(user), what)
        });
    }

    fn event(&self, user: Option<Id>, what: Audited) -> AuditEvent {
        AuditEvent {
            user,
            ..AuditEvent::new(self.0.clock.now(), self.0.realm, what)
        }
    }
}
