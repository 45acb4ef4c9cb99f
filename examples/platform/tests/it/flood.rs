//! Callers who make everything up: what counts them does not grow.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::Method;
use tokio::task::JoinSet;

use crate::service::Service;

/// How often it is asked again at most: each thread keeps some memory back when it first
/// needs it, but what holds the names grows each time.
const ROUNDS: u32 = 4;
/// How many ask at the same time.
const CALLERS: usize = 8;
/// More than the allocator keeps back by chance, and less than 100,000 names.
const FLAT: u64 = 8 << 20;

/// Requests of which each has a path, a method, an address, a trace and an id of its
/// own.
async fn flood(service: &Service, next: &Arc<AtomicU32>, end: u32) {
    let client = reqwest::Client::new();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (client, next) = (client.clone(), next.clone());
        let base = service.base().to_owned();
        callers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= end {
                    return;
                }
                let (method, path) = match n % 5 {
                    0 => (Method::GET, format!("/v1/projects/{n}/tracks/{n}?q={n}")),
                    1 => (Method::POST, format!("/wp-{n}.php")),
                    2 => {
                        let method = format!("M{n}");
                        (method.parse().unwrap(), "/v1/me".to_owned())
                    }
                    3 => (Method::POST, format!("/scan.S{n}/M{n}")),
                    _ => (Method::GET, "/v1/me".to_owned()),
                };
                let mut request = client.request(method, format!("{base}{path}"));
                if n % 2 == 0 {
                    request = request.header("content-type", "application/grpc");
                }
                let parent = format!("00-{:032x}-{:016x}-01", n + 1, n + 1);
                let request = request
                    .header("traceparent", parent)
                    .header("tracestate", format!("v{n}={n}"))
                    .header("x-request-id", format!("r-{n}"))
                    // From one network, as who has it may.
                    .header(
                        "x-forwarded-for",
                        format!("2001:db8:1:2:{:x}:{:x}::", n >> 16, n & 0xffff),
                    );
                request.send().await.unwrap().bytes().await.unwrap();
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

/// All series at `/metrics`, without their values.
async fn series(service: &Service) -> Vec<String> {
    let page = reqwest::get(format!("{}/metrics", service.base())).await;
    let page = page.unwrap().text().await.unwrap();
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let names = samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned());
    names.collect()
}

/// Those that count what callers do.
fn of_callers(series: &[String]) -> Vec<&String> {
    let ours = |name: &&String| name.starts_with("http_") || name.starts_with("rpc_");
    series.iter().filter(ours).collect()
}

/// The bytes of memory that the process holds.
fn memory(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.process.pid()));
    let status = status.unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

async fn made_up(requests: u32) {
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path()).env("MAXSCALE__LOG__FILTER", "warn");
    let builder = builder.env("MAXSCALE__HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
    let service = Service::start(builder).await;
    let next = Arc::new(AtomicU32::new(0));
    let mut end = requests / 4;
    flood(&service, &next, end).await;
    let mut before = series(&service).await;
    let mut grown = u64::MAX;
    for _ in 0..ROUNDS {
        let held = memory(&service);
        next.store(end, Ordering::Relaxed);
        end += requests;
        flood(&service, &next, end).await;
        let after = series(&service).await;
        grown = memory(&service).saturating_sub(held);
        let count = after.len();
        eprintln!("{requests} requests: {count} series, {grown} bytes more");
        assert_eq!(of_callers(&after), of_callers(&before));
        // Background work may have met something for the first time.
        assert!(count < before.len() + 50, "{after:#?}");
        before = after;
        if grown < FLAT {
            break;
        }
    }
    assert!(grown < FLAT, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_urls_methods_and_traces_add_no_series() {
    made_up(2_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute; CONTRIBUTING.md has the command"]
async fn hundred_thousand_made_up_urls_methods_and_traces_add_no_series() {
    made_up(100_000).await;
}
