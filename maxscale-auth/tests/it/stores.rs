//! Every store keeps what all promise.

use maxscale_auth::session::MemorySessions;
use maxscale_auth::testkit;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;
use maxscale_shard::Engine;

use crate::support::Bench;

on_both!(rows_keep_every_promise);

/// Ids of all shards, one after the other.
fn draw(bench: &Bench) -> impl Fn() -> Id + use<'_> {
    let next = std::cell::Cell::new(0);
    move || {
        next.set((next.get() + 1) % bench.router().shards());
        bench.ids.draw(VirtualShard::new(next.get()))
    }
}

async fn rows_keep_every_promise(bench: Bench) {
    testkit::check(bench.rows(), bench.rows(), draw(&bench), bench.clock.now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_every_promise() {
    let bench = Bench::new(Engine::Sqlite).await;
    let store = MemorySessions::new(bench.clock.clone());
    testkit::check(store.clone(), store, draw(&bench), bench.clock.now()).await;
}
