//! The auditor finds old values where there are any, and only there.

use std::num::NonZeroU32;
use std::time::Duration;

use maxscale_cache::{Hub, Invalidated};
use maxscale_tests::eventually;
use tokio::time::sleep;

use crate::far::Faulty;
use crate::source::{LONG, Source};

const WAIT: Duration = Duration::from_secs(30);

fn hub(far: &Faulty) -> Hub {
    far.hub().audit(NonZeroU32::MIN).build()
}

#[tokio::test(start_paused = true)]
async fn look_finds_no_old_value_where_there_is_none() {
    let (far, source) = (Faulty::new(), Source::default());
    let hubs = [hub(&far), hub(&far)];
    let [here, there] = [&hubs[0], &hubs[1]].map(|hub| hub.cache::<u64>(LONG));
    assert_eq!(hubs[0].stats().nines(), None);
    // Time passes once both listen, and no sooner.
    sleep(Duration::from_secs(1)).await;
    for value in 1..=5 {
        source.set(value);
        assert_eq!(here.invalidate("k").await, Invalidated::Everywhere);
        for cache in [&here, &there] {
            source.read(cache, "k").await.unwrap();
        }
    }
    for hub in &hubs {
        eventually(WAIT, async || hub.stats().audited >= 10).await;
        let stats = hub.stats();
        assert_eq!((stats.audited, stats.audited_old), (10, 0));
        assert_eq!(stats.nines(), Some(1.0));
    }
}

#[tokio::test(start_paused = true)]
async fn look_finds_what_an_l2_kept_that_confirmed_its_drop() {
    let (far, source) = (Faulty::new(), Source::default());
    let hub = hub(&far);
    let cache = hub.cache::<u64>(LONG);
    source.read(&cache, "k").await.unwrap();
    far.set_lies();
    source.set(1);
    assert_eq!(cache.invalidate("k").await, Invalidated::Everywhere);
    assert_eq!(
        source.read(&cache, "k").await.unwrap(),
        0,
        "L2 has it still"
    );
    eventually(WAIT, async || hub.stats().audited >= 2).await;
    // In both tiers, at both looks.
    assert_eq!(hub.stats().audited_old, 4);
}
