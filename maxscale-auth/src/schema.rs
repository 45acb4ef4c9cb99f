use maxscale_shard::{Migration, MigrationSet};

/// The tables of accounts and sessions; add them to the fleet's migrations.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    owner: "maxscale-auth",
    steps: &[Migration {
        version: 1,
        name: "users and sessions",
        postgres: "
            CREATE TABLE ms_user (
                shard_id integer NOT NULL,
                user_id uuid NOT NULL,
                email text NOT NULL,
                name text NOT NULL,
                password_hash text NOT NULL,
                created_at bigint NOT NULL,
                PRIMARY KEY (shard_id, user_id)
            );
            CREATE TABLE ms_session (
                shard_id integer NOT NULL,
                user_id uuid NOT NULL,
                session_id uuid NOT NULL,
                secret_hash bytea NOT NULL,
                created_at bigint NOT NULL,
                last_seen bigint NOT NULL,
                PRIMARY KEY (shard_id, user_id, session_id)
            )",
        sqlite: "
            CREATE TABLE ms_user (
                shard_id INTEGER NOT NULL,
                user_id BLOB NOT NULL,
                email TEXT NOT NULL,
                name TEXT NOT NULL,
                password_hash TEXT NOT NULL,
                created_at INTEGER NOT NULL,
                PRIMARY KEY (shard_id, user_id)
            ) WITHOUT ROWID;
            CREATE TABLE ms_session (
                shard_id INTEGER NOT NULL,
                user_id BLOB NOT NULL,
                session_id BLOB NOT NULL,
                secret_hash BLOB NOT NULL,
                created_at INTEGER NOT NULL,
                last_seen INTEGER NOT NULL,
                PRIMARY KEY (shard_id, user_id, session_id)
            ) WITHOUT ROWID",
    }],
};
