//! What time it is by each database's clock, in microseconds: the same for all who
//! write a row.

macro_rules! pg_now {
    // Stable within its statement, so that it can bound an index scan.
    () => {
        "(extract(epoch from statement_timestamp()) * 1000000)::bigint"
    };
}

// Asked once for all rows of a statement; where it bounds an index, the planner knows
// more of the plain one.
macro_rules! pg_now_once {
    () => {
        concat!("(SELECT ", pg_now!(), ")")
    };
}

macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}
