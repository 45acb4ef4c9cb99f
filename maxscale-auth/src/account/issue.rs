//! Tokens that go out by mail, and come back.

use maxscale_core::id::Id;

use super::Accounts;
use super::row::Opened;
use crate::audit::Audited;
use crate::email::Email;
use crate::error::AuthError;
use crate::mail::rows::{self, Issued};
use crate::mail::{Mail, MailKind, MailToken, Purpose};

impl Accounts {
    /// Stores a token and hands its mail over. `bound` is the address that must still be
    /// the account's when the token comes back.
    pub(super) async fn issue(
        &self,
        opened: &mut Opened,
        purpose: Purpose,
        to: &str,
        issued: &Issued,
    ) -> Result<(), AuthError> {
        let (user, realm) = (opened.account.user.id, self.0.rows.realm);
        let token = MailToken::issue(realm, purpose, user)?;
        let now = self.0.clock.now();
        let expires_at = now.after(self.0.lifetimes.of(purpose));
        let times = (now, expires_at);
        rows::put(&mut opened.tx, &opened.shard, &token, issued, times).await?;
        let link = (self.0.links).with_token(purpose, &token.text(&self.0.keys));
        let mail = Mail::new(purpose.kind(), to.to_owned(), link, Some(expires_at));
        self.hand_over(opened, mail).await
    }

    /// [`issue`](Self::issue) to the account's own address, which it is bound to.
    pub(super) async fn issue_own(
        &self,
        opened: &mut Opened,
        purpose: Purpose,
        payload: &str,
    ) -> Result<(), AuthError> {
        let email = opened.account.user.email.clone();
        let issued = Issued {
            email: email.clone(),
            payload: payload.to_owned(),
        };
        self.issue(opened, purpose, &email, &issued).await
    }

    /// Hands over a mail that says something and carries no token.
    pub(super) async fn notify(
        &self,
        opened: &mut Opened,
        kind: MailKind,
        to: &str,
    ) -> Result<(), AuthError> {
        let mail = Mail::new(kind, to.to_owned(), self.0.links.forgot(), None);
        self.hand_over(opened, mail).await
    }

    async fn hand_over(&self, opened: &mut Opened, mail: Mail) -> Result<(), AuthError> {
        let kind = mail.kind();
        let put = self.0.outbox.put(&mut opened.tx, mail).await;
        put.map_err(AuthError::Mail)?;
        opened.told.push(Audited::Mailed { kind });
        Ok(())
    }

    /// What a token was issued with, while it is good; for work that comes before its
    /// transaction.
    pub(super) async fn peek(&self, token: &MailToken) -> Result<Issued, AuthError> {
        let shard = self.0.rows.router.shard(token.user)?;
        let issued = rows::peek(&shard, token, self.0.clock.now()).await?;
        issued.ok_or(AuthError::MailToken)
    }

    /// Takes a token that is bound to the account's address, and checks that the
    /// account may be used.
    pub(super) async fn take(
        &self,
        opened: &mut Opened,
        token: &MailToken,
    ) -> Result<Issued, AuthError> {
        let now = self.0.clock.now();
        let issued = rows::take(&mut opened.tx, &opened.shard, token, now).await?;
        let issued = issued.ok_or(AuthError::MailToken)?;
        let own = opened.account.user.email == issued.email;
        if !own && token.purpose != Purpose::UndoEmail {
            return Err(AuthError::MailToken);
        }
        opened.account.is_open()?;
        let purpose = token.purpose;
        (opened.told).push(Audited::MailTokenRedeemed { purpose });
        Ok(issued)
    }

    /// Ends the tokens of the account. Those that take a change of its address back
    /// stay: else whoever changed it could change the password, and end them.
    pub(super) async fn end_tokens(&self, opened: &mut Opened) -> Result<(), AuthError> {
        let (user, but) = (opened.account.user.id, Some(Purpose::UndoEmail));
        Ok(rows::end(&mut opened.tx, &opened.shard, user, but).await?)
    }

    /// The account that a token belongs to, held.
    pub(super) async fn open_for(&self, token: &MailToken) -> Result<Opened, AuthError> {
        let opened = self.0.rows.open(token.user).await?;
        opened.ok_or(AuthError::MailToken)
    }

    /// Whose address it is or was.
    pub(super) async fn owner(&self, email: &Email) -> Result<Option<Id>, AuthError> {
        Ok(self.0.emails.find(&self.claimed(email.as_str())).await?)
    }

    /// The account of an address, held; `None` also where the address is one that the
    /// account had before.
    pub(super) async fn open_by(&self, email: &Email) -> Result<Option<Opened>, AuthError> {
        let Some(id) = self.owner(email).await? else {
            return Ok(None);
        };
        let Some(opened) = self.0.rows.open(id).await? else {
            return Ok(None);
        };
        if opened.account.user.email == email.as_str() {
            return Ok(Some(opened));
        }
        opened.tx.rollback().await?;
        Ok(None)
    }

    /// What is claimed for an address. No address has a colon before its `@`, so those
    /// of the main realm, which were claimed before there were others, meet no other.
    pub(super) fn claimed(&self, email: &str) -> String {
        match self.0.rows.realm.get() {
            0 => email.to_owned(),
            realm => format!("{realm}:{email}"),
        }
    }
}
