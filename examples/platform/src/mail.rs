//! Mails to users, as jobs: one is committed with what it tells of, and sent by a
//! worker, which tries again.
//!
//! ```text
//!  flow ─ Mail ─ sealed ─ job, in the flow's transaction ─ worker ─ opened ─ SMTP, or a file
//! ```
//!
//! A mail holds a link that is as good as a password. It lies in the job's row sealed
//! under the service's key, bound to its virtual shard; no log and no error has it.

mod carrier;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maxscale_auth::{Mail, MailKind, Mailer as _, Outbox};
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::fact::VirtualShard;
use maxscale_core::keys::{KeyError, KeyRing, OpenError};
use maxscale_queue::{EnqueueOptions, Handler, Job, JobRequest, Outcome, Queue, QueueError};
use maxscale_shard::Tx;
use serde::{Deserialize, Serialize};

pub use carrier::{Carrier, folder};

/// Sends one mail.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SendMail {
    sealed: String,
}

/// Stores a [`SendMail`] with what the mail tells of.
#[derive(Clone, Debug)]
pub struct JobOutbox {
    queue: Queue,
    keys: Arc<KeyRing>,
}

/// Runs [`SendMail`] jobs.
#[derive(Clone, Debug)]
pub struct Sender {
    /// By what mails leave.
    pub carrier: Carrier,
    /// What they are sealed under.
    pub keys: Arc<KeyRing>,
    /// By which it is known that a link is over.
    pub clock: Clock,
}

/// A mail was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// It could not be sealed.
    #[error("cannot seal a mail")]
    Seal(#[from] KeyError),
    /// Its job could not be stored.
    #[error("cannot store a mail")]
    Queue(#[from] QueueError),
}

/// What lies in a job's row is no mail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnsealError {
    /// It is no base64.
    #[error("a stored mail is malformed")]
    Form,
    /// It does not open.
    #[error("cannot open a stored mail")]
    Open(#[from] OpenError),
    /// What was sealed is no mail that this program knows.
    #[error("a stored mail is of another form")]
    Content,
}

/// A mail, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Plain {
    kind: String,
    to: String,
    link: String,
    expires_at: Option<i64>,
}

/// What mails are sealed for.
const PURPOSE: &str = "platform mail";

// === impl SendMail ===

impl Job for SendMail {
    const KIND: &'static str = "mail.send";
    /// Twenty minutes or so: most links do not live much longer.
    const MAX_ATTEMPTS: u32 = 14;
}

impl SendMail {
    fn seal(keys: &KeyRing, shard: VirtualShard, mail: &Mail) -> Result<Self, KeyError> {
        let plain = Plain {
            kind: mail.kind().as_str().to_owned(),
            to: mail.to().to_owned(),
            link: mail.link().to_owned(),
            expires_at: mail.expires_at().map(Timestamp::as_micros),
        };
        let plain = serde_json::to_vec(&plain).expect("texts and a number are always JSON");
        let sealed = keys.seal(PURPOSE, &bound(shard), &plain)?;
        let sealed = STANDARD.encode(sealed);
        Ok(Self { sealed })
    }

    fn open(&self, keys: &KeyRing, shard: VirtualShard) -> Result<Mail, UnsealError> {
        let sealed = STANDARD.decode(&self.sealed);
        let sealed = sealed.map_err(|_| UnsealError::Form)?;
        let plain = keys.open(PURPOSE, &bound(shard), &sealed)?;
        let plain: Plain = serde_json::from_slice(&plain).map_err(|_| UnsealError::Content)?;
        let kind = MailKind::parse(&plain.kind).ok_or(UnsealError::Content)?;
        let expires_at = plain.expires_at.map(Timestamp::from_micros);
        Ok(Mail::new(kind, plain.to, plain.link, expires_at))
    }
}

fn bound(shard: VirtualShard) -> [u8; 4] {
    shard.get().to_be_bytes()
}

// === impl JobOutbox ===

impl JobOutbox {
    /// Stores in `queue`, sealed under `keys`.
    pub const fn new(queue: Queue, keys: Arc<KeyRing>) -> Self {
        Self { queue, keys }
    }
}

impl Outbox for JobOutbox {
    type Error = OutboxError;

    async fn put(&self, tx: &mut Tx, mail: Mail) -> Result<(), OutboxError> {
        let shard = tx.shard().ok_or(QueueError::NoShard)?;
        let job = SendMail::seal(&self.keys, shard, &mail)?;
        let options = EnqueueOptions::default();
        self.queue.enqueue_in(tx, &job, options).await?;
        Ok(())
    }
}

// === impl Sender ===

impl Handler<SendMail> for Sender {
    async fn run(&self, job: JobRequest<SendMail>) -> Outcome {
        let mail = match job.job().open(&self.keys, job.shard()) {
            Ok(mail) => mail,
            // A process that has the key may come.
            Err(error) => return Outcome::Retry(error.into()),
        };
        let now = self.clock.now();
        if mail.expires_at().is_some_and(|until| until <= now) {
            return Outcome::Dead("its link was over before it could be sent".to_owned());
        }
        match self.carrier.send(&mail).await {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Retry(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use maxscale_core::keys::Secret;

    use super::*;

    #[test]
    fn stored_mail_shows_nothing_and_opens_only_where_it_was_put() {
        let keys = KeyRing::new(1, Secret::new([7; 32])).unwrap();
        let (to, link) = ("ada@example.com", "https://a.example/v1/reset#mxm_x");
        let until = Some(Timestamp::from_micros(1_800_000_000_000_000));
        let mail = Mail::new(MailKind::ResetPassword, to.into(), link.into(), until);
        let shard = VirtualShard::new(3);
        let job = SendMail::seal(&keys, shard, &mail).unwrap();

        assert!(job.open(&keys, shard).unwrap() == mail);
        let stored = serde_json::to_string(&job).unwrap();
        assert!(
            !stored.contains("mxm_") && !stored.contains("ada"),
            "{stored}"
        );
        for shown in [format!("{job:?}"), stored] {
            assert!(!shown.contains(&STANDARD.encode(link)[..12]), "{shown}");
        }
        let elsewhere = job.open(&keys, VirtualShard::new(4));
        assert!(matches!(elsewhere, Err(UnsealError::Open(_))));
        let other = KeyRing::new(1, Secret::new([8; 32])).unwrap();
        assert!(matches!(job.open(&other, shard), Err(UnsealError::Open(_))));
    }
}
