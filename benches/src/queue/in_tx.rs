//! What a job adds to the transaction that it is enqueued in: one row of the user's,
//! with a job and without.

use std::sync::Arc;

use maxscale_core::BoxError;
use maxscale_measure::{Bar, Op, Plan, Report};
use maxscale_queue::EnqueueOptions;
use maxscale_shard::{Migration, MigrationSet, sql};
use maxscale_tests::PostgresServer;
use tokio::task::JoinSet;

use super::ours::{Noop, Ours};

const CLIENTS: u32 = 16;

const NOTES: MigrationSet = MigrationSet {
    owner: "bench",
    steps: &[Migration {
        version: 1,
        name: "notes",
        postgres: "CREATE TABLE note (shard_id integer NOT NULL, note_id uuid NOT NULL,
            body text NOT NULL, PRIMARY KEY (shard_id, note_id))",
        sqlite: "CREATE TABLE note (shard_id INTEGER NOT NULL, note_id BLOB NOT NULL,
            body TEXT NOT NULL, PRIMARY KEY (shard_id, note_id))",
    }],
};

pub(super) async fn run(plan: &Plan, report: &mut Report) -> Result<(), BoxError> {
    let server = PostgresServer::start().await;
    let mut rounds = plan.compare();
    while !rounds.are_enough() {
        let side = Arc::new(Ours::open(&server, Some(NOTES)).await?);
        let with = |count| write(side.clone(), count, true);
        let without = |count| write(side.clone(), count, false);
        rounds.round(with, without).await?;
    }
    let speed = rounds.speed();
    let name = "queue.enqueue_in_tx_vs_tx";
    report.note(&format!("{name}: {speed}, {CLIENTS} clients"));
    report.bar(Bar {
        name,
        measured: speed.value,
        op: Op::AtLeast,
        target: 0.8,
    });
    Ok(())
}

/// `count` transactions, by all clients together.
async fn write(side: Arc<Ours>, count: u32, with_job: bool) -> Result<(), BoxError> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS.min(count) {
        let side = side.clone();
        clients.spawn(async move {
            for number in (client..count).step_by(CLIENTS as usize) {
                transaction(&side, number, with_job).await?;
            }
            Ok::<_, BoxError>(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    Ok(())
}

async fn transaction(side: &Ours, number: u32, with_job: bool) -> Result<(), BoxError> {
    let note = side.ids.draw_anywhere(side.router.shards());
    let job = Noop::new(number);
    let mut tx = side.router.shard(note)?.begin().await?;
    let insert = sql("INSERT INTO note (shard_id, note_id, body) VALUES ($1, $2, $3)");
    let insert = insert.bind(note.shard()).bind(note).bind(job.text.as_str());
    tx.execute(insert).await?;
    if with_job {
        let options = EnqueueOptions::default();
        side.queue.enqueue_in(&mut tx, &job, options).await?;
    }
    tx.commit().await?;
    Ok(())
}
