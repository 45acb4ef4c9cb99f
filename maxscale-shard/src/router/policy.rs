use std::time::Duration;

use crate::sql::Watermark;

/// How fresh what is read has to be, and with that which servers may be asked.
///
/// Where no replica will do, the primary is asked. Writes always go there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadPolicy {
    /// What is there now.
    #[default]
    Primary,
    /// From a replica, if one is known to show everything that was committed
    /// until so long ago: bounded staleness, without comparing two clocks.
    Replica {
        /// How old what is read may be.
        max_lag: Duration,
    },
    /// As [`Replica`](Self::Replica), from the nearest of all servers, of which
    /// the primary may be one.
    Nearest {
        /// How old what is read may be.
        max_lag: Duration,
    },
    /// From a replica that shows what the watermark stands for, so that a user
    /// reads what the same user has written. One that will in a moment is waited
    /// for, up to 25 ms.
    AtLeast(Watermark),
}
