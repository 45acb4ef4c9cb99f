use std::sync::Arc;

use maxscale_core::Chain;
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::Tx;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Mail, Mailer, Outbox};
use crate::background::Background;

/// Sends each mail by a task once its transaction is committed. Cheap to clone;
/// clones share their tasks, which end with the last of them.
///
/// A mail that cannot be sent, or that a crash catches, is lost, and its user asks for
/// another one. Where that is too little, an [`Outbox`] of one's own stores a job.
#[derive(Debug)]
pub struct AfterCommit<M> {
    mailer: Arc<M>,
    sending: Arc<Background>,
    places: Arc<Semaphore>,
}

/// As many mails as may wait do.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many mails wait to be sent")]
pub struct OutboxFull;

// === impl AfterCommit ===

impl<M: Mailer> AfterCommit<M> {
    /// How many mails may wait or be sent at once; a flow that needs one more is refused.
    pub const MOST: usize = 1_024;

    /// Sends by `mailer`.
    pub fn new(mailer: M) -> Self {
        Self {
            mailer: Arc::new(mailer),
            sending: Arc::default(),
            places: Arc::new(Semaphore::new(Self::MOST)),
        }
    }

    /// Waits until all mails are sent that were taken until now: for a shutdown.
    ///
    /// # Cancellation
    ///
    /// Dropped, it ends the sending of those that it waits for.
    pub async fn sent(&self) {
        self.sending.done().await;
    }

    fn send(&self, mail: Mail, place: OwnedSemaphorePermit) {
        let mailer = self.mailer.clone();
        self.sending.spawn(async move {
            if let Err(error) = mailer.send(&mail).await {
                let kind = mail.kind().as_str();
                tracing::warn!(kind, error = %Chain(&error), "a mail was not sent");
            }
            drop(place);
        });
    }
}

impl<M: Mailer> Outbox for AfterCommit<M> {
    type Error = OutboxFull;

    async fn put(&self, tx: &mut Tx, mail: Mail) -> Result<(), OutboxFull> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| OutboxFull)?;
        let outbox = self.clone();
        tx.after_commit(move || outbox.send(mail, place));
        Ok(())
    }
}

// By hand: the mailer need not be `Clone`.
impl<M> Clone for AfterCommit<M> {
    fn clone(&self) -> Self {
        Self {
            mailer: self.mailer.clone(),
            sending: self.sending.clone(),
            places: self.places.clone(),
        }
    }
}

impl Classify for OutboxFull {
    fn class(&self) -> Class {
        Class::Unavailable
    }
}
