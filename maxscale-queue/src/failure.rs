use std::time::Duration;

use maxscale_core::BoxError;
use maxscale_core::refusal::{Class, Classify};

/// Why an attempt failed, and what that says about the next one.
///
/// Any error becomes one; what knows its class becomes one by [`Failure::of`].
///
/// # Examples: how does a handler heed a server that says when to come back?
///
/// ```
/// use std::time::Duration;
/// use maxscale_core::refusal::Class;
/// use maxscale_queue::{Failure, Outcome};
///
/// let busy = Failure::from("429 from the mail server").class(Class::Limited);
/// let outcome = Outcome::Retry(busy.after(Duration::from_secs(30)));
/// # let _ = outcome;
/// ```
#[derive(Debug)]
#[must_use]
pub struct Failure {
    pub(crate) error: BoxError,
    pub(crate) class: Option<Class>,
    pub(crate) after: Option<Duration>,
}

// === impl Failure ===

impl Failure {
    /// A failure of the error's class.
    pub fn of(error: impl Classify + Send + Sync + 'static) -> Self {
        let class = error.class();
        Self::from(error).class(class)
    }

    /// Says what went wrong: waits may differ by it
    /// ([`backoff_for`](crate::WorkerBuilder::backoff_for)).
    pub const fn class(mut self, class: Class) -> Self {
        self.class = Some(class);
        self
    }

    /// The next attempt starts so long after this one, whatever the backoff. It is an
    /// attempt like others: the last one is the last.
    pub const fn after(mut self, wait: Duration) -> Self {
        self.after = Some(wait);
        self
    }
}

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            class: None,
            after: None,
        }
    }
}
