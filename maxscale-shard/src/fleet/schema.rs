use crate::migrate::{Migration, MigrationSet};

/// What the catalog holds: the keyspace, its nodes, every map so far, names, and
/// what rollouts did.
pub(super) const CATALOG: MigrationSet = MigrationSet {
    owner: "maxscale-catalog",
    steps: &[
        Migration {
            version: 1,
            name: "keyspace, nodes, maps, memory",
            postgres: "
            CREATE TABLE ms_keyspace (
                only_row integer PRIMARY KEY CHECK (only_row = 1),
                cluster uuid NOT NULL,
                shards bigint NOT NULL
            );
            CREATE TABLE ms_fleet_node (
                position bigint PRIMARY KEY,
                name text NOT NULL UNIQUE
            );
            CREATE TABLE ms_map (
                epoch bigint PRIMARY KEY,
                slots bytea NOT NULL
            );
            CREATE TABLE ms_memory (
                name text PRIMARY KEY,
                value bytea NOT NULL
            )",
            sqlite: "
            CREATE TABLE ms_keyspace (
                only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
                cluster BLOB NOT NULL,
                shards INTEGER NOT NULL
            );
            CREATE TABLE ms_fleet_node (
                position INTEGER PRIMARY KEY,
                name TEXT NOT NULL UNIQUE
            );
            CREATE TABLE ms_map (
                epoch INTEGER PRIMARY KEY,
                slots BLOB NOT NULL
            );
            CREATE TABLE ms_memory (
                name TEXT PRIMARY KEY,
                value BLOB NOT NULL
            )",
        },
        Migration {
            version: 2,
            name: "tag and vindex of the keyspace",
            postgres: "
            ALTER TABLE ms_keyspace ADD COLUMN tag integer NOT NULL DEFAULT 0;
            ALTER TABLE ms_keyspace ADD COLUMN vindex text NOT NULL DEFAULT 'id'",
            sqlite: "
            ALTER TABLE ms_keyspace ADD COLUMN tag integer NOT NULL DEFAULT 0;
            ALTER TABLE ms_keyspace ADD COLUMN vindex text NOT NULL DEFAULT 'id'",
        },
        Migration {
            version: 3,
            name: "maps as text, with their nodes, states and overrides",
            postgres: "ALTER TABLE ms_map ADD COLUMN body text",
            sqlite: "ALTER TABLE ms_map ADD COLUMN body TEXT",
        },
        Migration {
            version: 4,
            name: "rollouts",
            postgres: "
            CREATE TABLE ms_rollout (
                only_row integer PRIMARY KEY CHECK (only_row = 1),
                fence bigint NOT NULL,
                holder text NOT NULL,
                lease_until bigint NOT NULL
            );
            CREATE TABLE ms_rollout_step (
                node text NOT NULL,
                owner text NOT NULL,
                version bigint NOT NULL,
                name text NOT NULL,
                wave bigint NOT NULL,
                holder text,
                done_at bigint NOT NULL,
                PRIMARY KEY (node, owner, version)
            )",
            sqlite: "
            CREATE TABLE ms_rollout (
                only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
                fence INTEGER NOT NULL,
                holder TEXT NOT NULL,
                lease_until INTEGER NOT NULL
            );
            CREATE TABLE ms_rollout_step (
                node TEXT NOT NULL,
                owner TEXT NOT NULL,
                version INTEGER NOT NULL,
                name TEXT NOT NULL,
                wave INTEGER NOT NULL,
                holder TEXT,
                done_at INTEGER NOT NULL,
                PRIMARY KEY (node, owner, version)
            )",
        },
    ],
};

