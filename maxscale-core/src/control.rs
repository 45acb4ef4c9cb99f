//! Pure arithmetic of failure: when to try again, when not to try at all, and
//! how long anybody waits.
//!
//! Each core is a value. What happened, and when, makes a decision and the next
//! value of it: `(state, now, event) → (decision, state)`. Nothing here sleeps,
//! locks, draws or reads a clock; whoever does holds the value.
//!
//! | core | events | decisions |
//! | --- | --- | --- |
//! | [`Breaker`] | a call is wanted, succeeded, failed | go, probe, stop; opens, closes |
//! | [`Outliers`] | a call of one of several ended | that one is left alone, or not |
//! | [`Concurrency`] | calls of a window took so long | how many at a time |
//! | [`Shedding`] | so many came, and waited so long | from which rank on they are shed |
//! | [`Pressure`] | something bounded is so full | what is refused |
//! | [`Rates`] | counts of calls | which rate is too high |
//! | [`Budget`] | a retry is wanted, a call succeeded | allowed or not |
//! | [`Again`] | a call failed | wait so long, or why not |
//! | [`Retries`] | an attempt failed, succeeded | wait, give up, done |
//! | [`TimeLimit`] | a request came, with what it asks for | run, late; until when |

mod again;
mod backoff;
mod breaker;
mod budget;
mod concurrency;
mod deadline;
mod outliers;
mod pressure;
mod rates;
mod shedding;

pub use again::{Again, Declined, FailedCall, Pushback};
pub use backoff::{Attempt, Backoff, Retries, Retry};
pub use breaker::{Breaker, BreakerConfig, End, Event, Permit, Phase, Probing, Until, Verdict};
pub use budget::{Budget, Spending};
pub use concurrency::{Concurrency, ConcurrencyRules, Seen};
pub use deadline::{Admission, TimeLimit};
pub use outliers::{Ejection, OutlierRules, Outliers};
pub use pressure::{Fill, Pressure, PressureRules, Strain};
pub use rates::{Counts, Exceeded, Rates};
pub use shedding::{Offered, Shedding, SheddingRules};
