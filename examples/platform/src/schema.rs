//! The platform's own tables.

use maxscale_shard::{Migration, MigrationSet};

/// Projects and their tracks, on the shard of the user who owns them.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    owner: "platform",
    steps: &[
        Migration {
            version: 1,
            name: "projects and tracks",
            postgres: "
            CREATE TABLE project (
                shard_id integer NOT NULL,
                user_id uuid NOT NULL,
                project_id uuid NOT NULL,
                title text NOT NULL,
                created_at bigint NOT NULL,
                PRIMARY KEY (shard_id, user_id, project_id)
            );
            CREATE TABLE track (
                shard_id integer NOT NULL,
                project_id uuid NOT NULL,
                track_id uuid NOT NULL,
                name text NOT NULL,
                url text NOT NULL,
                bytes bigint NOT NULL,
                job_id uuid NOT NULL,
                created_at bigint NOT NULL,
                duration_s double precision,
                peak_dbfs double precision,
                loudness_lufs double precision,
                waveform bytea,
                PRIMARY KEY (shard_id, project_id, track_id)
            )",
            sqlite: "
            CREATE TABLE project (
                shard_id INTEGER NOT NULL,
                user_id BLOB NOT NULL,
                project_id BLOB NOT NULL,
                title TEXT NOT NULL,
                created_at INTEGER NOT NULL,
                PRIMARY KEY (shard_id, user_id, project_id)
            ) WITHOUT ROWID;
            CREATE TABLE track (
                shard_id INTEGER NOT NULL,
                project_id BLOB NOT NULL,
                track_id BLOB NOT NULL,
                name TEXT NOT NULL,
                url TEXT NOT NULL,
                bytes INTEGER NOT NULL,
                job_id BLOB NOT NULL,
                created_at INTEGER NOT NULL,
                duration_s REAL,
                peak_dbfs REAL,
                loudness_lufs REAL,
                waveform BLOB,
                PRIMARY KEY (shard_id, project_id, track_id)
            )",
        },
        Migration {
            version: 2,
            name: "newest projects of all",
            postgres: "CREATE INDEX project_newest ON project (created_at, project_id)",
            sqlite: "CREATE INDEX project_newest ON project (created_at, project_id)",
        },
    ],
};