/// What every node holds: which node it is, and its part of claims, sagas and registries.
pub(super) const NODE: MigrationSet = MigrationSet {
    owner: "maxscale-shard",
    steps: &[
        Migration {
            version: 1,
            name: "identity and claims",
            postgres: "
            CREATE TABLE ms_node (
                only_row integer PRIMARY KEY CHECK (only_row = 1),
                cluster uuid NOT NULL,
                name text NOT NULL,
                shards bigint NOT NULL
            );
            CREATE TABLE ms_claim (
                shard_id integer NOT NULL,
                kind text NOT NULL,
                value_hash bytea NOT NULL,
                owner uuid NOT NULL,
                held boolean NOT NULL,
                lease_until bigint NOT NULL,
                PRIMARY KEY (shard_id, kind, value_hash)
            )",
            sqlite: "
            CREATE TABLE ms_node (
                only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
                cluster BLOB NOT NULL,
                name TEXT NOT NULL,
                shards INTEGER NOT NULL
            );
            CREATE TABLE ms_claim (
                shard_id INTEGER NOT NULL,
                kind TEXT NOT NULL,
                value_hash BLOB NOT NULL,
                owner BLOB NOT NULL,
                held INTEGER NOT NULL,
                lease_until INTEGER NOT NULL,
                PRIMARY KEY (shard_id, kind, value_hash)
            ) WITHOUT ROWID",
        },
        Migration {
            version: 2,
            name: "tag and vindex of the keyspace",
            postgres: "
            ALTER TABLE ms_node ADD COLUMN tag integer NOT NULL DEFAULT 0;
            ALTER TABLE ms_node ADD COLUMN vindex text NOT NULL DEFAULT 'id'",
            sqlite: "
            ALTER TABLE ms_node ADD COLUMN tag integer NOT NULL DEFAULT 0;
            ALTER TABLE ms_node ADD COLUMN vindex text NOT NULL DEFAULT 'id'",
        },
        Migration {
            version: 3,
            name: "tokens of claims, and marks of them beside their owners",
            postgres: "
            ALTER TABLE ms_claim ADD COLUMN token uuid;
            UPDATE ms_claim SET token = gen_random_uuid();
            CREATE INDEX ms_claim_open ON ms_claim (kind, lease_until) WHERE NOT held;
            CREATE TABLE ms_claim_mark (
                shard_id integer NOT NULL,
                token uuid NOT NULL,
                kind text NOT NULL,
                value_hash bytea NOT NULL,
                owner uuid NOT NULL,
                state integer NOT NULL,
                due bigint NOT NULL,
                PRIMARY KEY (shard_id, token)
            );
            CREATE INDEX ms_claim_mark_due ON ms_claim_mark (kind, due)",
            sqlite: "
            ALTER TABLE ms_claim ADD COLUMN token BLOB;
            UPDATE ms_claim SET token = randomblob(16);
            CREATE INDEX ms_claim_open ON ms_claim (kind, lease_until) WHERE NOT held;
            CREATE TABLE ms_claim_mark (
                shard_id INTEGER NOT NULL,
                token BLOB NOT NULL,
                kind TEXT NOT NULL,
                value_hash BLOB NOT NULL,
                owner BLOB NOT NULL,
                state INTEGER NOT NULL,
                due INTEGER NOT NULL,
                PRIMARY KEY (shard_id, token)
            ) WITHOUT ROWID;
            CREATE INDEX ms_claim_mark_due ON ms_claim_mark (kind, due)",
        },
        Migration {
            version: 4,
            name: "sagas, their effects, and decisions of two-phase commits",
            postgres: "
            CREATE TABLE ms_saga (
                shard_id integer NOT NULL,
                id uuid NOT NULL,
                name text NOT NULL,
                payload text NOT NULL,
                phase text NOT NULL,
                step bigint NOT NULL,
                failed bigint NOT NULL,
                counted bigint NOT NULL,
                problem text,
                token bigint NOT NULL,
                due bigint NOT NULL,
                PRIMARY KEY (shard_id, id)
            );
            CREATE INDEX ms_saga_due ON ms_saga (phase, due);
            CREATE TABLE ms_saga_effect (
                shard_id integer NOT NULL,
                saga_id uuid NOT NULL,
                step bigint NOT NULL,
                state text NOT NULL,
                PRIMARY KEY (shard_id, saga_id, step)
            );
            CREATE TABLE ms_decision (
                shard_id integer NOT NULL,
                id uuid NOT NULL,
                finished boolean NOT NULL,
                decided_at bigint NOT NULL,
                PRIMARY KEY (shard_id, id)
            );
            CREATE INDEX ms_decision_age ON ms_decision (finished, decided_at)",
            sqlite: "
            CREATE TABLE ms_saga (
                shard_id INTEGER NOT NULL,
                id BLOB NOT NULL,
                name TEXT NOT NULL,
                payload TEXT NOT NULL,
                phase TEXT NOT NULL,
                step INTEGER NOT NULL,
                failed INTEGER NOT NULL,
                counted INTEGER NOT NULL,
                problem TEXT,
                token INTEGER NOT NULL,
                due INTEGER NOT NULL,
                PRIMARY KEY (shard_id, id)
            );
            CREATE INDEX ms_saga_due ON ms_saga (phase, due);
            CREATE TABLE ms_saga_effect (
                shard_id INTEGER NOT NULL,
                saga_id BLOB NOT NULL,
                step INTEGER NOT NULL,
                state TEXT NOT NULL,
                PRIMARY KEY (shard_id, saga_id, step)
            ) WITHOUT ROWID;
            CREATE TABLE ms_decision (
                shard_id INTEGER NOT NULL,
                id BLOB NOT NULL,
                finished INTEGER NOT NULL,
                decided_at INTEGER NOT NULL,
                PRIMARY KEY (shard_id, id)
            );
            CREATE INDEX ms_decision_age ON ms_decision (finished, decided_at)",
        },
        Migration {
            version: 5,
            name: "homes of keys that do not say it themselves",
            postgres: "
            CREATE TABLE ms_registry (
                shard_id integer NOT NULL,
                kind text NOT NULL,
                key_hash bytea NOT NULL,
                home bigint NOT NULL,
                region text,
                revision bigint NOT NULL,
                gone boolean NOT NULL,
                PRIMARY KEY (shard_id, kind, key_hash)
            );
            CREATE INDEX ms_registry_delta ON ms_registry (shard_id, kind, revision);
            CREATE TABLE ms_registry_counter (
                shard_id integer NOT NULL,
                kind text NOT NULL,
                last bigint NOT NULL,
                PRIMARY KEY (shard_id, kind)
            );
            CREATE INDEX ms_registry_counter_kind ON ms_registry_counter (kind, shard_id)",
            sqlite: "
            CREATE TABLE ms_registry (
                shard_id INTEGER NOT NULL,
                kind TEXT NOT NULL,
                key_hash BLOB NOT NULL,
                home INTEGER NOT NULL,
                region TEXT,
                revision INTEGER NOT NULL,
                gone INTEGER NOT NULL,
                PRIMARY KEY (shard_id, kind, key_hash)
            ) WITHOUT ROWID;
            CREATE INDEX ms_registry_delta ON ms_registry (shard_id, kind, revision);
            CREATE TABLE ms_registry_counter (
                shard_id INTEGER NOT NULL,
                kind TEXT NOT NULL,
                last INTEGER NOT NULL,
                PRIMARY KEY (shard_id, kind)
            ) WITHOUT ROWID;
            CREATE INDEX ms_registry_counter_kind ON ms_registry_counter (kind, shard_id)",
        },
    ],
};

