//! What time it is by each database's clock, in microseconds: the same for all who
//! write a row.

macro_rules! pg_now {
    // Stable within its statement, so that it can bound an index scan.
    () => {
        "(extract(epoch from statement_timestamp()) * 1000000)::bigint"
    };
}

macro_rules! sqlite_now {
    () => {
        "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    };
}
