//! A mail as it is sent: its headers, and the words that were chosen for it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, SinglePart};
use lettre::{Address, Message};
use maxscale_core::clock::Clock;
use maxscale_core::keys::Secret;

use super::{Letter, Mail, MailerError};

/// Makes messages of mails.
#[derive(Clone)]
pub(super) struct Writer {
    from: Mailbox,
    words: Arc<dyn Fn(&Mail) -> Letter + Send + Sync>,
    clock: Clock,
}

// === impl Writer ===

impl Writer {
    /// Writes in the name of `from`: `Acme <no-reply@acme.example>`.
    pub(super) fn new(
        from: &str,
        words: impl Fn(&Mail) -> Letter + Send + Sync + 'static,
    ) -> Result<Self, MailerError> {
        let from = from.parse().map_err(MailerError::Sender)?;
        Ok(Self {
            from,
            words: Arc::new(words),
            clock: Clock::system(),
        })
    }

    pub(super) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn message(&self, mail: &Mail) -> Result<Message, MailerError> {
        let to: Address = mail.to().parse().map_err(MailerError::Recipient)?;
        let letter = (self.words)(mail);
        let now = Duration::from_millis(self.clock.now().as_millis());
        let id = format!("<{}@{}>", token()?, self.from.email.domain());
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter.subject)
            .date(UNIX_EPOCH + now)
            .message_id(Some(id))
            .singlepart(plain(letter.text))
            .map_err(MailerError::Message)?;
        // No holiday note answers it (RFC 3834).
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        let value = HeaderValue::new(name, "auto-generated".to_owned());
        message.headers_mut().insert_raw(value);
        Ok(message)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Writer");
        shown.field("from", &self.from).finish_non_exhaustive()
    }
}

/// As it is where mail can carry it so (RFC 5322, 2.1.1). Anything else would break long
/// links for who reads the file itself.
fn plain(text: String) -> SinglePart {
    let fits = |line: &str| line.len() <= 998 && !line.contains(['\r', '\0']);
    let body = if text.is_ascii() && text.lines().all(fits) {
        let lines = text.lines().flat_map(|line| [line, "\r\n"]);
        let lines = lines.collect::<String>().into_bytes();
        Body::dangerous_pre_encoded(lines, ContentTransferEncoding::SevenBit)
    } else {
        Body::new(text)
    };
    SinglePart::builder()
        .header(ContentType::TEXT_PLAIN)
        .body(body)
}

/// A text that no other mail has.
pub(super) fn token() -> Result<String, MailerError> {
    let bytes: [u8; 16] = Secret::random().map_err(MailerError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