/// What a region's shadow of registries holds, in a database of its own.
pub(crate) const SHADOW: MigrationSet = MigrationSet {
    owner: "maxscale-shadow",
    steps: &[Migration {
        version: 1,
        name: "shadows of registries",
        postgres: "
            CREATE TABLE ms_shadow (
                kind text NOT NULL,
                part bigint NOT NULL,
                key_hash bytea NOT NULL,
                home bigint NOT NULL,
                region text,
                revision bigint NOT NULL,
                gone boolean NOT NULL,
                PRIMARY KEY (kind, part, key_hash)
            );
            CREATE TABLE ms_shadow_progress (
                kind text NOT NULL,
                part bigint NOT NULL,
                revision bigint NOT NULL,
                PRIMARY KEY (kind, part)
            );
            CREATE TABLE ms_shadow_pull (
                kind text PRIMARY KEY,
                since bigint NOT NULL
            )",
        sqlite: "
            CREATE TABLE ms_shadow (
                kind TEXT NOT NULL,
                part INTEGER NOT NULL,
                key_hash BLOB NOT NULL,
                home INTEGER NOT NULL,
                region TEXT,
                revision INTEGER NOT NULL,
                gone INTEGER NOT NULL,
                PRIMARY KEY (kind, part, key_hash)
            ) WITHOUT ROWID;
            CREATE TABLE ms_shadow_progress (
                kind TEXT NOT NULL,
                part INTEGER NOT NULL,
                revision INTEGER NOT NULL,
                PRIMARY KEY (kind, part)
            ) WITHOUT ROWID;
            CREATE TABLE ms_shadow_pull (
                kind TEXT PRIMARY KEY,
                since INTEGER NOT NULL
            )",
    }],
};
