//! The profile for users: nothing is left to a default that matters.

use std::path::Path;
use std::time::Duration;

use maxscale_core::redis::{Command, Redis, RedisConfig};
use maxscale_tests::{Process, ProcessBuilder, RedisServer, eventually};

use crate::client::Client;
use crate::service::{self, Service};
use crate::start_errors::{PLANTED, refused};

const LIMIT: Duration = Duration::from_secs(60);

/// Everything that `prod` asks for, on SQLite files.
fn complete(folder: &Path) -> ProcessBuilder {
    Service::builder(folder)
        .env("MAXSCALE__PROFILE", "prod")
        .env("MAXSCALE__ADMIN__LISTEN", "127.0.0.1:0")
        .env("MAXSCALE__HTTP__PUBLIC_URL", "https://platform.example")
        .env("MAXSCALE__DATA__DIR", "data")
        .env("MAXSCALE__KEYS__SECRET", PLANTED.repeat(3))
        .env("MAXSCALE__MAIL__URL", "file://data/mail")
        .env("MAXSCALE__MAIL__FROM", "no-reply@platform.example")
}

#[tokio::test]
async fn complete_configuration_starts_and_its_cookies_are_secure() {
    let folder = tempfile::tempdir().unwrap();
    let builder = complete(folder.path()).env("MAXSCALE__ACCOUNTS__SIGN_UPS", "open");
    let service = Service::start(builder).await;
    let signed_up = reqwest::Client::new()
        .post(format!("{}/v1/signup", service.base()))
        .json(&serde_json::json!({
            "email": "ada@example.com", "password": "correct horse battery", "name": "Ada",
        }))
        .send();
    let signed_up = signed_up.await.unwrap();
    let cookie = signed_up.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("; Secure"), "{cookie}");
    // What is told to operators is not told to users.
    assert_eq!(service.client().get("/metrics").await.status, 404);
}

#[tokio::test]
async fn sign_up_in_prod_tells_nobody_whether_there_is_an_account() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(complete(folder.path())).await;
    let body = serde_json::json!({
        "email": "ada@example.com", "password": "correct horse battery", "name": "Ada",
    });
    for _ in 0..2 {
        // The second mail to an address waits for a second.
        let told = eventually(LIMIT, async || {
            let told = service.client().post("/v1/signup", &body).await;
            (told.status != 429).then_some(told)
        })
        .await;
        assert_eq!(told.status, 202, "{told:?}");
        assert!(!told.headers.contains_key("set-cookie"), "{told:?}");
    }
}

#[tokio::test]
async fn nothing_set_but_the_profile_tells_all_that_is_missing_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_platform");
    let process = Process::builder(program)
        .current_dir(folder.path())
        .args(["--set", "profile=prod"])
        .start();
    let status = process.wait(LIMIT).await;
    assert_eq!(status.code(), Some(1));
    let told = process.stderr();
    let told: Vec<_> = (told.iter())
        .filter_map(|line| line.strip_prefix("error: "))
        .collect();
    let all = [
        "http.listen",
        "http.public_url",
        "admin.listen",
        "keys.secret",
        "mail.url",
        "mail.from",
    ];
    assert_eq!(
        told,
        all.map(|key| format!("`{key}` has to be set in prod"))
    );
}

