//! One statement for both engines, and what comes back.

mod closure;
pub(crate) mod conn;
mod options;
mod outcome;
pub(crate) mod row;
mod statement;
mod tx;

pub(crate) use closure::{Attempt, attempt};
pub use closure::{Committed, Work};
pub use conn::Conn;
pub use options::{Isolation, TxOptions};
pub use outcome::{Outcome, TxId, Watermark};
pub use row::{FromColumn, Row};
pub use statement::{Engine, Sql, Statement, Value, sql};
pub(crate) use tx::Hook;
pub use tx::Tx;
