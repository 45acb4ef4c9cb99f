//! One route layer in three places: under axum, under tonic, around a job.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Extension;
use axum::routing::get;
use http::{Extensions, HeaderName, Request, Response};
use maxscale_core::fact::{Facts, Subject, VirtualShard};
use maxscale_core::id::{Id, KeyspaceTag};
use maxscale_core::refusal::{Asker, Class, Refusal, Refuse};
use maxscale_shard::fleet::NodeSpec;
use maxscale_shard::layer::{ByFact, ByHeader, ByPath, BySubject, RouteKey, RouteLayer};
use maxscale_shard::{
    DatabaseOptions, Engine, Key, Keyspace, NodeId, Router, Shard, SlotState, Topology, sql,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_test::{assert_pending, assert_ready_ok};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::util::MapRequestLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

use crate::support::Nodes;

/// 217 of 1024 by md5, so 9 of 16: on the second node, and frozen in [`frozen`].
const KEY: &str = "42";
const SHARD: u32 = 9;
/// Not frozen.
const OTHER: &str = "43";

fn names() -> Vec<NodeId> {
    let name = |number| NodeId::new(&format!("node-{number}")).unwrap();
    vec![name(1), name(2)]
}

fn map() -> Topology {
    Topology::even(names(), 16).unwrap()
}

fn frozen() -> Topology {
    let frozen = map().change().state(SHARD..SHARD + 1, SlotState::Frozen);
    frozen.build().unwrap()
}

/// A router over files that are opened when first used.
async fn router(vindex: &str, map: Topology) -> (Router, Nodes) {
    let nodes = Nodes::fresh(Engine::Sqlite, 2).await;
    let entries: Vec<_> = (1..)
        .zip(&nodes.urls)
        .map(|(at, url)| NodeSpec::parse(url, at).unwrap())
        .collect();
    let keyspace = Keyspace::new(KeyspaceTag::default(), 16, vindex.parse().unwrap()).unwrap();
    let router = Router::open(keyspace, map, &entries, DatabaseOptions::default()).unwrap();
    for node in router.nodes().iter() {
        node.database().reach().await.unwrap();
    }
    (router, nodes)
}

/// A session layer that believes everything.
fn recognise<B>(mut request: Request<B>) -> Request<B> {
    let session = HeaderName::from_static("x-session");
    if let Some(name) = request.header(&session).map(Subject::new) {
        request.add_fact(name);
    }
    request
}

/// A job as far as layers know one.
struct Job {
    user: String,
    known: Extensions,
}

impl Facts for Job {
    fn fact<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.known.get()
    }

    fn add_fact<T: Clone + Send + Sync + 'static>(&mut self, fact: T) {
        self.known.insert(fact);
    }
}

fn job(user: &str) -> Job {
    let mut job = Job {
        user: user.to_owned(),
        known: Extensions::new(),
    };
    job.add_fact(Subject::new(user));
    job
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Done(u32),
    Snooze,
    Retry(String),
}

impl Refuse for Outcome {
    type Reply = Self;

    fn pass(self) -> Self {
        self
    }

    fn refuse(refusal: Refusal, _asker: &Asker) -> Self {
        match refusal.class() {
            Class::Unavailable => Self::Snooze,
            _ => Self::Retry(refusal.to_string()),
        }
    }
}

async fn run(job: Job) -> Result<Outcome, Infallible> {
    let shard: &Shard = job.fact().expect("the layer has routed it");
    assert_eq!(job.fact(), Some(&shard.id()));
    Ok(Outcome::Done(shard.id().get()))
}

/// Asks the shard that was routed to, and names it.
async fn ask(Extension(shard): Extension<Shard>, fact: Extension<VirtualShard>) -> String {
    assert_eq!(shard.id(), *fact);
    let row = shard.fetch_optional(sql("SELECT $1 + 1 AS n").bind(i64::from(shard.id().get())));
    let next: i64 = row.await.unwrap().unwrap().get("n").unwrap();
    format!("{} of {}", next - 1, shard.node().id())
}

/// Doors behind the same layer, closed when dropped.
struct Doors<K> {
    http: SocketAddr,
    grpc: SocketAddr,
    layer: RouteLayer<K>,
    /// The shards that calls reached.
    called: Arc<Mutex<Vec<VirtualShard>>>,
    _servers: JoinSet<()>,
}

