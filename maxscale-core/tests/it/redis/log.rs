//! The log of one test.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, span};

/// What this crate wrote at WARN and INFO.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Line>>>);

#[derive(Clone, Debug, Default)]
struct Line {
    said: String,
    cause: String,
}

impl Log {
    /// Listens to what this thread says, until both are dropped.
    pub(crate) fn listen(&self) -> (DefaultGuard, Dispatch) {
        // As long as there is a single subscriber, tracing asks the thread that
        // comes first to a line whether anybody listens; that may be another one.
        let second = Dispatch::new(self.clone());
        (tracing::subscriber::set_default(self.clone()), second)
    }

    /// Level and message of each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().map(|line| line.said.clone()).collect()
    }

    /// The first cause that was given.
    #[cfg(feature = "redis-tls")]
    pub(super) fn cause(&self) -> Option<String> {
        let lines = self.0.lock().unwrap();
        let causes = lines.iter().map(|line| line.cause.clone());
        causes.into_iter().find(|cause| !cause.is_empty())
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.said += &format!("{value:?}"),
            "cause" => self.cause = format!("{value:?}"),
            _ => {}
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("maxscale_core") && *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line {
            said: format!("{} ", event.metadata().level()),
            ..Line::default()
        };
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
