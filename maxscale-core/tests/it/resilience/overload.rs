//! A server under three times the load that it can bear, in a process of its own; the
//! load comes from this one. What it does is held against what the same server did
//! just before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::map_request;
use axum::routing::get;
use maxscale_core::fact::Subject;
use maxscale_core::resilience::{LoadShedder, LoadShedderLayer, Priority};
use maxscale_core::serve::{Server, Serving, Stop};
use maxscale_tests::{Lateness, Process};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::ServiceBuilder;

use crate::serve::wire::{LIMIT, Wire};

/// How many requests the server works on at a time, and how long each takes.
const SLOTS: u32 = 8;
const TAKES: Duration = Duration::from_millis(50);

const LONGEST: Duration = Duration::from_secs(120);

const USERS: u32 = 200;

/// Connections of a client that are free.
type Free = Arc<Mutex<Vec<Wire>>>;

#[derive(Debug)]
struct Answer {
    tier: u8,
    user: u32,
    served: bool,
    took: Duration,
}

/// What the server does without too much load.
#[derive(Debug)]
struct Reference {
    p99: Duration,
    per_second: f64,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the program that the other test starts"]
async fn program_that_sheds() {
    let slots = Arc::new(Semaphore::new(SLOTS as usize));
    let work = async move || {
        let _slot = slots.acquire().await.unwrap();
        sleep(TAKES).await;
        "done"
    };
    let shedder = LoadShedder::builder("app", SLOTS as usize).build().unwrap();
    let layers = ServiceBuilder::new()
        .layer(map_request(known))
        .layer(LoadShedderLayer::new(shedder));
    let router: Router = Router::new()
        .route("/{tier}/{user}", get(work))
        .layer(layers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening {}", listener.local_addr().unwrap());
    let server = Server::builder("main", listener, router).build().unwrap();
    let serving = Serving::builder().server(server).build().unwrap();
    let stop = Stop::new();
    stop.on_signals().unwrap();
    let _ended = timeout(LONGEST, serving.run(&stop)).await;
}

/// What a service knows of its routes, and of who asks.
async fn known(mut request: Request) -> Request {
    let mut segments = request.uri().path().split('/').skip(1);
    let tier = segments.next().and_then(|it| it.parse().ok()).unwrap();
    let subject = Subject::new(segments.next().unwrap());
    request.extensions_mut().insert(subject);
    request.extensions_mut().insert(Priority::of_tier(tier));
    request
}

/// Asks once, on a connection that is free or a new one.
async fn ask(address: SocketAddr, free: Free, due: Instant, tier: u8, user: u32) -> Answer {
    let wire = free.lock().await.pop();
    let mut wire = match wire {
        Some(wire) => wire,
        None => Wire::connect(address).await,
    };
    wire.get(&format!("/{tier}/{user}")).await;
    let head = wire.until("\r\n\r\n").await;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    wire.bytes(length.unwrap().parse().unwrap()).await;
    let took = due.elapsed();
    free.lock().await.push(wire);
    let served = head.starts_with("HTTP/1.1 200");
    Answer {
        tier,
        user,
        served,
        took,
    }
}

/// Requests of all tiers that come whether others were answered or not.
async fn load(address: SocketAddr, free: &Free, per_second: u32, seconds: u32) -> Vec<Answer> {
    let begin = Instant::now();
    let mut asked = JoinSet::new();
    for number in 0..per_second * seconds {
        let tier = match number % 20 {
            0 => 0,
            1..4 => 1,
            4..14 => 2,
            _ => 4,
        };
        let due = begin + Duration::from_secs(1) * number / per_second;
        sleep_until(due).await;
        let user = number.wrapping_mul(7_919) % USERS;
        asked.spawn(ask(address, free.clone(), due, tier, user));
    }
    asked.join_all().await
}

/// How many requests are served a second when there is always one at hand, and no more.
async fn peak(address: SocketAddr, free: &Free) -> f64 {
    let seconds = Duration::from_secs(3);
    let end = Instant::now() + seconds;
    let mut callers = JoinSet::new();
    for user in 0..SLOTS {
        let free = free.clone();
        callers.spawn(async move {
            let mut served = 0_u32;
            while Instant::now() < end {
                ask(address, free.clone(), Instant::now(), 0, user).await;
                served += 1;
            }
            served
        });
    }
    let served: u32 = callers.join_all().await.into_iter().sum();
    f64::from(served) / seconds.as_secs_f64()
}

fn p99(answers: &[Answer]) -> Duration {
    let served = answers.iter().filter(|it| it.served);
    let mut took: Vec<_> = served.map(|it| it.took).collect();
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// The part that was served.
fn success<'a>(answers: impl Iterator<Item = &'a Answer>) -> f64 {
    let (mut served, mut all) = (0_u32, 0_u32);
    for answer in answers {
        served += u32::from(answer.served);
        all += 1;
    }
    f64::from(served) / f64::from(all)
}

/// What is not as it should be under three times the load.
async fn under_load(address: SocketAddr, free: &Free, reference: &Reference) -> Vec<String> {
    const SECONDS: u32 = 6;
    let capacity = SLOTS * 1_000 / u32::try_from(TAKES.as_millis()).unwrap();
    let lateness = Lateness::watch();
    let answers = load(address, free, 3 * capacity, SECONDS).await;
    let of_tier = |tier| success(answers.iter().filter(move |it| it.tier == tier));
    let tiers = [0, 1, 2, 4].map(of_tier);
    let served = u32::try_from(answers.iter().filter(|it| it.served).count()).unwrap();
    let goodput = f64::from(served) / f64::from(SECONDS) / reference.per_second;
    let p99 = p99(&answers);
    let users = (0..USERS).map(|user| {
        let of_user = answers.iter().filter(|it| it.tier == 2 && it.user == user);
        success(of_user)
    });
    let whole = users.filter(|part| !(0.2..0.8).contains(part)).count();
    println!(
        "{reference:?}; served by tier {tiers:.3?}, goodput {goodput:.3}, p99 {p99:?}, \
         {whole} of {USERS} users served whole or not at all, late {:?}",
        lateness.total(),
    );
    let checks = [
        (tiers[0] >= 0.99, "what is critical is served"),
        (
            tiers[1] >= 0.9 && tiers[3] <= 0.2,
            "tiers follow each other",
        ),
        (goodput >= 0.9, "little is wasted"),
        (
            p99 <= 2 * reference.p99 + lateness.total(),
            "nobody waits for long",
        ),
        (whole >= 100, "users are served whole"),
    ];
    let broken = checks.into_iter().filter(|(holds, _)| !holds);
    broken.map(|(_, claim)| claim.to_owned()).collect()
}

/// Of three rounds one is enough: a machine that is busy with something else lets nobody
/// serve what he could a moment ago.
#[tokio::test(flavor = "multi_thread")]
async fn server_under_three_times_the_load_serves_what_matters_and_wastes_little() {
    let this = std::env::current_exe().unwrap();
    let name = "resilience::overload::program_that_sheds";
    let process = Process::builder(this)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .start();
    let line = process.wait_for_line("listening ", LIMIT).await;
    let address = line.rsplit(' ').next().unwrap().parse().unwrap();
    let free = Free::default();
    let mut broken = Vec::new();
    for _ in 0..3 {
        let reference = Reference {
            p99: p99(&load(address, &free, SLOTS * 5, 3).await),
            per_second: peak(address, &free).await,
        };
        let round = under_load(address, &free, &reference).await;
        if round.is_empty() {
            return;
        }
        broken.push(round);
    }
    panic!("{broken:?}");
}