impl<K> Doors<K>
where
    K: Clone + Send + Sync + 'static,
    K: RouteKey<axum::extract::Request> + RouteKey<Request<tonic::body::Body>>,
{
    async fn open(layer: RouteLayer<K>) -> Self {
        let mut servers = JoinSet::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let unrouted = async |shard: Option<Extension<Shard>>| match shard {
            Some(_) => "routed",
            None => "unrouted",
        };
        let app = axum::Router::new()
            .route("/users/{user}/notes", get(ask))
            .route("/", get(ask))
            .route("/anyone", get(unrouted))
            .layer(layer.clone())
            .layer(MapRequestLayer::new(recognise::<axum::body::Body>));
        servers.spawn(async { axum::serve(listener, app).await.unwrap() });

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc = listener.local_addr().unwrap();
        let called = Arc::<Mutex<Vec<_>>>::default();
        let seen = called.clone();
        let (_, health) = tonic_health::server::health_reporter();
        let health = InterceptedService::new(health, move |request: tonic::Request<()>| {
            let shard: Option<&Shard> = request.extensions().get();
            seen.lock().unwrap().extend(shard.map(Shard::id));
            Ok(request)
        });
        let server = tonic::transport::Server::builder()
            .layer(MapRequestLayer::new(recognise::<tonic::body::Body>))
            .layer(layer.clone())
            .add_service(health);
        servers.spawn(async {
            let incoming = TcpListenerStream::new(listener);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            http,
            grpc,
            layer,
            called,
            _servers: servers,
        }
    }

    async fn get(&self, path: &str, headers: &[(&str, &[u8])]) -> reqwest::Response {
        let mut request = reqwest::Client::new().get(format!("http://{}{path}", self.http));
        for (name, value) in headers {
            let value = http::HeaderValue::from_bytes(value).unwrap();
            request = request.header(*name, value);
        }
        request.send().await.unwrap()
    }

    async fn call(&self, name: &'static str, value: &str) -> Result<(), tonic::Status> {
        let server = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        let mut client = HealthClient::new(server.connect().await.unwrap());
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        request.metadata_mut().insert(name, value.parse().unwrap());
        client.check(request).await.map(drop)
    }

    async fn run(&self, job: Job) -> Outcome
    where
        K: RouteKey<Job>,
    {
        let service = self.layer.layer(service_fn(run));
        service.oneshot(job).await.unwrap()
    }
}

/// Status, code and detail of a refusal.
async fn refused(response: reqwest::Response) -> (u16, String, String) {
    let status = response.status().as_u16();
    let length = response.content_length().unwrap();
    assert!(length < 512, "a refusal of {length} bytes");
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = response.json().await.unwrap();
    let text = |member: &str| problem[member].as_str().unwrap().to_owned();
    (status, text("code"), text("detail"))
}

#[tokio::test(flavor = "multi_thread")]
async fn request_call_and_job_of_a_subject_reach_its_shard() {
    let (router, _nodes) = router("md5", map()).await;
    let doors = Doors::open(RouteLayer::new(router, BySubject::new())).await;
    let answer = doors.get("/", &[("x-session", KEY.as_bytes())]).await;
    assert_eq!(answer.text().await.unwrap(), "9 of node-2");
    doors.call("x-session", KEY).await.unwrap();
    assert_eq!(*doors.called.lock().unwrap(), [VirtualShard::new(SHARD)]);
    assert_eq!(doors.run(job(KEY)).await, Outcome::Done(SHARD));
}

#[tokio::test(flavor = "multi_thread")]
async fn request_call_and_job_whose_shard_moves_are_unavailable_for_now() {
    let (router, _nodes) = router("md5", frozen()).await;
    let doors = Doors::open(RouteLayer::new(router, BySubject::new())).await;
    let answer = doors.get("/", &[("x-session", KEY.as_bytes())]).await;
    let (status, code, _) = refused(answer).await;
    assert_eq!((status, &*code), (503, "unavailable"));
    let status = doors.call("x-session", KEY).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(doors.called.lock().unwrap().is_empty());
    assert_eq!(doors.run(job(KEY)).await, Outcome::Snooze);

    let other = doors.get("/", &[("x-session", OTHER.as_bytes())]).await;
    assert_eq!(other.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn request_without_the_fact_is_told_which_layer_to_add() {
    let (router, _nodes) = router("md5", map()).await;
    let doors = Doors::open(RouteLayer::new(router, BySubject::new())).await;
    let (status, code, detail) = refused(doors.get("/", &[]).await).await;
    assert_eq!((status, &*code), (500, "internal"));
    assert!(
        detail.contains("add a layer that knows who asks"),
        "{detail}"
    );
    let status = doors.call("x-other", KEY).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), detail);
    let mut nobody = job(KEY);
    nobody.known.clear();
    let outcome = doors.run(nobody).await;
    assert!(matches!(outcome, Outcome::Retry(why) if why.ends_with(&detail)));
}

#[tokio::test(flavor = "multi_thread")]
async fn request_without_a_key_passes_unrouted_where_that_was_chosen() {
    let (router, _nodes) = router("md5", map()).await;
    let layer = RouteLayer::new(router, BySubject::new()).optional();
    let doors = Doors::open(layer).await;
    let answer = doors.get("/anyone", &[]).await;
    assert_eq!(answer.text().await.unwrap(), "unrouted");
    let answer = doors.get("/anyone", &[("x-session", b"a")]).await;
    assert_eq!(answer.text().await.unwrap(), "routed");
    let (status, ..) = refused(doors.get("/anyone", &[("x-session", b"")]).await).await;
    assert_eq!(status, 400, "a key that is bad is not missing");
    doors.call("x-other", KEY).await.unwrap();
    assert!(doors.called.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn key_in_the_path_is_unescaped() {
    let (router, _nodes) = router("md5", map()).await;
    let layer = RouteLayer::new(router.clone(), ByPath::new("/users/{user}").unwrap());
    let doors = Doors::open(layer).await;
    let answer = doors.get("/users/42/notes?as=7", &[]).await;
    assert_eq!(answer.text().await.unwrap(), "9 of node-2");
    let answer = doors.get("/users/a%2Fb%20%C3%BC/notes", &[]).await;
    let there = router.shard("a/b ü").unwrap();
    let told = format!("{} of {}", there.id(), there.node().id());
    assert_eq!(answer.text().await.unwrap(), told);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_path_is_refused_in_few_words() {
    let (router, _nodes) = router("md5", map()).await;
    let layer = RouteLayer::new(router, ByPath::new("/users/{user}").unwrap());
    let doors = Doors::open(layer).await;
    let (fits, long) = ("a".repeat(1024), "%41".repeat(1025));
    let path = |segment: &str| format!("/users/{segment}/notes");
    assert_eq!(doors.get(&path(&fits), &[]).await.status(), 200);
    for (segment, detail) in [
        ("", "the key is empty"),
        ("%FF%FE", "the key in the path is badly escaped"),
        ("100%", "the key in the path is badly escaped"),
        (&*long, "the key is longer than 1024 bytes"),
        (&"a".repeat(4000), "the key is longer than 1024 bytes"),
    ] {
        let told = refused(doors.get(&path(segment), &[]).await).await;
        assert_eq!(told, (400, "invalid".into(), detail.into()), "{segment:.9}");
    }
    let (status, ..) = refused(doors.get("/anyone", &[]).await).await;
    assert_eq!(status, 404, "this path has no key");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_in_a_header_is_one_line_of_text() {
    let (router, _nodes) = router("md5", map()).await;
    let header = HeaderName::from_static("x-user");
    let doors = Doors::open(RouteLayer::new(router, ByHeader::new(header))).await;
    let answer = doors.get("/", &[("x-user", KEY.as_bytes())]).await;
    assert_eq!(answer.text().await.unwrap(), "9 of node-2");
    doors.call("x-user", KEY).await.unwrap();

    let once = "the header x-user must be sent once, as visible ASCII";
    let long = [b'a'; 1025];
    for (headers, detail) in [
        (&[][..], "the route needs the header x-user"),
        (&[("x-user", &b"\xff"[..])], once),
        (&[("x-user", b"42"), ("x-user", b"43")], once),
        (&[("x-user", b"")], "the key is empty"),
        (&[("x-user", &long)], "the key is longer than 1024 bytes"),
    ] {
        let told = refused(doors.get("/", headers).await).await;
        assert_eq!(told, (400, "invalid".into(), detail.into()));
    }
    let status = doors.call("x-other", KEY).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_is_no_id_is_the_callers_mistake_where_keys_are_ids() {
    let (router, _nodes) = router("id", map()).await;
    let layer = RouteLayer::new(router, ByPath::new("/users/{user}").unwrap());
    let doors = Doors::open(layer).await;
    let (status, code, _) = refused(doors.get("/users/42/notes", &[]).await).await;
    assert_eq!((status, &*code), (400, "invalid"));
}

/// A fact of the user's own.
#[derive(Clone)]
struct Tenant(Id);

#[tokio::test]
async fn key_may_be_in_any_fact_or_wherever_a_function_finds_it() {
    let (router, _nodes) = router("md5", map()).await;
    let by_tenant = ByFact::new(|tenant: &Tenant| tenant.0.into());
    let layer = RouteLayer::new(router.clone(), by_tenant);
    let ids = maxscale_core::id::IdGenerator::new(
        maxscale_core::clock::Clock::system(),
        router.keyspace(),
    );
    let mut tenants = job("nobody");
    tenants.add_fact(Tenant(ids.draw(VirtualShard::new(3))));
    let outcome = layer.layer(service_fn(run)).oneshot(tenants).await;
    assert_eq!(outcome, Ok(Outcome::Done(3)));
    let outcome = layer.layer(service_fn(run)).oneshot(job("nobody")).await;
    let Ok(Outcome::Retry(why)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(why.contains("Tenant"), "{why}");

    let layer = RouteLayer::by(router, |job: &Job| Some(Key::from(&job.user)));
    let outcome = layer.layer(service_fn(run)).oneshot(job(KEY)).await;
    assert_eq!(outcome, Ok(Outcome::Done(SHARD)));
}

type Reply = Response<axum::body::Body>;

#[tokio::test]
async fn refused_request_never_reaches_the_inner_service() {
    let (router, _nodes) = router("md5", map()).await;
    let layer = RouteLayer::new(router, BySubject::new());
    let (mut service, mut inner) =
        mock::spawn_layer::<Request<()>, Reply, _>(ServiceBuilder::new().layer(layer).into_inner());
    inner.allow(2);
    assert_ready_ok!(service.poll_ready());
    let refused = service.call(Request::new(())).await.unwrap();
    assert_eq!(refused.status(), 500);
    let mut next = tokio_test::task::spawn(inner.next_request());
    assert_pending!(next.poll());
}

#[tokio::test]
async fn layer_is_ready_when_the_inner_service_is_and_keeps_its_error() {
    let (router, _nodes) = router("md5", map()).await;
    let layer = RouteLayer::new(router, BySubject::new()).optional();
    let (mut service, mut inner) =
        mock::spawn_layer::<Request<()>, Reply, _>(ServiceBuilder::new().layer(layer).into_inner());
    inner.allow(0);
    assert_pending!(service.poll_ready());
    inner.allow(1);
    assert_ready_ok!(service.poll_ready());
    let answer = async {
        let (_, send) = inner.next_request().await.unwrap();
        send.send_error("broken inside");
    };
    let both = async { tokio::join!(service.call(Request::new(())), answer) };
    let (failed, ()) = timeout(Duration::from_secs(5), both).await.unwrap();
    assert_eq!(failed.unwrap_err().to_string(), "broken inside");
}

/// An error that is neither boxed nor turned into an answer on its way out.
#[derive(Debug, PartialEq)]
struct Broken;

#[tokio::test]
async fn error_of_the_inner_service_keeps_its_type() {
    let (router, _nodes) = router("md5", map()).await;
    let broken = service_fn(async |_: Job| Err::<Outcome, _>(Broken));
    let mut service = RouteLayer::new(router, BySubject::new()).layer(broken);
    let failed: Result<_, Broken> = service.ready().await.unwrap().call(job(KEY)).await;
    assert_eq!(failed, Err(Broken));
}
