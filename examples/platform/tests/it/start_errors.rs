//! A start that cannot be is told to a person in four parts: what failed, which
//! setting and where it came from, why, and what to do. No secret is told.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use maxscale_tests::{Database, PostgresServer, Process, ProcessBuilder, free_port};
use tokio::time::Instant;

use crate::service::Service;

/// Stands wherever a start is given a secret; no output may have it.
pub(crate) const PLANTED: &str = "hunter2planted";

/// A start that waits for nothing is over long before.
const LIMIT: Duration = Duration::from_secs(30);

/// Texts that must be in: `error:`, `where:`, `why:` and `do:`.
type Parts = [&'static str; 4];

/// The text with the secret in its place.
fn filled(text: &str) -> String {
    text.replace("PLANTED", PLANTED)
}

/// Starts the program, and checks what each part of its error says.
pub(crate) async fn refused(case: &str, builder: ProcessBuilder, parts: &[&str; 4]) {
    let process = builder.start();
    let status = process.wait(LIMIT).await;
    let lines = process.lines().join("\n");
    assert_eq!(status.code(), Some(1), "{case}: {lines}");
    assert!(!lines.contains(PLANTED), "{case} tells a secret: {lines}");
    assert!(!lines.contains("panicked"), "{case}: {lines}");

    let told = process.stderr();
    let first = told.iter().position(|line| line.starts_with("error: "));
    let told = told[first.unwrap_or_else(|| panic!("{case}: no error in {lines}"))..].join("\n");
    let mut rest = told.as_str();
    let begins = [
        "error: ",
        "\nwhere: ",
        "\nwhy:   ",
        "\ndo:    ",
        "\nerror: ",
    ];
    for (at, part) in parts.iter().enumerate() {
        let after = rest.strip_prefix(begins[at]);
        let after = after.unwrap_or_else(|| panic!("{case}: no {:?} in {told}", begins[at]));
        let end = after.find(begins[at + 1]).unwrap_or(after.len());
        assert!(after[..end].contains(part), "{case}: no {part:?} in {told}");
        rest = &after[end..];
    }
    // One mistake was made, so one is told.
    assert_eq!(rest, "", "{case}");
}

fn with_file(folder: &Path, text: &str) -> ProcessBuilder {
    fs::write(folder.join("maxscale.toml"), filled(text)).unwrap();
    Service::builder(folder)
}

/// The cases in the files beside this one.
fn cases() -> impl Iterator<Item = (&'static str, [&'static str; 4])> {
    let of_the_feature = if cfg!(feature = "tls") {
        include_str!("start_errors_with_tls.txt")
    } else {
        include_str!("start_errors_without_tls.txt")
    };
    let files = [include_str!("start_errors.txt"), of_the_feature];
    files
        .into_iter()
        .flat_map(|file| file.split("\n\n").skip(1))
        .map(case)
}

fn case(text: &str) -> (&str, [&str; 4]) {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let setting = lines.next().unwrap();
    let parts = ["error: ", "where: ", "why: ", "do: "].map(|name| {
        let line = lines.next().map(str::trim_start);
        let part = line.and_then(|line| line.strip_prefix(name));
        part.unwrap_or_else(|| panic!("{name} is missing in {text}"))
    });
    (setting, parts)
}

#[tokio::test]
async fn mistake_in_a_setting_is_told_in_four_parts() {
    for (setting, parts) in cases() {
        let folder = tempfile::tempdir().unwrap();
        let builder = Service::builder(folder.path());
        let text = filled(setting);
        let builder = match text.split_once('=') {
            Some((name, value)) if !name.starts_with("--set ") => builder.env(name, value),
            _ => builder.args(text.split(' ')),
        };
        refused(setting, builder, &parts).await;
        // What needs no database to be told is told before one is made.
        let made = folder.path().join(".maxscale/catalog.db").exists();
        assert!(!made, "{setting}");
    }
}

