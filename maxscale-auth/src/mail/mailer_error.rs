use std::path::PathBuf;

use maxscale_core::BoxError;
use maxscale_core::keys::KeyError;

/// A mailer could not be made, or a mail not be sent. It does not hold the mail's link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MailerError {
    /// The sender is no mail address.
    #[error("the sender is no mail address")]
    Sender(#[source] lettre::address::AddressError),

    /// The recipient is no address that mail can be sent to.
    #[error("the recipient is no mail address")]
    Recipient(#[source] lettre::address::AddressError),

    /// No message could be made of the mail.
    #[error("cannot write the mail")]
    Message(#[source] lettre::error::Error),

    /// The operating system gave no random bytes.
    #[error("cannot name the mail")]
    Random(#[source] KeyError),

    /// The folder cannot be written to.
    #[error("cannot write to {}", folder.display())]
    Folder {
        /// The folder of mails.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },

    /// The URL is none of an SMTP server.
    #[error("no URL of an SMTP server that can be used")]
    Url(#[source] Option<lettre::transport::smtp::Error>),

    /// The file of authorities that the server's certificate is to be of cannot be used.
    #[error("cannot read CAs from {}", file.display())]
    Ca {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: BoxError,
    },

    /// The server is on another machine, or its certificate is to be of one's own
    /// authority, and the URL asks for no TLS: whoever is in between would read the links.
    #[error("the SMTP server {host} would be spoken to without TLS")]
    Plain {
        /// The server.
        host: String,
    },

    /// The server did not take the mail.
    #[error("the SMTP server did not take the mail")]
    Refused(#[source] lettre::transport::smtp::Error),
}
