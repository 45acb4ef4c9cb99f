use std::num::NonZeroU32;

use maxscale_tests::RedisServer;

use super::*;
use crate::keys::Secret;
use crate::limit::gcra::{self, Full};
use crate::redis::{Command, RedisConfig};

const STEPS: u32 = 3_000;

/// Draws from a fixed sequence (SplitMix64), so that a failure comes again.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn quota(&mut self) -> Quota {
        loop {
            let per = u32::try_from(self.below(1 << 20)).unwrap() >> self.below(20);
            let window = Duration::from_micros(self.below(1 << 36) >> self.below(36));
            let burst = u32::try_from(1 + self.below(5)).unwrap();
            let built = NonZeroU32::new(per)
                .map(|per| Quota::new(per, window)?.burst(NonZeroU32::new(burst).unwrap()));
            if let Some(Ok(quota)) = built {
                return quota;
            }
        }
    }
}

async fn limits(server: &RedisServer) -> RedisLimits {
    let redis = Redis::open(RedisConfig::new(&server.url()).unwrap());
    assert!(redis.wait_ready(Duration::from_secs(5)).await);
    let ring = KeyRing::new(1, Secret::new([7; 32])).unwrap();
    RedisLimits::new(redis, "test:", ring)
}

#[tokio::test]
async fn script_and_model_agree() {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let mut draw = Draw(42);
    let mut quota = draw.quota();
    let (mut state, mut now, mut key) = (Full::ALWAYS, 60_000_000_000_000, 0);
    let (mut allowed, mut denied, mut compared) = (0, 0, 0);

    for step in 0..STEPS {
        match draw.below(50) {
            0 => (key, state) = (key + 1, Full::ALWAYS),
            // Raised or lowered under a key in use.
            1..=3 => quota = draw.quota(),
            _ => {}
        }
        // Mostly about an interval on, at times far on, at times back.
        let interval = u64::try_from(quota.interval()).unwrap();
        let by = i64::try_from(draw.below(2 * interval + 1)).unwrap();
        now += match draw.below(20) {
            0 => quota.tolerance(),
            1 => -by,
            2..=9 => 0,
            _ => by,
        };

        let name = format!("key {key}");
        let theirs = limits.run(name.clone(), &quota, Some(now)).await.unwrap();
        let (ours, next) = gcra::decide(state, now, &quota);
        assert_eq!(theirs, ours, "step {step}: {quota:?} {state:?} {now}");
        let get = Command::new("GET").key(name.as_str());
        let stored = limits.redis.command(get).await.unwrap();
        if let Some(stored) = stored.into_bytes() {
            let stored: i64 = std::str::from_utf8(&stored).unwrap().parse().unwrap();
            assert_eq!(Full::at(stored), next, "step {step}: {quota:?}");
            compared += 1;
        }
        // The script's keys expire by the real clock, which is not the test's.
        if next != Full::ALWAYS {
            let set = Command::new("SET").key(name).arg(next.as_micros());
            limits.redis.command(set).await.unwrap();
        }
        state = next;
        if ours.is_allowed() {
            allowed += 1
        } else {
            denied += 1
        }
    }
    for (what, times) in [
        ("allowed", allowed),
        ("denied", denied),
        ("compared", compared),
    ] {
        assert!(times > STEPS / 10, "{what}: {times}");
    }
}

#[tokio::test]
async fn every_key_expires_and_none_shows_what_it_counts() {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let quota = Quota::per_minute(NonZeroU32::new(60).unwrap()).unwrap();
    limits.take("ip:192.0.2.1", &quota).await.unwrap();

    let keys = Command::new("KEYS").arg("*");
    let keys = limits.redis.command(keys).await.unwrap();
    let mut keys = keys.into_array().unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let key = keys.remove(0).into_bytes().unwrap();
    let text = String::from_utf8(key.to_vec()).unwrap();
    assert!(
        text.starts_with("test:limit:1:") && !text.contains("192"),
        "{text}"
    );
    let left = Command::new("PTTL").key(key);
    let left = limits.redis.command(left).await.unwrap();
    assert!((1..=1_000).contains(&left.as_int().unwrap()), "{left:?}");
}
