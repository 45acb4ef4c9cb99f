//! A driver that is killed (`kill -9`) at each of its awaits in turn.

use maxscale_core::id::Id;
use maxscale_shard::Engine;
use maxscale_shard::saga::Phase;

use super::purses::{Bench, PURSES, START, sagas};
use crate::dropped::cut;
use crate::killed::{kill_self, order, was_killed};
use crate::support::{config, open};

on_both!(saga_killed_at_any_await_is_recovered);

const ORDER: &str = "MAXSCALE_TEST_SAGA";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that is killed; started by the tests of this module"]
async fn worker() {
    // Run by name with the other long ones, it has nothing to do.
    let Some(order) = order(ORDER) else { return };
    let (polls, id, from, first, second): (u64, String, String, String, String) =
        serde_json::from_str(&order).unwrap();
    let fleet = open(config(&[&first, &second]).migrations(PURSES)).await;
    let from: Id = from.parse().unwrap();
    let shard = fleet.router().shard(from).unwrap();
    let sagas = sagas(&fleet);
    let run = sagas.run(&shard, id.parse().unwrap());
    if cut(polls, true, run).await.is_none() {
        kill_self();
    }
}

async fn saga_killed_at_any_await_is_recovered(engine: Engine) {
    let bench = Bench::new(engine).await;
    let sagas = sagas(&bench.fleet);
    let (mut runs, mut given) = (0, 0);
    // On a busy machine answers come in few polls: then it is done once more.
    while runs <= 4 {
        for polls in 1_u64.. {
            runs += 1;
            let mut gift = bench.gift(1);
            let refused = polls.is_multiple_of(2);
            if refused {
                gift.to = bench.ids.draw(gift.to.shard());
            }
            bench.begin(&gift).await;
            let [first, second] = [0, 1].map(|at: usize| bench.nodes.urls[at].clone());
            let order = (
                polls,
                gift.id.to_string(),
                gift.from.to_string(),
                first,
                second,
            );
            let order = serde_json::to_string(&order).unwrap();
            let killed = was_killed("saga::killed::worker", (ORDER, order)).await;

            bench.recovered(&sagas).await;
            let end = sagas.phase(&bench.home(&gift), gift.id).await.unwrap();
            given += i64::from(!refused);
            let expected = if refused {
                Phase::Compensated
            } else {
                Phase::Done
            };
            assert_eq!(end, expected, "killed after {polls} polls");
            if !killed && refused {
                break;
            }
        }
    }
    assert!(runs > 4, "{runs}");
    let held = bench.held(&bench.gift(0)).await;
    assert_eq!(held, (START - given, START + given));
}
