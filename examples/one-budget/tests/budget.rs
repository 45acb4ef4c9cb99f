//! The program, asked in every way that it offers.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use maxscale_tests::{Process, ProcessBuilder, RedisServer, eventually};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

/// How long what has to happen may take on a machine that is busy with others.
const LIMIT: Duration = Duration::from_secs(60);

/// Twelve at once, and one more every 30 s.
const PER_HOUR: &str = "120";

struct Running {
    _process: Process,
    http: String,
    grpc: String,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

// === impl Running ===

impl Running {
    async fn start(set: impl FnOnce(ProcessBuilder) -> ProcessBuilder) -> Self {
        let folder = nowhere();
        let builder = Process::builder(env!("CARGO_BIN_EXE_one-budget"))
            .current_dir(folder)
            .env("MAXSCALE__HTTP__LISTEN", "127.0.0.1:0")
            .env("MAXSCALE__GRPC__LISTEN", "127.0.0.1:0")
            .env("MAXSCALE__LIMITS__PER_HOUR", PER_HOUR);
        let process = set(builder).start();
        let http = process.wait_for_line("http  ", LIMIT).await;
        let grpc = process.wait_for_line("grpc  ", LIMIT).await;
        Self {
            http: http.trim_start_matches("http").trim().to_owned(),
            grpc: grpc.trim_start_matches("grpc").trim().to_owned(),
            _process: process,
        }
    }

    async fn over_http(&self) -> reqwest::Response {
        reqwest::get(&self.http).await.unwrap()
    }

    async fn over_grpc(&self) -> Result<Response<String>, Status> {
        let endpoint = Endpoint::from_shared(self.grpc.clone()).unwrap();
        let mut client = Grpc::<Channel>::new(endpoint.connect().await.unwrap());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/quotes.Quotes/Next");
        let codec = ProstCodec::<(), String>::default();
        client.unary(tonic::Request::new(()), path, codec).await
    }

    async fn socket(&self) -> Socket {
        let url = self.http.replace("http://", "ws://");
        let url = url.replace("/quote", "/talk");
        tokio_tungstenite::connect_async(url).await.unwrap().0
    }
}

/// Where no settings lie.
fn nowhere() -> &'static str {
    env!("CARGO_TARGET_TMPDIR")
}

async fn say(socket: &mut Socket) -> String {
    socket.send(Message::text("next")).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    answer.into_text().unwrap().to_string()
}

fn seconds(text: &str) -> u64 {
    text.parse().unwrap()
}

/// The budget is used up: each way says so in its own words, and when to come back.
async fn assert_denied_over_http(running: &Running) {
    let denied = running.over_http().await;
    assert_eq!(denied.status(), 429);
    let header = |name: &str| denied.headers()[name].to_str().unwrap().to_owned();
    assert!((1..=30).contains(&seconds(&header("retry-after"))));
    assert_eq!(header("ratelimit-policy"), "\"requests\";q=120;w=3600");
    assert!(header("ratelimit").starts_with("\"requests\";r=0;t="));
    assert_eq!(header("content-type"), "application/problem+json");
}

async fn assert_denied_over_grpc(running: &Running) {
    let denied = running.over_grpc().await.unwrap_err();
    assert_eq!(denied.code(), Code::ResourceExhausted);
    let wait = denied.get_details_retry_info().unwrap().retry_delay;
    let wait = wait.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(30));
    let told = denied.metadata();
    let told = |name: &str| told.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(told("ratelimit-policy"), "\"requests\";q=120;w=3600");
    assert!(told("ratelimit").starts_with("\"requests\";r=0;t="));
    assert!(seconds(&told("grpc-retry-pushback-ms")) <= 30_000);
}

#[tokio::test]
async fn what_was_taken_one_way_is_gone_in_all_others() {
    let running = Running::start(|builder| builder).await;
    for taken in 1..=4 {
        let answer = running.over_http().await;
        assert_eq!(answer.status(), 200);
        let told = answer.headers()["ratelimit"].to_str().unwrap();
        assert!(told.starts_with(&format!("\"requests\";r={};", 12 - taken)));
    }
    for taken in 5..=8 {
        let answer = running.over_grpc().await.unwrap();
        let told = answer.metadata().get("ratelimit").unwrap();
        let told = told.to_str().unwrap();
        assert!(told.starts_with(&format!("\"requests\";r={};", 12 - taken)));
    }
    // It opens for the ninth token.
    let mut socket = running.socket().await;
    for _ in 10..=12 {
        assert_eq!(
            say(&mut socket).await,
            "Count what you admit, not what you meant to."
        );
    }

    assert!(say(&mut socket).await.starts_with("wait "));
    assert_denied_over_http(&running).await;
    assert_denied_over_grpc(&running).await;
}

/// A process that stood still does not wait for Redis, and admits its share without: then
/// it is tried once more.
#[tokio::test]
async fn processes_with_one_redis_have_one_budget() {
    eventually(LIMIT, share_a_redis).await;
}

async fn share_a_redis() -> Result<(), Vec<bool>> {
    let redis = RedisServer::start().await;
    let shared = |builder: ProcessBuilder| {
        let secret = "thirty-two characters or more of it";
        let builder = builder.env("MAXSCALE__REDIS__URL", redis.url());
        builder.env("MAXSCALE__KEYS__SECRET", secret)
    };
    let (here, there) = tokio::join!(Running::start(shared), Running::start(shared));
    let mut admitted = Vec::new();
    for _ in 0..7 {
        admitted.push(here.over_http().await.status() == 200);
        admitted.push(there.over_grpc().await.is_ok());
    }
    if admitted != [[true; 12].as_slice(), &[false; 2]].concat() {
        return Err(admitted);
    }
    assert_denied_over_grpc(&here).await;
    assert_denied_over_http(&there).await;
    Ok(())
}
