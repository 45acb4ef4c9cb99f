//! A request whose deadline passes while PostgreSQL works for it.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use maxscale_core::fact::{Deadline, Facts as _};
use maxscale_core::resilience::DeadlineLayer;
use maxscale_shard::{Database, Engine, ShardError, sql};
use maxscale_tests::eventually;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::support::{LIMIT, Nodes, options};

/// Long enough for a query to begin on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(5);

/// How many queries the server works on.
async fn running(database: &Database) -> i64 {
    let active = "SELECT count(*) AS n FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE '%pg_sleep(600)%'
        AND state = 'active' AND pid <> pg_backend_pid()";
    let rows = database.fetch_all(sql(active)).await.unwrap();
    rows[0].get("n").unwrap()
}

#[tokio::test]
async fn query_of_a_request_that_is_late_is_ended_in_the_server() {
    let nodes = Nodes::fresh(Engine::Postgres, 1).await;
    let mut patient = options();
    patient.statement_timeout = Duration::from_secs(600);
    let database = Database::open("patient", &nodes.urls[0], &patient).unwrap();
    let handler = {
        let database = database.clone();
        service_fn(move |request: Request<()>| {
            let (database, deadline) = (database.clone(), request.fact::<Deadline>().copied());
            async move {
                let mut conn = database.writer().await?;
                conn.set_deadline(deadline.unwrap());
                conn.execute(sql("SELECT pg_sleep(600)")).await?;
                Ok::<_, ShardError>(Response::new(()))
            }
        })
    };
    let service = DeadlineLayer::new(DEADLINE).layer(handler);
    let asked = tokio::spawn(service.oneshot(Request::new(())));
    eventually(LIMIT, async || running(&database).await == 1).await;
    match asked.await.unwrap() {
        Ok(answer) => assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT),
        Err(error) => assert!(matches!(error, ShardError::Deadline { .. }), "{error:?}"),
    }
    eventually(LIMIT, async || running(&database).await == 0).await;
}
