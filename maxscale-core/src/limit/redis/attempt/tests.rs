use maxscale_tests::RedisServer;

use super::super::tests::{Draw, limits};
use super::*;
use crate::limit::attempts::{Book, Bounds, Bucket};
use crate::redis::Command;

const SECOND: i64 = 1_000_000;

impl Draw {
    /// Windows are far longer than the test, in which keys expire by the server's
    /// clock.
    fn terms(&mut self) -> Terms {
        let mut up_to = |end: u64| i64::try_from(self.below(end)).unwrap();
        let base = 1 + up_to(10 * 1_000_000);
        Terms {
            pair: Bounds {
                limit: u32::try_from(1 + up_to(5)).unwrap(),
                window: (600 + up_to(600)) * SECOND,
                base,
                longest: base + up_to(900 * 1_000_000),
            },
            strangers: Bounds {
                limit: u32::try_from(1 + up_to(12)).unwrap(),
                window: (600 + up_to(600)) * SECOND,
                base: 0,
                longest: 0,
            },
            known: 3_600 * SECOND,
        }
    }
}

/// What nothing counts of is not kept.
fn kept(bucket: Bucket, bounds: &Bounds, now: i64) -> Option<Bucket> {
    (bucket.over_at(bounds) > now).then_some(bucket)
}

/// As the script writes it down.
fn text(bucket: &Bucket) -> String {
    let moments: Vec<_> = bucket.moments.iter().map(i64::to_string).collect();
    let Bucket {
        failures, until, ..
    } = bucket;
    format!("f{failures}:{until}:{}", moments.join(","))
}

fn decide(book: &mut Book, ask: Ask, terms: &Terms, now: i64) -> Vec<i64> {
    match ask {
        Ask::Begin(elsewhere) => match book.begin(terms, elsewhere, now) {
            Ok(Reserved { moment, known }) => vec![1, moment, i64::from(known)],
            Err(wait) => vec![0, wait],
        },
        Ask::Settle(_, Verdict::Failed) => vec![book.fail(terms, now)],
        Ask::Settle(reserved, Verdict::Succeeded) => {
            book.succeed(reserved);
            vec![0]
        }
        Ask::Settle(reserved, Verdict::NotMade) => {
            book.give_back(reserved);
            vec![0]
        }
    }
}

#[tokio::test]
async fn script_of_attempts_and_model_agree() {
    agree(3_000).await;
}

#[tokio::test]
#[ignore = "long: 100,000 steps; run by name with --ignored"]
async fn script_of_attempts_and_model_agree_for_a_hundred_thousand_steps() {
    agree(100_000).await;
}