/// What makes the complete configuration insecure, and the four parts of the error.
const INSECURE: [(&str, [&str; 4]); 7] = [
    (
        "MAXSCALE__HTTP__PUBLIC_URL=http://platform.example",
        [
            "sessions would travel in the clear in prod",
            "http.public_url = http://platform.example (environment",
            "is not https",
            "put a proxy that ends TLS in front",
        ],
    ),
    (
        "MAXSCALE__KEYS__SECRET=hunterhunterhunterhunterhunterhunter",
        [
            "too easy to guess for prod",
            "keys.secret = *** (environment",
            "fewer than 10 different characters",
            "openssl rand",
        ],
    ),
    (
        "MAXSCALE__SHARDS__NODES=sqlite://a.db,eu=postgres://u:hunter2planted@db/app",
        [
            "spoken to in the clear in prod",
            "shards.nodes = sqlite://a.db,eu=postgres://u:***@db/app (environment",
            "nothing definite of sslmode",
            "end it with ?sslmode=verify-full",
        ],
    ),
    (
        "MAXSCALE__CATALOG__URL=postgres://u:hunter2planted@db/app?sslmode=prefer",
        [
            "spoken to in the clear in prod",
            "catalog.url = postgres://u:***@db/app?sslmode=prefer (environment",
            "nothing definite of sslmode",
            "or with ?sslmode=disable",
        ],
    ),
    (
        "MAXSCALE__MAIL__URL=smtp://u:hunter2planted@mail.example",
        [
            "cannot send mails",
            "mail.url = smtp://u:***@mail.example (environment",
            "would be spoken to without TLS",
            "write it as smtps://",
        ],
    ),
    (
        "MAXSCALE__HTTP__LISTEN=",
        [
            "`http.listen` cannot be used",
            "http.listen =  (environment",
            "the value is empty",
            "set an IP address and a port",
        ],
    ),
    (
        "MAXSCALE__KEYS__SECRET=hunter2planted",
        [
            "cannot use the signing key",
            "keys.secret = *** (environment",
            "14 bytes, at least 32",
            "32 random characters",
        ],
    ),
];

#[tokio::test]
async fn what_is_insecure_in_prod_is_refused() {
    for (setting, parts) in &INSECURE {
        let folder = tempfile::tempdir().unwrap();
        let (name, value) = setting.split_once('=').unwrap();
        refused(setting, complete(folder.path()).env(name, value), parts).await;
        assert!(!folder.path().join("data/catalog.db").exists(), "{setting}");
    }
}

#[tokio::test]
async fn folder_that_nobody_chose_is_refused_in_prod_if_anything_lies_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let unchosen = |why: &str| {
        let what = "nobody has chosen where data lies in prod";
        [what, "data.dir = .maxscale (default)", why, "set data.dir"].map(str::to_owned)
    };
    let builder = || {
        Service::builder(folder.path())
            .env("MAXSCALE__PROFILE", "prod")
            .env("MAXSCALE__ADMIN__LISTEN", "127.0.0.1:0")
            .env("MAXSCALE__HTTP__PUBLIC_URL", "https://platform.example")
            .env("MAXSCALE__KEYS__SECRET", PLANTED.repeat(3))
            .env("MAXSCALE__MAIL__URL", "file://mail")
            .env("MAXSCALE__MAIL__FROM", "no-reply@platform.example")
    };
    let nodes = |builder: ProcessBuilder| builder.env("MAXSCALE__SHARDS__NODES", "sqlite://a.db");
    for (builder, why) in [
        (builder(), "shards.nodes is unset"),
        (nodes(builder()), "objects.url is unset"),
    ] {
        let parts = unchosen(why);
        refused(why, builder, &parts.each_ref().map(|part| part.as_str())).await;
    }
    let objects = format!("file://{}/objects", folder.path().display());
    Service::start(nodes(builder()).env("MAXSCALE__OBJECTS__URL", objects)).await;
}

#[tokio::test]
async fn redis_that_may_evict_counts_is_used_in_dev_and_not_in_prod() {
    let server = RedisServer::start().await;
    let redis = Redis::open(RedisConfig::new(&server.url()).unwrap());
    assert!(redis.wait_ready(LIMIT).await);
    let evict = Command::new("CONFIG").arg("SET").arg("maxmemory-policy");
    redis.command(evict.arg("allkeys-lru")).await.unwrap();

    let (dev, prod) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let with_redis = |builder: ProcessBuilder| builder.env("MAXSCALE__REDIS__URL", server.url());
    let dev = Service::start(with_redis(Service::builder(dev.path()))).await;
    dev.check_is("redis", "up", LIMIT).await;
    let prod = Service::start(with_redis(complete(prod.path()))).await;
    let admin = prod.process.wait_for_line("  health ", LIMIT).await;
    let admin = admin.trim().trim_start_matches("health").trim();
    let admin = Client::new(admin.trim_end_matches("/health"));
    eventually(LIMIT, async || {
        let tree = admin.get("/health").await.body;
        let found = service::check(&tree, "redis");
        let why = found.map(|check| check["error"].to_string());
        let told = why.is_some_and(|why| why.contains("may evict limits"));
        told.then_some(()).ok_or(tree)
    })
    .await;
}
