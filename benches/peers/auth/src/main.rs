//! Who is asking, behind an axum router: our layer and tower-sessions' on one Redis.
//!
//! Both sides are asked for the same number of users by as many tasks at once, over
//! one connection to Redis each, and both handlers say who it was. And who is said in an
//! access token, as jsonwebtoken verifies it.

mod jwt;
mod ours;
mod theirs;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use maxscale_core::BoxError;
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_tests::RedisServer;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use ours::{Kept, Ours};
use theirs::Theirs;

const USERS: u32 = 1_024;
const TASKS: u32 = 64;

/// A service, and a cookie for each of its users.
#[derive(Clone)]
struct Side {
    router: Router,
    cookies: Arc<[String]>,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let report = &mut Report::default();
    let server = RedisServer::start().await;
    let ours = Ours::new(&server.url()).await?;
    let theirs = Theirs::new(&server.url()).await?;

    let far = ours.side(Kept::Far).await?;
    let name = "auth.session_vs_tower_sessions";
    compare(&plan, report, name, 1.2, &far, &theirs.side(false)).await?;
    // Both write what shows that somebody is still there: ours once in a while, theirs
    // with each request, as it is made.
    let name = "auth.rolling_vs_always_save";
    compare(&plan, report, name, 2.0, &far, &theirs.side(true)).await?;
    let near = ours.side(Kept::Near).await?;
    let name = "auth.session_l1_vs_tower_sessions";
    compare(&plan, report, name, 5.0, &near, &theirs.side(false)).await?;
    jwt::run(&plan, report).await
}

async fn compare(
    plan: &Plan,
    report: &mut Report,
    name: &str,
    target: f64,
    ours: &Side,
    theirs: &Side,
) -> Result<(), BoxError> {
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let ours = |count| ours.clone().ask_all(count);
        let theirs = |count| theirs.clone().ask_all(count);
        rounds.round(ours, theirs).await?;
    }
    let speed = rounds.speed();
    report.note(&format!("{name}: {speed}, {TASKS} tasks"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target,
    });
    Ok(())
}

// === impl Side ===

impl Side {
    /// `count` requests by all tasks together.
    async fn ask_all(self, count: u32) -> Result<(), BoxError> {
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let side = self.clone();
            tasks.spawn(async move {
                let first = (task * USERS / TASKS) as usize;
                let count = count.div_ceil(TASKS) as usize;
                for cookie in side.cookies.iter().cycle().skip(first).take(count) {
                    side.ask(cookie).await?;
                }
                Ok::<_, BoxError>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    async fn ask(&self, cookie: &str) -> Result<(), BoxError> {
        let request = Request::builder()
            .header(header::COOKIE, cookie)
            .body(Body::empty())?;
        let response = self.router.clone().oneshot(request).await?;
        match response.status() {
            StatusCode::OK => Ok(()),
            // Nobody would be told fast.
            status => Err(format!("answered with {status}").into()),
        }
    }
}