#[tokio::test]
async fn mistake_in_the_file_is_told_with_its_line() {
    let cases: [(&str, Parts); 3] = [
        (
            "[keys]\nsecret = \"PLANTED\n",
            [
                "cannot understand the configuration file maxscale.toml",
                "maxscale.toml, line 2",
                "it is not TOML",
                "correct this line",
            ],
        ),
        (
            "[redis]\n\nurl = \"http://u:PLANTED@cache\"\n",
            [
                "`redis.url` cannot be used",
                "redis.url = http://u:***@cache (maxscale.toml, line 3)",
                "scheme is none of redis",
                "starts with redis://",
            ],
        ),
        (
            "[shard]\nnodes = [\"postgres://u:PLANTED@db/app\"]\n",
            [
                "unknown key shard",
                "shard (maxscale.toml, line 1)",
                "the nearest is shards",
                "write shards",
            ],
        ),
    ];
    for (text, parts) in &cases {
        let folder = tempfile::tempdir().unwrap();
        refused(text, with_file(folder.path(), text), parts).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let missing = Service::builder(folder.path()).args(["--config", "etc/none.toml"]);
    let parts = [
        "cannot read the configuration file etc/none.toml",
        "etc/none.toml",
        "no such file",
        "check the path",
    ];
    refused("--config", missing, &parts).await;
}

#[tokio::test]
async fn configured_port_in_use_is_an_error() {
    for (key, variable) in [
        ("http.listen", "MAXSCALE__HTTP__LISTEN"),
        ("admin.listen", "MAXSCALE__ADMIN__LISTEN"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let builder = Service::builder(folder.path()).env(variable, &address);
        let parts = [
            &format!("cannot listen on {address}"),
            &format!("{key} = {address} (environment variable {variable})"),
            "another program listens there",
            "choose another port",
        ];
        refused(key, builder, &parts.map(|part: &str| part)).await;
    }
}

/// Root may write anywhere, so the folders are none that could be made at all.
#[tokio::test]
async fn folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let builder = || Service::builder(folder.path());
    let parts = [
        "cannot use the data folder",
        "data.dir = file/below (environment variable MAXSCALE__DATA__DIR)",
        "file/below is not writable: Not a directory",
        "make the folder writable, or name another one",
    ];
    let below = builder().env("MAXSCALE__DATA__DIR", "file/below");
    refused("data.dir", below, &parts).await;
    let parts = [
        "cannot use the folder of objects",
        "objects.url = file://file/below (environment variable MAXSCALE__OBJECTS__URL)",
        "for objects: Not a directory",
        "make the folder writable, or name another one",
    ];
    let below = builder().env("MAXSCALE__OBJECTS__URL", "file://file/below");
    refused("objects.url", below, &parts).await;
}

#[tokio::test]
async fn second_process_on_a_folder_is_told_who_the_first_is() {
    let folder = tempfile::tempdir().unwrap();
    let first = Service::embedded(folder.path()).await;
    let parts = [
        "cannot use the data folder",
        "data.dir = .maxscale (default)",
        &format!(".maxscale is in use by process {}", first.process.pid()),
        "stop that process",
    ];
    refused("second", Service::builder(folder.path()), &parts).await;
    assert_eq!(first.client().get("/readyz").await.status, 200);
}

#[tokio::test]
async fn database_that_does_not_answer_is_waited_for_and_then_named() {
    let away = format!("postgres://u:{PLANTED}@127.0.0.1:{}/app", free_port());
    let cases: [(&[&str], Parts); 3] = [
        (
            &["MAXSCALE__SHARDS__NODES"],
            [
                "cannot open the databases",
                "shards.nodes = postgres://u:***@127.0.0.1:",
                "the catalog was not reachable within 3s: cannot connect to node-1",
                "start these databases",
            ],
        ),
        (
            &["MAXSCALE__CATALOG__URL"],
            [
                "cannot open the databases",
                "catalog.url = postgres://u:***@127.0.0.1:",
                "the catalog was not reachable within 3s: cannot connect to catalog",
                "start that database",
            ],
        ),
        (
            &["MAXSCALE__SHARDS__NODES", "catalog"],
            [
                "cannot open the databases",
                "shards.nodes = postgres://u:***@127.0.0.1:",
                "a first start needs every node; no answer within 3s from node-1: cannot connect to node-1",
                "start every database of the list",
            ],
        ),
    ];
    for (variables, parts) in &cases {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = Service::builder(folder.path())
            .env("MAXSCALE__STARTUP__WAIT", "3s")
            .env(variables[0], &away);
        if variables.len() > 1 {
            builder = builder.env("MAXSCALE__CATALOG__URL", "sqlite://catalog.db");
        }
        let began = Instant::now();
        refused(&variables.join(" and "), builder, parts).await;
        assert!(began.elapsed() >= Duration::from_secs(3), "{variables:?}");
    }
}

#[tokio::test]
async fn database_that_refuses_is_named_by_its_own_setting() {
    let server = PostgresServer::shared().await;
    let there = server.database().await;
    let gone = there.url().replace(there.name(), "ms_never_created");
    for (key, variable) in [
        ("catalog.url", "MAXSCALE__CATALOG__URL"),
        ("shards.nodes", "MAXSCALE__SHARDS__NODES"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let parts = [
            "cannot open the databases",
            key,
            "database \"ms_never_created\" does not exist",
            "correct its URL",
        ];
        let builder = Service::builder(folder.path()).env(variable, &gone);
        refused(key, builder, &parts).await;
    }
}

#[tokio::test]
async fn other_secret_than_the_first_starts_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = |secret: &str| {
        Service::builder(folder.path()).env("MAXSCALE__KEYS__SECRET", secret.repeat(3))
    };
    let first = Service::start(with(PLANTED)).await;
    first.process.terminate();
    assert!(first.process.wait(LIMIT).await.success());

    let parts = [
        "cannot use the signing key",
        "keys.secret = *** (environment variable MAXSCALE__KEYS__SECRET)",
        "key 1 of this fleet is configured no more",
        "set the secret of the first start again, or list it in keys.others",
    ];
    refused("other", with("hunter3planted"), &parts).await;
    let parts = [
        "cannot use the signing key",
        "keys.secret is not set",
        "is unset, and this fleet was created with one",
        "set the secret of the first start again",
    ];
    refused("unset", Service::builder(folder.path()), &parts).await;
    Service::start(with(PLANTED)).await;
}

#[tokio::test]
async fn other_list_of_nodes_than_the_first_starts_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = |nodes: &str| Service::builder(folder.path()).env("MAXSCALE__SHARDS__NODES", nodes);
    let first = with("sqlite://a.db,sqlite://b.db").arg("migrate").start();
    assert!(first.wait(LIMIT).await.success(), "{:?}", first.lines());

    let list = "list the nodes of the first start";
    let own = "give each node its own database";
    for (nodes, why, action) in [
        (
            "sqlite://a.db",
            "stored are node-1, node-2, configured are node-1; 512 virtual shards from node-2 to node-1 would have to move",
            list,
        ),
        (
            "sqlite://a.db,sqlite://b.db,eu=sqlite://c.db",
            "171 virtual shards from node-2 to eu would have to move",
            list,
        ),
        ("sqlite://b.db,sqlite://a.db", "says that it is node-", own),
        // Two texts, one file.
        (
            "sqlite://a.db,sqlite://./a.db",
            "the database of node-2 says that it is node-1",
            own,
        ),
    ] {
        let place = format!("shards.nodes = {nodes} (environment variable");
        let parts = ["cannot open the databases", &place, why, action];
        refused(nodes, with(nodes), &parts).await;
    }
    let count = with("sqlite://a.db,sqlite://b.db").args(["--set", "shards.count=16"]);
    let parts = [
        "cannot open the databases",
        "shards.count = 16 (set by",
        "1024 virtual shards for ever, 16 are configured",
        "the number of the first start",
    ];
    refused("shards.count", count, &parts).await;
}

