/// What is kept of a key, by rules of one [ground](super::Rule::ground); times in
/// microseconds since 2025-01-01.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// When the whole burst is available again.
    Rate {
        full: i64,
        /// It was charged for what it had no room for.
        debt: bool,
    },
    Quota {
        /// The newest slice, counted from the beginning of time.
        slice: i64,
        /// What was admitted in it and in those before it.
        counts: Box<[u32]>,
    },
    /// The moments of requests, the oldest first.
    Log(Vec<i64>),
    /// An operator's word.
    Blocked { until: i64 },
}
