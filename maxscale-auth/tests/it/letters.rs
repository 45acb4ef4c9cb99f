//! A mailer that keeps what it sends, and accounts that use it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maxscale_auth::{Accounts, AccountsBuilder, Mail, MailKind, Mailer};
use maxscale_core::clock::Clock;
use maxscale_core::limit::{Attempts, Limits, LocalLimits, Log, Quota};
use maxscale_tests::eventually;

use crate::support::LIMIT;

/// What was sent, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Letters(Arc<Mutex<Vec<Mail>>>);

impl Letters {
    pub(crate) fn all(&self) -> Vec<Mail> {
        self.0.lock().unwrap().clone()
    }

    /// Takes the newest mail of a kind to an address, as soon as it is there.
    pub(crate) async fn take(&self, kind: MailKind, to: &str) -> Mail {
        eventually(LIMIT, async || {
            let mut all = self.0.lock().unwrap();
            let at = all
                .iter()
                .rposition(|mail| mail.kind() == kind && mail.to() == to)?;
            Some(all.remove(at))
        })
        .await
    }

    /// The token of that mail's link.
    pub(crate) async fn token(&self, kind: MailKind, to: &str) -> String {
        let mail = self.take(kind, to).await;
        mail.link().split_once('#').unwrap().1.to_owned()
    }
}

impl Mailer for Letters {
    type Error = Infallible;

    async fn send(&self, mail: &Mail) -> Result<(), Infallible> {
        self.0.lock().unwrap().push(mail.clone());
        Ok(())
    }
}

/// Attempts that nobody runs out of; after a failure a client waits a millisecond.
pub(crate) fn unlimited() -> Attempts {
    let log = Log::new(Log::MOST, Duration::from_micros(1)).unwrap();
    Attempts::builder(
        "unlimited",
        &Limits::local(LocalLimits::new(Clock::system())),
    )
    .per_pair(log)
    .per_account(log)
    .per_client(Quota::new(1_000_000, Duration::from_secs(1)).unwrap())
    .backoff(Duration::from_millis(1), Duration::from_millis(1))
    .build()
    .unwrap()
}

/// Finishes accounts that send to `letters`, without limits.
pub(crate) fn build(builder: AccountsBuilder, letters: &Letters) -> Accounts {
    builder
        .base_url("https://app.example")
        .mailer(letters.clone())
        .attempts(unlimited())
        .mails(unlimited())
        .build()
        .unwrap()
}
