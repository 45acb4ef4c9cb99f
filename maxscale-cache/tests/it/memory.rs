//! What L1 takes of the heap, counted by the allocator.

use std::convert::Infallible;

use maxscale_cache::Hub;
use maxscale_cache::remote::LocalRemote;
use tokio::runtime;

use crate::source::LONG;

const MIB: u64 = 1 << 20;

/// Lengths from 100 bytes to 64 KiB, small ones as many as large ones.
fn length(n: u64) -> usize {
    let shift = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    usize::try_from(100_u64 << (shift % 10)).unwrap_or_default()
}

#[test]
fn churn_over_the_whole_budget_stays_within_it_on_the_heap() {
    println!("{} bytes", churn(8 * MIB, 3_000, 3));
}

#[test]
#[ignore = "the default budget takes a minute; CONTRIBUTING.md has the command"]
fn churn_over_the_default_budget_stays_within_it_on_the_heap() {
    println!("{} bytes", churn(Hub::DEFAULT_L1_BUDGET, 100_000, 3));
}

/// Reads `ids` values again and again, several times what fits. The most bytes
/// that were live at once.
fn churn(budget: u64, ids: u64, rounds: u64) -> u64 {
    // All on this thread, whose allocations are counted.
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        kept = Some(runtime.block_on(async {
            let remote = LocalRemote::new(MIB);
            let hub = Hub::builder().l1_budget(budget).remote(remote).build();
            let cache = hub.cache::<String>(LONG);
            for n in 0..ids * rounds {
                let id = (n * 7 % ids).to_string();
                let load = move || async move { Ok::<_, Infallible>(Some("x".repeat(length(n)))) };
                cache.get_or_load(&id, load).await.unwrap();
            }
            hub
        }));
    });
    drop(kept);
    let most = counted.bytes_max;
    assert!(most <= budget * 115 / 100 + 32 * MIB, "{most}");
    // Else the budget was never reached.
    assert!(most > budget / 2, "{most}");
    most
}
