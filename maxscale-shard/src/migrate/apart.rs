//! Steps that PostgreSQL runs in no transaction, each by itself.
//!
//! What such a step did and its line in the ledger are not stored at once. So
//! after a crash in between the step runs again, and has to bear it.

use super::{LEDGER, LOCK, Step, read, record, shape, tell};
use crate::database::Database;
use crate::error::ShardError;
use crate::sql::{Conn, Sql};

/// The first line of a step that runs by itself.
const MARK: &str = "-- no-transaction";

/// Not waited for: a statement that waits holds up the building of an index,
/// which waits for all that began before it, and so for itself.
const TRY: Sql = Sql::both("SELECT pg_try_advisory_lock(7881706578037858406) AS held");

/// Building an index takes long, and waits for transactions of others.
const NO_TIMEOUTS: Sql = Sql::both(
    "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '600s', false)",
);

/// What drops an index that was not built to its end. Names are quoted by who knows how.
const INVALID: Sql = Sql::both(
    "SELECT format('DROP INDEX CONCURRENTLY IF EXISTS %I', c.relname) AS text
     FROM pg_catalog.pg_index AS x
     JOIN pg_catalog.pg_class AS c ON c.oid = x.indexrelid
     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relname = $1 AND n.nspname = current_schema() AND NOT x.indisvalid",
);

/// A session with settings and a lock that nobody may inherit.
struct Session(Conn);

pub(super) fn marked(text: &str) -> bool {
    let first = text.trim_start().lines().next();
    first.is_some_and(|line| line.trim_end() == MARK)
}

/// What is wrong with a marked text, if anything.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    let body = body(text);
    if body.contains(';') {
        return Err("holds more than one statement, and is to run in no transaction");
    }
    if index(body).is_some_and(|index| !index.bears) {
        return Err("is to run in no transaction, and says no IF NOT EXISTS or IF EXISTS");
    }
    Ok(())
}

/// Runs a marked step, unless another process did meanwhile.
pub(super) async fn run(database: &Database, step: Step) -> Result<Option<Step>, ShardError> {
    if !database.capabilities().await?.session_locks {
        let why = "needs a connection past the pooler: give the node a direct URL";
        return Err(step.failed(database, why, None));
    }
    // Apart from the one that the ledger is written on.
    let mut session = Session(database.background().writer().await?);
    let conn = &mut session.0;
    if !conn.fetch_one(TRY.statement()).await?.get::<bool>("held")? {
        return Err(ShardError::Busy {
            database: database.name().into(),
            source: format!("another process runs {step}").into(),
        });
    }
    conn.execute(NO_TIMEOUTS.statement()).await?;
    let mut tx = database.begin().await?;
    tx.execute(LOCK.statement()).await?;
    tx.execute(LEDGER.statement()).await?;
    tx.execute(shape::RECORD.statement()).await?;
    tx.commit().await?;
    let left = read(conn, database, &[step.set]).await?.pending;
    if left
        .iter()
        .all(|left| left.step.version != step.step.version)
    {
        return Ok(None);
    }
    let index = index(body(step.step.postgres)).map(|index| index.name);
    if let Some(name) = index.as_deref()
        && let Some(row) = conn.fetch_optional(INVALID.statement().bind(name)).await?
    {
        let dropped = conn.run_script(row.get::<String>("text")?).await;
        dropped.map_err(|error| step.refused(database, error))?;
    }
    let before = shape::found(conn).await?;
    let done = conn.run_script(step.step.postgres).await;
    done.map_err(|error| step.refused(database, error))?;
    let mut tx = database.begin().await?;
    tx.execute(LOCK.statement()).await?;
    step.note(&mut tx).await?;
    record(&mut tx, before, index.as_deref()).await?;
    tx.commit().await?;
    tell(database, &[step]);
    Ok(Some(step))
}

/// The index that a statement is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) name: String,
    /// Whether it may be there, or gone, already.
    bears: bool,
}

/// The statement below the mark.
pub(super) fn body(text: &str) -> &str {
    let text = text.trim_start();
    let body = text.strip_prefix(MARK).unwrap_or(text);
    body.trim().trim_end_matches(';').trim_end()
}

/// The index that `body` makes or drops.
pub(super) fn index(body: &str) -> Option<Index> {
    let mut words = body.split_whitespace().peekable();
    let is = |word: &str, other: &str| word.eq_ignore_ascii_case(other);
    words.next_if(|word| is(word, "CREATE") || is(word, "DROP"))?;
    words.next_if(|word| is(word, "UNIQUE"));
    words.next_if(|word| is(word, "INDEX"))?;
    words.next_if(|word| is(word, "CONCURRENTLY"));
    let mut bears = false;
    for word in ["IF", "NOT", "EXISTS"] {
        bears |= words.next_if(|found| is(found, word)).is_some();
    }
    let name = words.next()?;
    let name = match name.strip_prefix('"') {
        Some(quoted) => quoted.trim_end_matches('"').to_owned(),
        None => name.to_ascii_lowercase(),
    };
    Some(Index { name, bears })
}

// === impl Session ===

impl Drop for Session {
    fn drop(&mut self) {
        self.0.close_on_drop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_is_the_first_line() {
        assert!(marked("\n  -- no-transaction\nCREATE INDEX x ON t (a)"));
        assert!(!marked("CREATE TABLE t (a int) -- no-transaction"));
    }

    #[test]
    fn index_is_found_in_its_statement() {
        for (text, name) in [
            (
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS By_n ON t (n)",
                "by_n",
            ),
            (
                "create unique index if not exists \"By_N\" ON t (n)",
                "By_N",
            ),
            ("DROP INDEX CONCURRENTLY IF EXISTS by_n", "by_n"),
        ] {
            let found = index(body(&format!("{MARK}\n{text};")));
            assert_eq!(found.map(|i| i.name).as_deref(), Some(name), "{text}");
        }
        assert_eq!(index("VACUUM t"), None);
    }

    #[test]
    fn step_that_cannot_run_again_is_refused() {
        let marked = |text: &str| check(&format!("{MARK}\n{text}"));
        assert!(marked("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (n);").is_ok());
        assert!(marked("VACUUM t").is_ok());
        assert!(marked("CREATE INDEX CONCURRENTLY i ON t (n)").is_err());
        assert!(marked("VACUUM t; VACUUM u").is_err());
    }
}