async fn agree(steps: u32) {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let mut draw = Draw(11);
    let (mut terms, mut now, mut account) = (draw.terms(), 60_000_000_000_000, 0);
    let mut stored: (Option<Bucket>, Option<Bucket>, bool) = Default::default();
    let mut begun = Vec::<Reserved>::new();
    let (mut reserved, mut refused, mut ends_soon) = (0, 0, false);
    for step in 0..steps {
        // The server would forget by its own clock what is to end soon.
        if ends_soon || draw.below(60) == 0 {
            account += 1;
            (stored, begun) = Default::default();
        }
        if draw.below(60) == 0 {
            terms = draw.terms();
        }
        // Forward, mostly, and as after a failover sometimes back.
        let gap = i64::try_from(draw.below(1 << 31) >> draw.below(31)).unwrap();
        now += if draw.below(20) == 0 { -gap } else { gap };
        let settled = match draw.below(4) {
            0 => Some(Verdict::Failed),
            1 if draw.below(6) == 0 => Some(Verdict::Succeeded),
            1 => Some(Verdict::NotMade),
            _ => None,
        };
        let ask = match settled {
            Some(verdict) if !begun.is_empty() => {
                let place = usize::try_from(draw.below(begun.len() as u64)).unwrap();
                Ask::Settle(begun[place], verdict)
            }
            _ => Ask::Begin(i64::try_from(draw.below(20) / 18).unwrap()),
        };
        let whose = Whose {
            account: format!("account {account}").into(),
            client: "client".into(),
        };
        let theirs = limits.attempt("test", &whose, &terms, ask, Some(now)).await;
        let theirs = theirs.unwrap();
        let before = Book {
            pair: stored.0.clone().unwrap_or_default().see(&terms.pair, now),
            strangers: (stored.1.clone().unwrap_or_default()).see(&terms.strangers, now),
            known: stored.2,
        };
        let mut book = before.clone();
        let ours = decide(&mut book, ask, &terms, now);
        let at = format!("step {step}: {ask:?} at {now} by {terms:?} of {before:?}");
        assert_eq!(theirs, ours, "{at}");
        if let (Ask::Begin(_), Some(&[1, moment, known])) = (ask, theirs.first_chunk()) {
            let known = known == 1;
            begun.push(Reserved { moment, known });
            reserved += 1;
        }
        refused += usize::from(theirs[0] == 0 && theirs.len() == 2);

        // What nothing was done to is not written, and so stays as it was.
        if book.pair != before.pair || book.pair.is_pulled() {
            stored.0 = kept(book.pair, &terms.pair, now);
        }
        if book.strangers != before.strangers || book.strangers.is_pulled() {
            stored.1 = kept(book.strangers, &terms.strangers, now);
        }
        stored.2 = book.known;
        let text = (
            stored.0.as_ref().map(text),
            stored.1.as_ref().map(text),
            stored.2,
        );
        assert_eq!(limits.kept(&whose).await, text, "{at}");
        let pair = stored.0.as_ref().map_or(0, |it| it.over_at(&terms.pair));
        let strangers = stored.1.as_ref();
        let strangers = strangers.map_or(0, |it| it.over_at(&terms.strangers));
        let left = [pair - now, strangers - now];
        ends_soon = left.iter().any(|left| (1..60 * SECOND).contains(left));
    }
    let enough = usize::try_from(steps).unwrap() / 10;
    for (what, times) in [("reserved", reserved), ("refused", refused)] {
        assert!(times > enough, "{what}: {times}");
    }
}

impl RedisLimits {
    /// What is kept of a client, of strangers, and whether the client is known.
    async fn kept(&self, whose: &Whose) -> (Option<String>, Option<String>, bool) {
        let keys = self.keys_of("test", whose);
        let get = keys.into_iter().fold(Command::new("MGET"), Command::key);
        let stored = self.redis.command(get).await.unwrap().into_array().unwrap();
        let texts = stored.into_iter().map(|it| {
            let bytes = it.into_bytes()?;
            Some(String::from_utf8(bytes.into()).unwrap())
        });
        let texts: Vec<_> = texts.collect();
        (texts[0].clone(), texts[1].clone(), texts[2].is_some())
    }
}

#[tokio::test]
async fn every_key_of_an_attempt_expires_and_shows_no_name() {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let whose = Whose {
        account: "ann@example.org".into(),
        client: "ip:192.0.2.1".into(),
    };
    let terms = Draw(1).terms();
    let mut begun = Vec::new();
    for _ in 0..2 {
        let reserved = limits.begin_attempt("test", &whose, &terms, 0).await;
        begun.push(reserved.unwrap().unwrap());
    }
    let succeeded = Verdict::Succeeded;
    let settled = limits.settle_attempt("test", &whose, &terms, begun[0], succeeded);
    settled.await.unwrap();
    let keys = Command::new("KEYS").arg("*");
    let keys = limits.redis.command(keys).await.unwrap();
    let keys = keys.into_array().unwrap();
    assert_eq!(keys.len(), 3, "{keys:?}");
    for key in keys {
        let key = key.into_bytes().unwrap();
        let text = String::from_utf8(key.to_vec()).unwrap();
        assert!(text.starts_with("test:limit:2:{"), "{text}");
        assert!(!text.contains("192") && !text.contains("ann"), "{text}");
        let left = Command::new("PTTL").key(key);
        let left = limits.redis.command(left).await.unwrap();
        assert!(
            (1..=3_600_000).contains(&left.as_int().unwrap()),
            "{left:?}"
        );
    }
}
