//! Fresh databases of either engine, and a fleet on them.

use std::time::Duration;

use maxscale_shard::{
    Database, DatabaseOptions, Engine, Fleet, FleetConfig, Migration, MigrationSet, Row,
    fleet::NodeSpec, sql,
};
use maxscale_tests::PostgresServer;
use tempfile::TempDir;

/// A keyspace small enough to count through.
pub(crate) const SHARDS: u32 = 16;

/// No promise: what is to happen happens by then, on a machine however busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// One table whose rows a test can count, as every node's own migration.
pub(crate) const NOTES: MigrationSet = MigrationSet {
    owner: "test",
    steps: &[Migration {
        version: 1,
        name: "notes",
        postgres: "CREATE TABLE note (n bigint NOT NULL, part bigint NOT NULL, PRIMARY KEY (n, part))",
        sqlite: "CREATE TABLE note (n INTEGER NOT NULL, part INTEGER NOT NULL, PRIMARY KEY (n, part))",
    }],
};

/// Empty databases, gone with this value.
pub(crate) struct Nodes {
    pub(crate) urls: Vec<String>,
    _folder: Option<TempDir>,
    _databases: Vec<maxscale_tests::Database>,
}

impl Nodes {
    pub(crate) async fn fresh(engine: Engine, count: usize) -> Self {
        match engine {
            Engine::Sqlite => {
                let folder = TempDir::new().unwrap();
                let url = |n| format!("sqlite:{}", folder.path().join(format!("{n}.db")).display());
                Self {
                    urls: (1..=count).map(url).collect(),
                    _folder: Some(folder),
                    _databases: Vec::new(),
                }
            }
            Engine::Postgres => {
                let server = PostgresServer::shared().await;
                let mut databases = Vec::new();
                for _ in 0..count {
                    databases.push(server.database().await);
                }
                let mut urls = Vec::new();
                for database in &databases {
                    urls.push(crate::way_to(database).await);
                }
                Self {
                    urls,
                    _folder: None,
                    _databases: databases,
                }
            }
        }
    }

    /// A fleet of `node-1`, `node-2` and so on, in the order of the databases.
    pub(crate) fn config(&self) -> FleetConfig {
        let urls: Vec<&str> = self.urls.iter().map(String::as_str).collect();
        config(&urls)
    }

    /// A handle of its own to the first database.
    pub(crate) async fn database(&self) -> Database {
        let database = Database::open("test", &self.urls[0], &options()).unwrap();
        database.reach().await.unwrap();
        database
    }
}

/// A fleet of `entries`, as [`NodeSpec::parse`] reads them.
pub(crate) fn config(entries: &[&str]) -> FleetConfig {
    let nodes = (1..).zip(entries);
    let nodes = nodes.map(|(at, entry)| NodeSpec::parse(entry, at).unwrap());
    FleetConfig::new(nodes.collect())
        .shards(SHARDS)
        .options(options())
        .wait(LIMIT / 3)
        .migrations(NOTES)
}

/// Few connections, and patience with a busy machine.
pub(crate) fn options() -> DatabaseOptions {
    let mut options = DatabaseOptions::default();
    options.connections = 4;
    options.acquire_timeout = LIMIT / 3;
    options
}

pub(crate) async fn open(config: FleetConfig) -> Fleet {
    Fleet::open(config).await.unwrap()
}

/// A database with the table of [`NOTES`].
pub(crate) async fn noted(engine: Engine) -> (Nodes, Database) {
    let nodes = Nodes::fresh(engine, 1).await;
    let database = nodes.database().await;
    let table =
        "CREATE TABLE note (n bigint NOT NULL, part bigint NOT NULL, PRIMARY KEY (n, part))";
    database.execute(sql(table)).await.unwrap();
    (nodes, database)
}

pub(crate) fn note(n: i64, part: i64) -> maxscale_shard::Statement {
    sql("INSERT INTO note (n, part) VALUES ($1, $2)")
        .bind(n)
        .bind(part)
}

/// Every row of the table, as another client sees it.
pub(crate) async fn notes(nodes: &Nodes) -> Vec<(i64, i64)> {
    let other = nodes.database().await;
    let rows = other
        .fetch_all(sql("SELECT n, part FROM note ORDER BY n, part"))
        .await
        .unwrap();
    let pair = |row: &Row| (row.get("n").unwrap(), row.get("part").unwrap());
    rows.iter().map(pair).collect()
}
