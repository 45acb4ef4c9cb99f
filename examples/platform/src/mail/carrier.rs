use std::path::{Path, PathBuf};

use maxscale_auth::mail::{FileMailer, MailerError, SmtpMailer, english};
use maxscale_auth::{Mail, Mailer};

use crate::settings::{MailSettings, Settings};

/// By what mails leave: an SMTP server, or a folder in which each is a file.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Carrier {
    /// An SMTP server.
    Smtp(SmtpMailer),
    /// A folder.
    Folder(FileMailer),
}

// === impl Carrier ===

impl Carrier {
    /// By the settings. It makes the folder, and connects to a server with the first mail.
    ///
    /// # Errors
    ///
    /// Returns [`MailerError`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(settings: &Settings) -> Result<Self, MailerError> {
        let MailSettings { url, from, plain } = &settings.mail;
        let words = english(&settings.service);
        if let Some(folder) = folder(settings) {
            return FileMailer::new(folder, from, words).map(Self::Folder);
        }
        let mut builder = SmtpMailer::builder(url.as_deref().unwrap_or_default(), from, words)?;
        if *plain {
            builder = builder.plain();
        }
        builder.build().map(Self::Smtp)
    }
}

impl Mailer for Carrier {
    type Error = MailerError;

    async fn send(&self, mail: &Mail) -> Result<(), MailerError> {
        match self {
            Self::Smtp(mailer) => mailer.send(mail).await,
            Self::Folder(mailer) => mailer.send(mail).await,
        }
    }
}

/// The folder that mails are written to, unless a server sends them.
pub fn folder(settings: &Settings) -> Option<PathBuf> {
    match settings.mail.url.as_deref() {
        None => Some(settings.data.join("mail")),
        Some(url) => url.strip_prefix("file://").map(|it| Path::new(it).into()),
    }
}