#[tokio::test]
async fn database_listed_under_two_names_is_refused_on_its_first_start() {
    let server = PostgresServer::shared().await;
    let database = server.database().await;
    let again = |mark| {
        if database.url().contains('?') {
            format!("&{mark}")
        } else {
            format!("?{mark}")
        }
    };
    let nodes = format!(
        "a={url},b={url}{}",
        again("application_name=b"),
        url = database.url()
    );
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path()).env("MAXSCALE__SHARDS__NODES", nodes);
    let parts = [
        "cannot open the databases",
        "shards.nodes = a=",
        "says that it is",
        "give each node its own database",
    ];
    refused("twice", builder, &parts).await;
}

#[tokio::test]
async fn pending_migrations_are_named_where_they_may_not_run() {
    let server = PostgresServer::shared().await;
    let database: Database = server.database().await;
    let folder = tempfile::tempdir().unwrap();
    let embedded = || Service::builder(folder.path());
    let postgres = || embedded().env("MAXSCALE__SHARDS__NODES", database.url());
    let builders: [&dyn Fn() -> ProcessBuilder; 2] = [&embedded, &postgres];
    for builder in builders {
        let checked = || builder().env("MAXSCALE__MIGRATE", "check");
        let parts = [
            "cannot open the databases",
            "migrate = check (environment variable MAXSCALE__MIGRATE)",
            "catalog has pending migrations: maxscale-catalog/1",
            "run the command `migrate`",
        ];
        refused("check", checked(), &parts).await;

        let migrate: Process = checked().arg("migrate").start();
        assert!(migrate.wait(LIMIT).await.success(), "{:?}", migrate.lines());
        Service::start(checked()).await;
    }
}

#[tokio::test]
async fn migrate_command_names_the_nodes_that_it_could_not_reach() {
    let folder = tempfile::tempdir().unwrap();
    let database = PostgresServer::shared().await.database().await;
    let migrate = |eu: &str| {
        let nodes = format!("sqlite://a.db,eu={eu}");
        Service::builder(folder.path())
            .env("MAXSCALE__STARTUP__WAIT", "3s")
            .env("MAXSCALE__SHARDS__NODES", nodes)
            .arg("migrate")
    };
    let patient = migrate(&database.url()).env("MAXSCALE__STARTUP__WAIT", "30s");
    let first = patient.start();
    assert!(first.wait(LIMIT).await.success(), "{:?}", first.lines());
    let away = format!("postgres://u:{PLANTED}@127.0.0.1:{}/app", free_port());
    let parts = [
        "cannot migrate every node",
        "shards.nodes = sqlite://a.db,eu=postgres://u:***@",
        "no step was run, for eu: cannot connect to eu",
        "run the command `migrate` again",
    ];
    refused("migrate", migrate(&away), &parts).await;
}
