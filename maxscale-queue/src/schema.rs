use maxscale_shard::{Migration, MigrationSet};

/// The tables of the queue; every node has them.
///
/// Give it to `FleetConfig::migrations`.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    owner: "maxscale-queue",
    steps: &[
        Migration {
            version: 1,
            name: "jobs",
            // The index serves claims: what runs is at its front and bounded by the
            // workers' slots, what is finished is not in it.
            postgres: "
            CREATE TABLE ms_job (
                shard_id integer NOT NULL,
                job_id uuid NOT NULL,
                kind text NOT NULL,
                version integer NOT NULL,
                queue text NOT NULL,
                args text NOT NULL,
                state text NOT NULL CHECK (state IN ('ready', 'running', 'done', 'dead')),
                run_at bigint NOT NULL,
                attempt integer NOT NULL,
                crashes integer NOT NULL,
                max_attempts integer NOT NULL,
                lease_until bigint,
                lease_token bigint NOT NULL,
                worker uuid,
                trace_id text,
                created_at bigint NOT NULL,
                finished_at bigint,
                last_error text,
                result text,
                PRIMARY KEY (shard_id, job_id)
            );
            CREATE INDEX ms_job_due ON ms_job (queue, run_at)
                WHERE state IN ('ready', 'running')",
            sqlite: "
            CREATE TABLE ms_job (
                shard_id INTEGER NOT NULL,
                job_id BLOB NOT NULL,
                kind TEXT NOT NULL,
                version INTEGER NOT NULL,
                queue TEXT NOT NULL,
                args TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('ready', 'running', 'done', 'dead')),
                run_at INTEGER NOT NULL,
                attempt INTEGER NOT NULL,
                crashes INTEGER NOT NULL,
                max_attempts INTEGER NOT NULL,
                lease_until INTEGER,
                lease_token INTEGER NOT NULL,
                worker BLOB,
                trace_id TEXT,
                created_at INTEGER NOT NULL,
                finished_at INTEGER,
                last_error TEXT,
                result TEXT,
                PRIMARY KEY (shard_id, job_id)
            );
            CREATE INDEX ms_job_due ON ms_job (queue, run_at)
                WHERE state IN ('ready', 'running')",
        },
        Migration {
            version: 2,
            name: "trace context of jobs",
            // W3C's `traceparent` and `tracestate`. `trace_id` is written no more; it
            // goes once no older program reads it.
            postgres: "ALTER TABLE ms_job ADD COLUMN trace_context text",
            sqlite: "ALTER TABLE ms_job ADD COLUMN trace_context TEXT",
        },
        Migration {
            version: 3,
            name: "places of jobs, and leases of workers",
            // `ms_job_due` is what older programs claim by, and tells how long jobs wait.
            postgres: "
            ALTER TABLE ms_job ADD COLUMN tenant text, ADD COLUMN slot integer,
                ADD COLUMN rank bigint, ADD COLUMN priority integer NOT NULL DEFAULT 0;
            CREATE INDEX ms_job_place ON ms_job (queue, slot, rank)
                WHERE state = 'ready' AND rank IS NOT NULL AND crashes = 0;
            CREATE INDEX ms_job_suspect ON ms_job (queue, rank)
                WHERE state = 'ready' AND rank IS NOT NULL AND crashes > 0;
            CREATE INDEX ms_job_timed ON ms_job (run_at)
                WHERE state = 'ready' AND rank IS NULL;
            CREATE INDEX ms_job_held ON ms_job (worker) WHERE state = 'running';
            CREATE TABLE ms_worker (
                incarnation uuid PRIMARY KEY,
                lease_until bigint NOT NULL,
                started_at bigint NOT NULL
            )",
            sqlite: "
            ALTER TABLE ms_job ADD COLUMN tenant TEXT;
            ALTER TABLE ms_job ADD COLUMN slot INTEGER;
            ALTER TABLE ms_job ADD COLUMN rank INTEGER;
            ALTER TABLE ms_job ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
            CREATE INDEX ms_job_place ON ms_job (queue, slot, rank)
                WHERE state = 'ready' AND rank IS NOT NULL AND crashes = 0;
            CREATE INDEX ms_job_suspect ON ms_job (queue, rank)
                WHERE state = 'ready' AND rank IS NOT NULL AND crashes > 0;
            CREATE INDEX ms_job_timed ON ms_job (run_at)
                WHERE state = 'ready' AND rank IS NULL;
            CREATE INDEX ms_job_held ON ms_job (worker) WHERE state = 'running';
            CREATE TABLE ms_worker (
                incarnation BLOB PRIMARY KEY NOT NULL,
                lease_until INTEGER NOT NULL,
                started_at INTEGER NOT NULL
            )",
        },
        Migration {
            version: 4,
            name: "ends of jobs, and jobs that are unique",
            postgres: "
            ALTER TABLE ms_job ADD COLUMN expires_at bigint, ADD COLUMN retain bigint,
                ADD COLUMN prune_at bigint;
            CREATE INDEX ms_job_expiry ON ms_job (expires_at)
                WHERE state = 'ready' AND expires_at IS NOT NULL;
            CREATE INDEX ms_job_kept ON ms_job (prune_at) WHERE prune_at IS NOT NULL;
            CREATE TABLE ms_job_unique (
                shard_id integer NOT NULL,
                unique_key bytea NOT NULL,
                job_id uuid NOT NULL,
                until bigint NOT NULL,
                look_at bigint NOT NULL,
                PRIMARY KEY (shard_id, unique_key)
            );
            CREATE INDEX ms_job_unique_look ON ms_job_unique (look_at)",
            sqlite: "
            ALTER TABLE ms_job ADD COLUMN expires_at INTEGER;
            ALTER TABLE ms_job ADD COLUMN retain INTEGER;
            ALTER TABLE ms_job ADD COLUMN prune_at INTEGER;
            CREATE INDEX ms_job_expiry ON ms_job (expires_at)
                WHERE state = 'ready' AND expires_at IS NOT NULL;
            CREATE INDEX ms_job_kept ON ms_job (prune_at) WHERE prune_at IS NOT NULL;
            CREATE TABLE ms_job_unique (
                shard_id INTEGER NOT NULL,
                unique_key BLOB NOT NULL,
                job_id BLOB NOT NULL,
                until INTEGER NOT NULL,
                look_at INTEGER NOT NULL,
                PRIMARY KEY (shard_id, unique_key)
            );
            CREATE INDEX ms_job_unique_look ON ms_job_unique (look_at)",
        },
        Migration {
            version: 5,
            name: "dead letters, tags, queues that stand still, sealed arguments",
            // Older programs leave what is dead among the others; a sweep fetches it.
            postgres: "
            ALTER TABLE ms_job ADD COLUMN dead_reason text,
                ADD COLUMN retain_dead bigint, ADD COLUMN tags text,
                ADD COLUMN sealed_by text;
            CREATE INDEX ms_job_ended_dead ON ms_job (finished_at) WHERE state = 'dead';
            CREATE INDEX ms_job_tagged ON ms_job (created_at)
                WHERE state = 'ready' AND tags IS NOT NULL;
            CREATE TABLE ms_queue_pause (queue text PRIMARY KEY, paused_at bigint NOT NULL);
            CREATE TABLE ms_job_dead (
                shard_id integer NOT NULL,
                job_id uuid NOT NULL,
                kind text NOT NULL,
                version integer NOT NULL,
                queue text NOT NULL,
                args text NOT NULL,
                sealed_by text,
                tenant text,
                slot integer,
                priority integer NOT NULL,
                attempt integer NOT NULL,
                crashes integer NOT NULL,
                max_attempts integer NOT NULL,
                lease_token bigint NOT NULL,
                trace_context text,
                retain bigint,
                created_at bigint NOT NULL,
                dead_at bigint NOT NULL,
                reason text NOT NULL,
                last_error text,
                history text,
                timeout bigint,
                run_at bigint NOT NULL,
                cancel_at bigint,
                checkpoint text,
                steps text,
                progress text,
                tags text,
                retain_dead bigint,
                prune_at bigint,
                PRIMARY KEY (shard_id, job_id)
            );
            CREATE INDEX ms_job_dead_at ON ms_job_dead (dead_at, job_id);
            CREATE INDEX ms_job_dead_old ON ms_job_dead (prune_at) WHERE prune_at IS NOT NULL",
            sqlite: "
            ALTER TABLE ms_job ADD COLUMN dead_reason TEXT;
            ALTER TABLE ms_job ADD COLUMN retain_dead INTEGER;
            ALTER TABLE ms_job ADD COLUMN tags TEXT;
            ALTER TABLE ms_job ADD COLUMN sealed_by TEXT;
            CREATE INDEX ms_job_ended_dead ON ms_job (finished_at) WHERE state = 'dead';
            CREATE INDEX ms_job_tagged ON ms_job (created_at)
                WHERE state = 'ready' AND tags IS NOT NULL;
            CREATE TABLE ms_queue_pause (
                queue TEXT PRIMARY KEY NOT NULL,
                paused_at INTEGER NOT NULL
            );
            CREATE TABLE ms_job_dead (
                shard_id INTEGER NOT NULL,
                job_id BLOB NOT NULL,
                kind TEXT NOT NULL,
                version INTEGER NOT NULL,
                queue TEXT NOT NULL,
                args TEXT NOT NULL,
                sealed_by TEXT,
                tenant TEXT,
                slot INTEGER,
                priority INTEGER NOT NULL,
                attempt INTEGER NOT NULL,
                crashes INTEGER NOT NULL,
                max_attempts INTEGER NOT NULL,
                lease_token INTEGER NOT NULL,
                trace_context TEXT,
                retain INTEGER,
                created_at INTEGER NOT NULL,
                dead_at INTEGER NOT NULL,
                reason TEXT NOT NULL,
                last_error TEXT,
                history TEXT,
                timeout INTEGER,
                run_at INTEGER NOT NULL,
                cancel_at INTEGER,
                checkpoint TEXT,
                steps TEXT,
                progress TEXT,
                tags TEXT,
                retain_dead INTEGER,
                prune_at INTEGER,
                PRIMARY KEY (shard_id, job_id)
            );
            CREATE INDEX ms_job_dead_at ON ms_job_dead (dead_at, job_id);
            CREATE INDEX ms_job_dead_old ON ms_job_dead (prune_at) WHERE prune_at IS NOT NULL",
        },
        Migration {
            version: 6,
            name: "runs of jobs",
            postgres: "
            ALTER TABLE ms_job ADD COLUMN timeout bigint, ADD COLUMN cancel_at bigint,
                ADD COLUMN checkpoint text, ADD COLUMN steps text, ADD COLUMN progress text,
                ADD COLUMN history text;
            CREATE INDEX ms_job_cancelled ON ms_job (cancel_at)
                WHERE state = 'ready' AND cancel_at IS NOT NULL",
            sqlite: "
            ALTER TABLE ms_job ADD COLUMN timeout INTEGER;
            ALTER TABLE ms_job ADD COLUMN cancel_at INTEGER;
            ALTER TABLE ms_job ADD COLUMN checkpoint TEXT;
            ALTER TABLE ms_job ADD COLUMN steps TEXT;
            ALTER TABLE ms_job ADD COLUMN progress TEXT;
            ALTER TABLE ms_job ADD COLUMN history TEXT;
            CREATE INDEX ms_job_cancelled ON ms_job (cancel_at)
                WHERE state = 'ready' AND cancel_at IS NOT NULL",
        },
    ],
};
