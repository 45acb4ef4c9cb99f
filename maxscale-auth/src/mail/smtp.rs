use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};

use http::Uri;
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, Tls, TlsParameters, TlsParametersBuilder,
};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;

use super::message::Writer;
use super::{Letter, Mail, Mailer, MailerError};

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Hands mails to an SMTP server, over connections that it keeps. Cheap to clone.
///
/// A mail that the server refuses, or for which it cannot be reached in time, is an
/// error; it is not tried again here, but by the job that an
/// [`Outbox`](super::Outbox) stored.
///
/// # Cancellation
///
/// Dropped while it sends, nobody knows whether the server took the mail.
#[derive(Clone)]
pub struct SmtpMailer {
    transport: Transport,
    writer: Writer,
}

/// What [`SmtpMailer`] needs; see [`SmtpMailer::builder`].
#[derive(Debug)]
#[must_use]
pub struct SmtpMailerBuilder {
    url: String,
    writer: Writer,
    timeout: Duration,
    plain: bool,
    ca: Option<PathBuf>,
}

// === impl SmtpMailer ===

impl SmtpMailer {
    /// How long each step with the server may take when nothing is set.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    /// Starts a mailer to the server at `url`, in the name of `from`
    /// (`Acme <no-reply@acme.example>`), and in these words (see
    /// [`english`](super::english)).
    ///
    /// | URL | |
    /// | --- | --- |
    /// | `smtps://user:password@host` | TLS from the start, port 465 |
    /// | `smtp://user:password@host?tls=required` | STARTTLS, port 587 |
    /// | `smtp://localhost` | without TLS, port 25: on this machine only |
    ///
    /// # Errors
    ///
    /// Returns [`MailerError::Sender`] if `from` is no address.
    pub fn builder(
        url: &str,
        from: &str,
        words: impl Fn(&Mail) -> Letter + Send + Sync + 'static,
    ) -> Result<SmtpMailerBuilder, MailerError> {
        Ok(SmtpMailerBuilder {
            url: url.to_owned(),
            writer: Writer::new(from, words)?,
            timeout: Self::DEFAULT_TIMEOUT,
            plain: false,
            ca: None,
        })
    }
}

impl Mailer for SmtpMailer {
    type Error = MailerError;

    async fn send(&self, mail: &Mail) -> Result<(), MailerError> {
        let message = self.writer.message(mail)?;
        let sent = self.transport.send(message).await;
        sent.map(drop).map_err(MailerError::Refused)
    }
}

impl fmt::Debug for SmtpMailer {
    /// Without the server's password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SmtpMailer");
        shown.field("writer", &self.writer).finish_non_exhaustive()
    }
}

// === impl SmtpMailerBuilder ===

impl SmtpMailerBuilder {
    /// Sets how long each step with the server may take. Default:
    /// [`SmtpMailer::DEFAULT_TIMEOUT`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Lets it speak without TLS to a server on another machine, where the network
    /// between is as good as this one. Default: it does not.
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Sets whom the server's certificate has to be signed by: a file of CAs in PEM,
    /// which takes the place of the system's. Default: the system's.
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// Sets the clock. Default: the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.writer.set_clock(clock);
        self
    }

    /// Checks the URL. It connects with the first mail.
    ///
    /// # Errors
    ///
    /// Returns [`MailerError::Url`], [`MailerError::Ca`], or [`MailerError::Plain`] for a
    /// server without TLS that is on another machine, or has a [CA](Self::ca).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn build(self) -> Result<SmtpMailer, MailerError> {
        let url: Uri = self.url.parse().map_err(|_| MailerError::Url(None))?;
        let named = matches!(url.scheme_str(), Some("smtp" | "smtps"));
        let host = url.host().filter(|host| named && !host.is_empty());
        let host = host.ok_or(MailerError::Url(None))?;
        let may_be_plain = self.ca.is_none() && (self.plain || is_here(host));
        if !has_tls(&url) && !may_be_plain {
            let host = host.to_owned();
            return Err(MailerError::Plain { host });
        }
        let transport = Transport::from_url(&self.url);
        let mut transport = transport.map_err(|error| MailerError::Url(Some(error)))?;
        if let Some(file) = self.ca {
            let tls = trusting(&file, host);
            let tls = tls.map_err(|source| MailerError::Ca { file, source })?;
            transport = transport.tls(match is_wrapped(&url) {
                true => Tls::Wrapper(tls),
                false => Tls::Required(tls),
            });
        }
        Ok(SmtpMailer {
            transport: transport.timeout(Some(self.timeout)).build(),
            writer: self.writer,
        })
    }
}

/// Whether TLS is certain: `tls=opportunistic` is whatever the network makes of it.
fn has_tls(url: &Uri) -> bool {
    let asked = url.query().unwrap_or_default();
    is_wrapped(url) || asked.split('&').any(|pair| pair == "tls=required")
}

/// Whether TLS comes before the first word.
fn is_wrapped(url: &Uri) -> bool {
    url.scheme_str() == Some("smtps")
}

fn is_here(host: &str) -> bool {
    let loopback = |address: IpAddr| address.is_loopback();
    host == "localhost" || bare(host).parse().is_ok_and(loopback)
}

/// An address of IPv6 without the brackets that it has in a URL.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// TLS with `host`, which shows a certificate of a CA in this file.
fn trusting(file: &Path, host: &str) -> Result<TlsParameters, BoxError> {
    let pem = fs::read(file)?;
    let ca = Certificate::from_pem(&pem)?;
    // It reads a file without any as one of none, and then nobody is trusted.
    if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
        return Err("there is no certificate in it".into());
    }
    let tls = TlsParametersBuilder::new(bare(host).to_owned());
    let tls = tls.certificate_store(CertificateStore::None);
    Ok(tls.add_root_certificate(ca).build_rustls()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::english;

    fn built(url: &str) -> Result<SmtpMailer, MailerError> {
        SmtpMailer::builder(url, "Acme <a@acme.example>", english("Acme"))?.build()
    }

    #[tokio::test]
    async fn server_on_another_machine_needs_tls() {
        for url in [
            "smtp://mail.example",
            "smtp://user:password@mail.example:25",
            "smtp://mail.example?tls=opportunistic",
            "smtp://mail.example?not-tls=required",
            "smtp://127.0.0.1.example",
            "smtp://localhost.example",
        ] {
            let refused = built(url).unwrap_err();
            assert!(matches!(refused, MailerError::Plain { .. }), "{url}");
        }
        for url in [
            "smtp://localhost",
            "smtp://127.0.0.1:2525",
            "smtp://[::1]:2525",
        ] {
            built(url).unwrap();
        }
        let plain = SmtpMailer::builder("smtp://mail.example", "a@b.example", english("Acme"));
        plain.unwrap().plain().build().unwrap();
    }

    #[tokio::test]
    async fn url_of_something_else_is_refused() {
        for url in [
            "",
            "mail.example",
            "http://localhost",
            "smtp://",
            "smtp:///x",
        ] {
            let refused = built(url).unwrap_err();
            assert!(matches!(refused, MailerError::Url(_)), "{url}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn tls_is_taken() {
        built("smtps://user:password@mail.example").unwrap();
        built("smtp://user:password@mail.example?tls=required").unwrap();
    }

    #[tokio::test]
    async fn debug_shows_no_password() {
        let mailer = built("smtp://user:hidden@localhost").unwrap();
        assert!(!format!("{mailer:?}").contains("hidden"));
    }
}
