//! Which jobs count as the same, and for how long.

use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Says that there is to be one job of a kind with these arguments on its virtual
/// shard, and what an enqueue of another comes to.
///
/// It holds in whatever transactions jobs are enqueued: the second waits for the
/// first to commit, and is inserted if that rolls back.
///
/// # Examples: how is a document indexed once, by its newest text?
///
/// ```
/// use maxscale_queue::{EnqueueOptions, Unique};
///
/// let once = Unique::by(&["document"]).until_started().replace();
/// let options = EnqueueOptions::default().unique(once);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Unique {
    fields: &'static [&'static str],
    until_started: bool,
    pub(crate) within: Duration,
    pub(crate) replace: bool,
}

/// The job that was there first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    /// It has not come to its end.
    pub(crate) alive: bool,
    /// It never ran.
    pub(crate) untouched: bool,
    /// It was enqueued less than the period ago.
    pub(crate) fresh: bool,
}

// === impl Unique ===

impl Unique {
    /// One job with these arguments, until it has come to its end.
    pub const fn args() -> Self {
        Self::by(&[])
    }

    /// One job with these fields of its arguments alike, until it has come to its end.
    pub const fn by(fields: &'static [&'static str]) -> Self {
        Self {
            fields,
            until_started: false,
            within: Duration::ZERO,
            replace: false,
        }
    }

    /// It may be enqueued again as soon as the first one runs.
    pub const fn until_started(mut self) -> Self {
        self.until_started = true;
        self
    }

    /// Nor may it be enqueued again sooner than this after the first, whatever
    /// became of that.
    pub const fn within(mut self, period: Duration) -> Self {
        self.within = period;
        self
    }

    /// One that waits takes the new arguments, time and priority. One that runs
    /// does not: use it with [`until_started`](Self::until_started).
    pub const fn replace(mut self) -> Self {
        self.replace = true;
        self
    }

    /// Names what is the same. The order of fields in the arguments does not count.
    pub(crate) fn key(&self, kind: &str, args: &Value) -> Vec<u8> {
        let same = match self.fields {
            [] => args.to_string(),
            // What an argument does not have is null in all.
            fields => Value::from_iter(fields.iter().map(|field| args[*field].clone())).to_string(),
        };
        let mut hash = Sha256::new();
        hash.update(kind.len().to_be_bytes());
        hash.update(kind);
        hash.update(same);
        hash.finalize().to_vec()
    }

    /// Whether another one is still refused.
    pub(crate) const fn holds(&self, holder: Holder) -> bool {
        let states = if self.until_started {
            holder.untouched
        } else {
            holder.alive
        };
        states || holder.fresh
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn order_of_fields_does_not_count() {
        let one = serde_json::from_str(r#"{"a":1,"b":2}"#).unwrap();
        let other = serde_json::from_str(r#"{"b":2,"a":1}"#).unwrap();
        assert_eq!(
            Unique::args().key("k", &one),
            Unique::args().key("k", &other)
        );
    }

    #[test]
    fn named_fields_alone_count() {
        let by = Unique::by(&["a"]);
        let key = by.key("k", &json!({ "a": 1, "b": 2 }));
        assert_eq!(key, by.key("k", &json!({ "a": 1, "b": 3 })));
        assert_ne!(key, by.key("k", &json!({ "a": 2, "b": 2 })));
        assert_ne!(key, by.key("other", &json!({ "a": 1 })));
    }

    #[test]
    fn one_that_started_holds_nothing_until_started() {
        let running = Holder {
            alive: true,
            untouched: false,
            fresh: false,
        };
        assert!(Unique::args().holds(running));
        assert!(!Unique::args().until_started().holds(running));
        let fresh = Holder {
            fresh: true,
            ..running
        };
        assert!(Unique::args().until_started().holds(fresh));
    }
}
