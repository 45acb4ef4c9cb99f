//! One of two nodes is down at the start, is killed, or hangs.

use std::future::ready;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use maxscale_shard::{Database, DatabaseOptions, sql};
use maxscale_tests::{PostgresServer, ProcessBuilder, eventually};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::client::{Answer, Client, PASSWORD, PLUCK, send};
use crate::load::{Load, Seen, assert_well};
use crate::service::Service;
use crate::two_nodes::{MOST_USERS, home};
use crate::waited::Waited;

/// For refusals: a second for a connection, and what a busy machine adds.
const QUICKLY: Duration = Duration::from_secs(2);
/// For requests of users whose node is well: less than anything that times out.
const SOON: Duration = Duration::from_secs(5);
/// `http.deadline` as it is by default.
const DEADLINE: Duration = Duration::from_secs(10);
/// For what has to happen in the background.
const LIMIT: Duration = Duration::from_secs(60);

/// So many that some are looked up on each node.
const SIGN_UPS: usize = 12;

/// Two nodes, each on a server of its own. The first also holds the catalog.
#[derive(Debug)]
struct Nodes {
    servers: [PostgresServer; 2],
    databases: [maxscale_tests::Database; 2],
}

/// A user with a session and a project.
#[derive(Clone, Debug)]
struct User {
    email: String,
    client: Client,
    project: String,
}

#[tokio::test]
async fn a_node_that_is_down_at_the_start_is_named_and_used_once_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = Nodes::start().await;
    let service = Service::start(nodes.builder(folder.path())).await;
    let [here, away] = users(&service).await;
    service.process.terminate();
    assert!(service.process.wait(LIMIT).await.success());

    nodes.servers[1].stop().await;
    let service = Service::start(nodes.builder(folder.path())).await;
    let stderr = service.process.stderr();
    let named = |line: &String| line.contains("node is not ready") && line.contains("node-2");
    assert!(stderr.iter().any(named), "{stderr:?}");
    let [here, away] = [here.at(&service), away.at(&service)];
    assert_served("first node", &here).await;
    assert_refused("second node", &away, QUICKLY).await;
    let refused = sign_ups(&service).await;

    nodes.servers[1].restart().await;
    service.check_is("node-2", "up", LIMIT).await;
    nodes.assert_well(&service, &[&here, &away], refused).await;
}

#[tokio::test]
async fn users_of_the_other_node_notice_nothing_of_one_that_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = Nodes::start().await;
    let service = Service::start(nodes.builder(folder.path())).await;
    let [here, away] = users(&service).await;
    let load = Load::start([here.client.clone()]);
    load.more(1).await;

    nodes.servers[1].kill().await;
    assert_refused("killed node", &away, QUICKLY).await;
    let refused = sign_ups(&service).await;
    let health = service.check_is("node-2", "down", LIMIT).await;
    assert_eq!(health["status"], "degraded", "{health}");
    service.assert_alive_and_ready().await;

    nodes.servers[1].restart().await;
    load.more(1).await;
    assert_well("other than the killed node", &load.end().await, SOON);
    // It is asked in the background, not by requests.
    service.check_is("node-2", "up", LIMIT).await;
    nodes.assert_well(&service, &[&here, &away], refused).await;
}

/// A database that was restarted between two requests: the connections broke
/// while nobody used them.
#[tokio::test]
async fn nobody_notices_a_node_that_was_restarted_while_it_was_idle() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = Nodes::start().await;
    let builder = nodes.builder(folder.path());
    // The workers would notice before the users do.
    let service = Service::start(builder.env("MAXSCALE__WORKER__CONCURRENCY", "0")).await;
    let [_, away] = users(&service).await;

    // Leaves several connections behind.
    assert_served("second node", &away).await;
    nodes.servers[1].kill().await;
    nodes.servers[1].restart().await;
    // On a slow machine the health check noticed that it was away, and calls are
    // refused until it is asked again.
    eventually(LIMIT, async || {
        away.client.get("/v1/me").await.status == 200
    })
    .await;
    assert_served("restarted node", &away).await;
}

#[tokio::test]
async fn users_of_the_other_node_notice_nothing_of_one_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = Nodes::start().await;
    let service = Service::start(nodes.builder(folder.path())).await;
    let [here, away] = users(&service).await;
    let load = Load::start([here.client.clone()]);
    load.more(1).await;

    nodes.servers[1].pause();
    // More at once than there are connections.
    assert_refused("hanging node", &away, DEADLINE).await;
    let refused = sign_ups(&service).await;
    service.check_is("node-2", "down", LIMIT).await;
    // By now it is known.
    assert_refused("hanging node, later", &away, QUICKLY).await;

    nodes.servers[1].resume();
    service.check_is("node-2", "up", LIMIT).await;
    assert_well("other than the hanging node", &load.end().await, SOON);
    nodes.assert_well(&service, &[&here, &away], refused).await;
}

#[tokio::test]
async fn a_request_to_a_node_that_hangs_ends_at_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let server = PostgresServer::start().await;
    let database = server.database().await;
    // Less than any wait for the database.
    let builder = Service::builder(folder.path())
        .env("MAXSCALE__SHARDS__NODES", database.url())
        .env("MAXSCALE__HTTP__DEADLINE", "700ms");
    let service = Service::start(builder).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;

    server.pause();
    let started = Waited::begin();
    let answer = client.get("/v1/me").await;
    let took = started.so_far();
    server.resume();
    assert_eq!(answer.status, 504, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert!(took < QUICKLY, "{took:?}");
}

