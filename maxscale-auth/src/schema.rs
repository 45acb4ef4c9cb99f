use maxscale_shard::{Migration, MigrationSet};

/// The tables of accounts and sessions; add them to the fleet's migrations.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    owner: "maxscale-auth",
    steps: &[
        Migration {
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
        },
        Migration {
            version: 2,
            name: "what a session knows, and what a user's sessions share",
            postgres: "
            ALTER TABLE ms_session
                ADD COLUMN authenticated_at bigint NOT NULL DEFAULT 0,
                ADD COLUMN idle bigint NOT NULL DEFAULT 2592000000000,
                ADD COLUMN ends_at bigint NOT NULL DEFAULT 0,
                ADD COLUMN level bigint NOT NULL DEFAULT 1,
                ADD COLUMN methods bigint NOT NULL DEFAULT 1,
                ADD COLUMN version bigint NOT NULL DEFAULT 1,
                ADD COLUMN actor uuid,
                ADD COLUMN device text NOT NULL DEFAULT '',
                ADD COLUMN previous_hash bytea,
                ADD COLUMN previous_until bigint,
                ADD COLUMN previous_level bigint,
                ADD COLUMN revoked_at bigint,
                ADD COLUMN why bigint;
            UPDATE ms_session
                SET authenticated_at = created_at, ends_at = created_at + 7776000000000;
            CREATE TABLE ms_session_user (
                shard_id integer NOT NULL,
                user_id uuid NOT NULL,
                changes bigint NOT NULL,
                told bigint NOT NULL,
                roles text NOT NULL,
                PRIMARY KEY (shard_id, user_id)
            );
            INSERT INTO ms_session_user (shard_id, user_id, changes, told, roles)
                SELECT DISTINCT shard_id, user_id, 1, 1, '' FROM ms_session",
            sqlite: "
            ALTER TABLE ms_session ADD COLUMN authenticated_at INTEGER NOT NULL DEFAULT 0;
            ALTER TABLE ms_session ADD COLUMN idle INTEGER NOT NULL DEFAULT 2592000000000;
            ALTER TABLE ms_session ADD COLUMN ends_at INTEGER NOT NULL DEFAULT 0;
            ALTER TABLE ms_session ADD COLUMN level INTEGER NOT NULL DEFAULT 1;
            ALTER TABLE ms_session ADD COLUMN methods INTEGER NOT NULL DEFAULT 1;
            ALTER TABLE ms_session ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
            ALTER TABLE ms_session ADD COLUMN actor BLOB;
            ALTER TABLE ms_session ADD COLUMN device TEXT NOT NULL DEFAULT '';
            ALTER TABLE ms_session ADD COLUMN previous_hash BLOB;
            ALTER TABLE ms_session ADD COLUMN previous_until INTEGER;
            ALTER TABLE ms_session ADD COLUMN previous_level INTEGER;
            ALTER TABLE ms_session ADD COLUMN revoked_at INTEGER;
            ALTER TABLE ms_session ADD COLUMN why INTEGER;
            UPDATE ms_session
                SET authenticated_at = created_at, ends_at = created_at + 7776000000000;
            CREATE TABLE ms_session_user (
                shard_id INTEGER NOT NULL,
                user_id BLOB NOT NULL,
                changes INTEGER NOT NULL,
                told INTEGER NOT NULL,
                roles TEXT NOT NULL,
                PRIMARY KEY (shard_id, user_id)
            ) WITHOUT ROWID;
            INSERT INTO ms_session_user (shard_id, user_id, changes, told, roles)
                SELECT DISTINCT shard_id, user_id, 1, 1, '' FROM ms_session",
        },
        Migration {
            version: 3,
            name: "what has ended, and what no copy was told of",
            postgres: UNTOLD_AND_ENDS,
            sqlite: UNTOLD_AND_ENDS,
        },
        Migration {
            version: 4,
            name: "what an account knows of its address, and what mails carry",
            // Accounts from before this step could log in, and still can.
            postgres: "
            ALTER TABLE ms_user
                ADD COLUMN realm integer NOT NULL DEFAULT 0,
                ADD COLUMN status bigint NOT NULL DEFAULT 0,
                ADD COLUMN email_verified_at bigint,
                ADD COLUMN version bigint NOT NULL DEFAULT 1;
            UPDATE ms_user SET email_verified_at = created_at;
            CREATE TABLE ms_mail_token (
                shard_id integer NOT NULL,
                user_id uuid NOT NULL,
                token_hash bytea NOT NULL,
                purpose bigint NOT NULL,
                email text NOT NULL,
                payload text NOT NULL,
                created_at bigint NOT NULL,
                expires_at bigint NOT NULL,
                PRIMARY KEY (shard_id, user_id, token_hash)
            );
            CREATE INDEX ms_mail_token_expired ON ms_mail_token (purpose, expires_at);
            CREATE TABLE ms_former_email (
                shard_id integer NOT NULL,
                user_id uuid NOT NULL,
                email text NOT NULL,
                realm integer NOT NULL,
                kept_until bigint NOT NULL,
                PRIMARY KEY (shard_id, user_id, email)
            );
            CREATE INDEX ms_former_email_due ON ms_former_email (realm, kept_until)",
            sqlite: "
            ALTER TABLE ms_user ADD COLUMN realm INTEGER NOT NULL DEFAULT 0;
            ALTER TABLE ms_user ADD COLUMN status INTEGER NOT NULL DEFAULT 0;
            ALTER TABLE ms_user ADD COLUMN email_verified_at INTEGER;
            ALTER TABLE ms_user ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
            UPDATE ms_user SET email_verified_at = created_at;
            CREATE TABLE ms_mail_token (
                shard_id INTEGER NOT NULL,
                user_id BLOB NOT NULL,
                token_hash BLOB NOT NULL,
                purpose INTEGER NOT NULL,
                email TEXT NOT NULL,
                payload TEXT NOT NULL,
                created_at INTEGER NOT NULL,
                expires_at INTEGER NOT NULL,
                PRIMARY KEY (shard_id, user_id, token_hash)
            ) WITHOUT ROWID;
            CREATE INDEX ms_mail_token_expired ON ms_mail_token (purpose, expires_at);
            CREATE TABLE ms_former_email (
                shard_id INTEGER NOT NULL,
                user_id BLOB NOT NULL,
                email TEXT NOT NULL,
                realm INTEGER NOT NULL,
                kept_until INTEGER NOT NULL,
                PRIMARY KEY (shard_id, user_id, email)
            ) WITHOUT ROWID;
            CREATE INDEX ms_former_email_due ON ms_former_email (realm, kept_until)",
        },
        Migration {
            version: 5,
            name: "accounts that wait for their link",
            postgres: UNVERIFIED,
            sqlite: UNVERIFIED,
        },
        Migration {
            version: 6,
            name: "the keys that sign access tokens",
            postgres: "
            CREATE TABLE ms_signing_keys (
                shard_id integer NOT NULL,
                realm integer NOT NULL,
                version bigint NOT NULL,
                sealed bytea NOT NULL,
                PRIMARY KEY (shard_id, realm)
            )",
            sqlite: "
            CREATE TABLE ms_signing_keys (
                shard_id INTEGER NOT NULL,
                realm INTEGER NOT NULL,
                version INTEGER NOT NULL,
                sealed BLOB NOT NULL,
                PRIMARY KEY (shard_id, realm)
            ) WITHOUT ROWID",
        },
        Migration {
            version: 7,
            name: "API keys",
            postgres: "
            CREATE TABLE ms_api_key (
                shard_id integer NOT NULL,
                user_id uuid NOT NULL,
                key_id uuid NOT NULL,
                lineage uuid NOT NULL,
                name text NOT NULL,
                scopes text NOT NULL,
                quota bigint,
                quota_window bigint,
                created_at bigint NOT NULL,
                expires_at bigint NOT NULL,
                life bigint NOT NULL,
                secret_hash bytea NOT NULL,
                used_at bigint,
                revoked_at bigint,
                PRIMARY KEY (shard_id, user_id, key_id)
            );
            CREATE INDEX ms_api_key_expires ON ms_api_key (expires_at)",
            sqlite: "
            CREATE TABLE ms_api_key (
                shard_id INTEGER NOT NULL,
                user_id BLOB NOT NULL,
                key_id BLOB NOT NULL,
                lineage BLOB NOT NULL,
                name TEXT NOT NULL,
                scopes TEXT NOT NULL,
                quota INTEGER,
                quota_window INTEGER,
                created_at INTEGER NOT NULL,
                expires_at INTEGER NOT NULL,
                life INTEGER NOT NULL,
                secret_hash BLOB NOT NULL,
                used_at INTEGER,
                revoked_at INTEGER,
                PRIMARY KEY (shard_id, user_id, key_id)
            ) WITHOUT ROWID;
            CREATE INDEX ms_api_key_expires ON ms_api_key (expires_at)",
        },
    ],
};

/// Nobody has shown that the address is his, and no password opens the account.
const UNVERIFIED: &str = "
    CREATE INDEX ms_user_unverified ON ms_user (realm, created_at)
        WHERE email_verified_at IS NULL AND password_hash = ''";

const UNTOLD_AND_ENDS: &str = "
    CREATE INDEX ms_session_ends ON ms_session (ends_at);
    CREATE INDEX ms_session_user_untold ON ms_session_user (user_id) WHERE told < changes";
