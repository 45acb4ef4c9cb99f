use super::quiet::{Trail, Way};
use super::row::Opened;
use super::session::BY_MAIL;
use super::{Accounts, Client, LoggedIn};
use crate::email::Email;
use crate::error::AuthError;
use crate::mail::{MailToken, Purpose};
use crate::session::{Drawn, Which};

impl Accounts {
    /// Sends a link that logs in, if the address has an account that may be used. The
    /// answer is the same if it has none.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`]: bad input, too many mails, or a database that could not
    /// be asked.
    pub async fn send_magic_link(&self, email: &str, client: &Client<'_>) -> Result<(), AuthError> {
        self.send_link(email, Purpose::LogIn, client).await
    }

    /// The same for any link to the account's own address.
    pub(super) async fn send_link(
        &self,
        email: &str,
        purpose: Purpose,
        client: &Client<'_>,
    ) -> Result<(), AuthError> {
        let email = Email::parse(email)?;
        self.count_mail(&email, client).await?;
        let trail = Trail::default();
        let sent = async {
            trail.went(Way::Free);
            let Some(mut opened) = self.open_by(&email).await? else {
                return Ok(());
            };
            trail.went(Way::Taken);
            let sent = match opened.account.locked {
                true => Ok(()),
                false => self.issue_own(&mut opened, purpose, "").await,
            };
            self.finish(opened, sent).await
        };
        self.quietly(&self.0.floors.link, &trail, sent).await
    }

    /// Logs in by the token of a link. To be called for a POST only: programs that look
    /// at mails follow links.
    ///
    /// It shows that the address is the user's. An account whose address was never
    /// verified loses its password, sessions, API keys and other tokens by it: nobody knows who
    /// had them.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::MailToken`], [`AuthError::Locked`], [`AuthError::Attempts`],
    /// or a database that could not be asked.
    pub async fn redeem_magic_link(
        &self,
        token: &str,
        client: &Client<'_>,
    ) -> Result<LoggedIn, AuthError> {
        let begun = self.redeem((token, Purpose::LogIn), client, async |token| {
            let mut opened = self.open_for(&token).await?;
            let begun = self.redeem_magic_link_in(&mut opened, &token, client).await;
            let user = opened.account.user.clone();
            Ok((user, self.finish(opened, begun).await?))
        });
        let (user, drawn) = begun.await?;
        self.logged_in(user, &drawn, client).await
    }

    async fn redeem_magic_link_in(
        &self,
        opened: &mut Opened,
        token: &MailToken,
        client: &Client<'_>,
    ) -> Result<Drawn, AuthError> {
        self.take(opened, token).await?;
        if !opened.account.is_verified() {
            opened.account.user.verified_at = Some(self.0.clock.now());
            opened.account.password = None;
            self.replace_password(opened, Which::All).await?;
            self.end_keys(opened).await?;
        }
        self.begin_in(opened, BY_MAIL, client).await
    }
}
