use tokio::sync::watch;

/// Where servers tell what happens to them.
#[derive(Debug)]
pub(super) struct Board {
    /// A server came, or went, or named another one.
    changed: watch::Sender<()>,
    news: watch::Sender<News>,
    /// Whether messages pass from server to server, as in a cluster.
    relayed: bool,
}

/// What subscriptions have to know of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Counts the times when messages between servers may have been lost.
    pub(super) losses: u64,
    /// Counts the changes of who serves what.
    pub(super) layouts: u64,
    /// The handle was closed.
    pub(super) closed: bool,
}

// === impl Board ===

impl Board {
    pub(super) fn new(relayed: bool) -> Self {
        Self {
            changed: watch::Sender::default(),
            news: watch::Sender::default(),
            relayed,
        }
    }

    pub(super) fn change(&self) {
        self.changed.send_replace(());
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// A server that relayed messages is gone, and some of them with it.
    pub(super) fn lost_a_server(&self) {
        if self.relayed {
            self.news.send_modify(|news| news.losses += 1);
        }
    }

    /// Other servers serve from now on.
    pub(super) fn new_layout(&self) {
        self.change();
        self.news.send_modify(|news| {
            news.layouts += 1;
            news.losses += u64::from(self.relayed);
        });
    }

    pub(super) fn close(&self) {
        self.news.send_modify(|news| news.closed = true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.news.borrow().closed
    }
}