// === impl Nodes ===

impl Nodes {
    async fn start() -> Self {
        let (first, second) = tokio::join!(PostgresServer::start(), PostgresServer::start());
        let databases = [first.database().await, second.database().await];
        Self {
            servers: [first, second],
            databases,
        }
    }

    fn builder(&self, folder: &Path) -> ProcessBuilder {
        let nodes = self
            .databases
            .each_ref()
            .map(maxscale_tests::Database::url)
            .join(",");
        Service::builder(folder).env("MAXSCALE__SHARDS__NODES", nodes)
    }
}

// === impl User ===

impl User {
    /// The same user after the platform came up again.
    fn at(self, service: &Service) -> Self {
        Self {
            client: self.client.at(service.base()),
            ..self
        }
    }

    /// Sends one request of each kind, `times` over, all at once.
    async fn ask(&self, times: usize) -> Vec<(Seen, Answer)> {
        let mut asked = JoinSet::new();
        for _ in 0..times {
            let client = &self.client;
            let request = |method, path| client.request(method, path);
            for (what, request) in [
                ("me", request(Method::GET, "/v1/me")),
                (
                    "rename",
                    request(Method::PATCH, "/v1/me").json(&json!({ "name": "Ada" })),
                ),
                ("projects", request(Method::GET, "/v1/projects")),
                (
                    "create",
                    request(Method::POST, "/v1/projects").json(&json!({ "title": "Second" })),
                ),
                ("upload", client.upload(&self.project, PLUCK)),
            ] {
                asked.spawn(async move {
                    let started = Waited::begin();
                    let answer = send(request).await.unwrap();
                    let seen = Seen {
                        what: what.to_owned(),
                        took: started.so_far(),
                        outcome: Ok(answer.status.as_u16()),
                    };
                    (seen, answer)
                });
            }
        }
        asked.join_all().await
    }
}

/// A user on each node.
async fn users(service: &Service) -> [User; 2] {
    let mut users = [None, None];
    for number in 0..MOST_USERS {
        let (client, email) = (service.client(), format!("u{number}@example.com"));
        let user = client.sign_up(&email).await;
        let project = client.project("First recordings").await;
        users[home(&user)] = Some(User {
            email,
            client,
            project,
        });
        if let [Some(first), Some(second)] = &users {
            return [first.clone(), second.clone()];
        }
    }
    panic!("all users are on one node: {users:?}");
}

/// Every request of `user` is refused as the documentation says.
async fn assert_refused(title: &str, user: &User, limit: Duration) {
    let asked = user.ask(4).await;
    let worst = asked.iter().map(|(seen, _)| seen.took).max();
    eprintln!("{title}: refused, the slowest after {worst:?}");
    for (seen, answer) in asked {
        assert_unavailable(&answer);
        assert!(seen.took < limit, "{seen:?}");
    }
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(answer.body["status"], 503, "{answer:?}");
}

/// Every request of `user` is answered with success, and quickly.
async fn assert_served(title: &str, user: &User) {
    let seen: Vec<Seen> = user
        .ask(2)
        .await
        .into_iter()
        .map(|(seen, _)| seen)
        .collect();
    assert_well(title, &seen, SOON);
}

/// Signs up while the second node is away; gives the addresses that were refused.
async fn sign_ups(service: &Service) -> Vec<String> {
    let asked = (0..SIGN_UPS).map(async |number| {
        let email = format!("new-{number}@example.com");
        let body = json!({ "email": email, "password": PASSWORD, "name": "Ada" });
        let started = Waited::begin();
        let answer = service.client().post("/v1/signup", &body).await;
        let took = started.so_far();
        assert!(took < DEADLINE, "{took:?}");
        if answer.status == 201 {
            assert_eq!(home(&answer.text("/user/id")), 0, "{answer:?}");
            return None;
        }
        assert_unavailable(&answer);
        Some(email)
    });
    // Few at once, so that none waits for others' passwords.
    let refused = stream::iter(asked).buffer_unordered(4);
    let refused: Vec<String> = refused.filter_map(ready).collect().await;
    assert!(refused.len() < SIGN_UPS, "nobody could sign up");
    refused
}

impl Nodes {
    /// All is well: nobody waits, users log in, and the addresses that were refused
    /// are free. Only those were refused that are looked up on the second node.
    async fn assert_well(&self, service: &Service, users: &[&User], refused: Vec<String>) {
        for user in users {
            assert_served("afterwards", user).await;
            let body = json!({ "email": user.email, "password": PASSWORD });
            let answer = service.client().post("/v1/login", &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let first = Database::open(
            "first",
            &self.databases[0].url(),
            &DatabaseOptions::default(),
        );
        let owners = sql("SELECT owner FROM ms_claim");
        let mut signed_up = Vec::new();
        for email in refused {
            signed_up.push(service.client().sign_up(&email).await);
        }
        for row in first.unwrap().fetch_all(owners).await.unwrap() {
            let owner = row.get::<Uuid>("owner").unwrap().to_string();
            assert!(!signed_up.contains(&owner), "refused without need");
        }
    }
}
