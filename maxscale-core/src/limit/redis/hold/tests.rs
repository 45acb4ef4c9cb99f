use std::collections::BTreeMap;

use maxscale_tests::RedisServer;

use super::super::tests::{Draw, limits};
use super::*;

/// What the script computes: holder, and until when it has its place.
#[derive(Debug, Default)]
struct Model(BTreeMap<String, i64>);

impl Model {
    fn hold(&mut self, places: &Places<'_>, holders: &[String], now: i64) -> Held {
        let lease = micros(places.lease);
        self.0.retain(|_, until| *until > now);
        for (holder, until) in &mut self.0 {
            let own: i64 = holder.split_once(':').unwrap().0.parse().unwrap();
            if *until > now + lease {
                *until = (*until).min(now + own);
            }
        }
        let kept = holders.iter().map(|holder| {
            let holder = places.holder(holder);
            let most = usize::try_from(places.most).unwrap();
            let kept = self.0.contains_key(&holder) || self.0.len() < most;
            if kept {
                self.0.insert(holder, now + lease);
            }
            kept
        });
        let kept = kept.collect();
        let next = self.0.values().min().map_or(0, |until| until - now);
        Held {
            wait: Duration::from_micros(next.try_into().unwrap()),
            kept,
        }
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap()
}

impl RedisLimits {
    async fn stored(&self, places: &Places<'_>) -> BTreeMap<String, i64> {
        let all = Command::new("ZRANGE").key(self.places(places)).arg(0);
        let all = self.redis.command(all.arg(-1).arg("WITHSCORES")).await;
        let all = all.unwrap().into_array().unwrap().into_iter();
        let all = all.map(|it| String::from_utf8(it.into_bytes().unwrap().into()).unwrap());
        let all: Vec<String> = all.collect();
        let pairs = all.chunks(2);
        pairs
            .map(|it| (it[0].clone(), it[1].parse().unwrap()))
            .collect()
    }
}

#[tokio::test]
async fn script_of_places_and_model_agree() {
    agree(3_000).await;
}

#[tokio::test]
#[ignore = "long: 100,000 steps; run by name with --ignored"]
async fn script_of_places_and_model_agree_for_a_hundred_thousand_steps() {
    agree(100_000).await;
}

async fn agree(steps: u32) {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let mut draw = Draw(7);
    let (mut model, mut now, mut principal) = (Model::default(), 60_000_000_000_000, 0);
    let (mut given, mut refused, mut over) = (0, 0, 0);
    for step in 0..steps {
        if draw.below(100) == 0 {
            principal += 1;
            model = Model::default();
        }
        let whose = format!("principal {principal}");
        let places = Places {
            name: "test",
            principal: &whose,
            most: u32::try_from(1 + draw.below(6)).unwrap(),
            // Far longer than the test, in which keys expire by the server's clock.
            lease: Duration::from_micros((1 + draw.below(3)) * 900_000_000 + draw.below(3)),
        };
        let before = model.0.len();
        let holders = (0..draw.below(4)).map(|_| draw.below(9).to_string());
        let holders: Vec<String> = holders.collect();
        // Forward, mostly, and as after a failover sometimes back.
        let gap = i64::try_from(draw.below(1 << 32) >> draw.below(32)).unwrap();
        now += if draw.below(20) == 0 { -gap } else { gap };
        if draw.below(5) == 0 && !holders.is_empty() {
            limits.leave(&places, &holders).await.unwrap();
            for holder in &holders {
                model.0.remove(&places.holder(holder));
            }
        } else {
            let theirs = limits.hold_at(&places, &holders, Some(now)).await.unwrap();
            let ours = model.hold(&places, &holders, now);
            assert_eq!(theirs, ours, "step {step}: {places:?} {holders:?} {now}");
            given += ours.kept.iter().filter(|kept| **kept).count();
            refused += ours.kept.iter().filter(|kept| !**kept).count();
            over += usize::from(model.0.len() < before);
        }
        assert_eq!(limits.stored(&places).await, model.0, "step {step}: {now}");
    }
    let enough = usize::try_from(steps).unwrap() / 30;
    for (what, times) in [("given", given), ("refused", refused), ("over", over)] {
        assert!(times > enough, "{what}: {times}");
    }
}

#[tokio::test]
async fn places_expire_as_a_whole_and_show_nobodys_name() {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let places = Places {
        name: "test",
        principal: "ip:192.0.2.1",
        most: 2,
        lease: Duration::from_secs(60),
    };
    let held = limits.hold(&places, &["a".to_owned()]).await.unwrap();
    assert_eq!(held.kept, [true]);
    let key = limits.places(&places);
    assert!(key.starts_with("test:limit:2:{"), "{key}");
    assert!(key.ends_with("}:test:c") && !key.contains("192"), "{key}");
    let left = limits.redis.command(Command::new("PTTL").key(key)).await;
    let left = left.unwrap().as_int().unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");
}
