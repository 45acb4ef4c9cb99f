//! More invalidations than any buffer holds, at a process that stands still.

use std::convert::Infallible;

use maxscale_cache::remote::LocalRemote;
use maxscale_cache::{Hub, Invalidated};
use maxscale_tests::eventually;
use tokio::runtime::{self, Runtime};

use crate::source::{LIMIT, LONG};

/// More than the store holds for a listener that does not listen.
const BURST: usize = 5_000;

fn runtime() -> Runtime {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn burst_at_a_process_that_stands_still_is_made_up_for() {
    let far = LocalRemote::default();
    let (here, there) = (runtime(), runtime());
    let hub = |runtime: &Runtime| {
        let _inside = runtime.enter();
        Hub::builder().remote(far.clone()).build()
    };
    let (writer, reader) = (hub(&here), hub(&there));
    let (writes, reads) = (writer.cache::<u64>(LONG), reader.cache::<u64>(LONG));
    let ids: Vec<_> = (0..=BURST).map(|n| n.to_string()).collect();
    let all = |now: u64| {
        let reads = reads.clone();
        let ids = ids.clone();
        async move {
            let mut old = 0;
            for id in &ids {
                let load = move || async move { Ok::<_, Infallible>(Some(now)) };
                let value = reads.get_or_load(id, load).await.unwrap().unwrap();
                old += usize::from(*value != now);
            }
            old
        }
    };
    assert_eq!(there.block_on(all(1)), 0);
    // Nothing of the reader runs meanwhile.
    here.block_on(async {
        for id in &ids {
            assert_eq!(writes.invalidate(id).await, Invalidated::Everywhere);
        }
    });
    there.block_on(eventually(LIMIT, async || {
        let old = all(2).await;
        (old == 0).then_some(()).ok_or(old)
    }));
    assert!(reader.stats().gaps > 0, "nothing was lost");
}
