//! Health checks as metrics.

use std::future::ready;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::health::{Health, Importance, Place};
use maxscale_core::telemetry::Metrics;
use maxscale_tests::eventually;

#[tokio::test]
async fn each_check_is_one_series_however_often_it_is_replaced() {
    let metrics = Metrics::new();
    let health = Health::builder(Clock::system(), "1.2.3")
        .meter(&metrics.meter("test"))
        .build();
    let register = |name, passes: bool| {
        let check = move || ready(if passes { Ok(()) } else { Err("gone".into()) });
        health.register(Place::REDIS, name, Importance::Info, check);
    };
    register("redis", true);
    register("redis", false);
    register("bus", true);

    eventually(Duration::from_secs(10), async || {
        let page = metrics.exposition().unwrap();
        let mut series: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("maxscale_health_up"))
            .collect();
        series.sort_unstable();
        let wanted = [
            r#"maxscale_health_up{check="bus"} 1"#,
            r#"maxscale_health_up{check="redis"} 0"#,
        ];
        if series == wanted { Ok(()) } else { Err(page) }
    })
    .await;
}
