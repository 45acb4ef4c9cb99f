use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use crate::meter::span::{SAMPLED, TARGET};

/// Lets through the spans of work that is recorded, and what is inside them: what
/// is not recorded costs the look at a static text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recorded;

/// Ours at the level `debug`; others would tell of every frame that they read.
fn concerns(meta: &Metadata<'_>) -> bool {
    let ours = meta.is_span() && meta.target().starts_with("maxscale");
    *meta.level() <= if ours { Level::DEBUG } else { Level::INFO }
}

impl<S> Filter<S> for Recorded
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, meta: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        if meta.is_span() && meta.target() == SAMPLED {
            return true;
        }
        // The context shows only spans that were let through.
        concerns(meta) && context.lookup_current().is_some()
    }

    fn callsite_enabled(&self, meta: &'static Metadata<'static>) -> Interest {
        let root = meta.is_span() && meta.target().starts_with(TARGET);
        match (root, meta.target() == SAMPLED) {
            (true, true) => Interest::always(),
            (true, false) => Interest::never(),
            (false, _) if concerns(meta) => Interest::sometimes(),
            (false, _) => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }
}
