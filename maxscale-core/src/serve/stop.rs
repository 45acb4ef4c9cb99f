//! Who asks for the end, and how often.

use tokio::sync::watch;

use std::sync::Arc;

/// Asks for the end. Clones are one.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<Asked>>);

/// Why the end was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// SIGTERM: whoever sends requests here has yet to learn of the end.
    Terminate,
    /// SIGINT: somebody sits at the keyboard.
    Interrupt,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    first: Option<Cause>,
    again: bool,
}

// === impl Stop ===

impl Stop {
    /// An end that nobody has asked for.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }

    /// Asks for the end; asked again, for an end at once.
    pub fn ask(&self, cause: Cause) {
        self.0.send_modify(|asked| {
            asked.again = asked.first.is_some();
            asked.first.get_or_insert(cause);
        });
    }

    /// Asks at each SIGTERM and SIGINT from now on, as long as the runtime lives.
    ///
    /// # Errors
    ///
    /// Returns the system's error if signals cannot be listened to.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    #[cfg(unix)]
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};

        let (mut term, mut int) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        );
        let stop = self.clone();
        tokio::spawn(async move {
            loop {
                let cause = tokio::select! {
                    Some(()) = term.recv() => Cause::Terminate,
                    Some(()) = int.recv() => Cause::Interrupt,
                    else => return,
                };
                stop.ask(cause);
            }
        });
        Ok(())
    }

    /// Waits until the end is asked for. May be cancelled, and asked by many.
    pub async fn asked(&self) -> Cause {
        let mut asked = self.0.subscribe();
        loop {
            if let Some(cause) = asked.borrow_and_update().first {
                return cause;
            }
            // The sender is held here, so that there is always a next change.
            let _ = asked.changed().await;
        }
    }

    /// Waits until the end is asked for a second time.
    pub async fn asked_again(&self) {
        // The sender is held here, so that this cannot fail.
        let _ = self.0.subscribe().wait_for(|asked| asked.again).await;
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}
