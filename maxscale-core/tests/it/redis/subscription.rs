//! Subscriptions that lose connections, servers and time.

use maxscale_core::redis::{Command, Event, Redis, RedisError, Subscription};
use maxscale_tests::{RedisServer, eventually};
use tokio::time::timeout;

use super::{SOON, kill, patient};

async fn next(events: &mut Subscription) -> Event {
    timeout(SOON, events.next())
        .await
        .expect("an event in time")
        .expect("the subscription goes on")
}

async fn publish(redis: &Redis, message: &str) {
    let publish = Command::new("PUBLISH").arg("news").arg(message);
    redis.command(publish).await.unwrap();
}

fn message(text: &str) -> Event {
    Event::Message(text.to_owned().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_tells_of_a_broken_connection() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let mut events = redis.subscribe("news");
    assert_eq!(next(&mut events).await, Event::Reconnected);
    publish(&redis, "one").await;
    assert_eq!(next(&mut events).await, message("one"));

    redis.command(kill("pubsub")).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Gap);
    assert_eq!(next(&mut events).await, Event::Reconnected);
    publish(&redis, "two").await;
    assert_eq!(next(&mut events).await, message("two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_is_told_of_a_gap() {
    let server = RedisServer::start().await;
    let redis = patient(&server).await;
    let mut events = redis.subscribe("news");
    assert_eq!(next(&mut events).await, Event::Reconnected);
    for _ in 0..40 {
        let publish = Command::new("PUBLISH").arg("news").arg("more");
        redis.pipeline(vec![publish; 250]).await;
    }
    publish(&redis, "last").await;

    let (mut messages, mut gaps) = (0, 0);
    loop {
        match next(&mut events).await {
            event if event == message("last") => break,
            Event::Message(_) => messages += 1,
            Event::Gap => gaps += 1,
            Event::Reconnected => panic!("the connection stood"),
        }
    }
    assert!(
        gaps > 0 && messages < 10_000,
        "{gaps} gaps, {messages} messages"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_handle_and_dropped_subscription_leave_no_connection() {
    let server = RedisServer::start().await;
    let (redis, other) = (patient(&server).await, patient(&server).await);
    let mut events = other.subscribe("news");
    assert_eq!(next(&mut events).await, Event::Reconnected);
    let connections = async || {
        let list = redis
            .command(Command::new("CLIENT").arg("LIST"))
            .await
            .unwrap();
        let list = list.into_bytes().unwrap();
        list.iter().filter(|b| **b == b'\n').count()
    };
    assert_eq!(connections().await, 3);
    other.close().await;
    assert!(matches!(other.ping().await, Err(RedisError::Down)));
    drop(events);
    eventually(SOON, async || connections().await == 1).await;
}

/// Numbered messages around the loss of a connection or a server: what is
/// missing is missing behind a gap, and the next one heard is a later one.
struct Rounds {
    server: RedisServer,
    redis: Redis,
    events: Subscription,
    next: u64,
    gaps: u64,
    lost: u64,
}

impl Rounds {
    async fn start() -> Self {
        let server = RedisServer::start().await;
        let redis = patient(&server).await;
        let mut events = redis.subscribe("news");
        assert_eq!(next(&mut events).await, Event::Reconnected);
        Self {
            server,
            redis,
            events,
            next: 0,
            gaps: 0,
            lost: 0,
        }
    }

    /// Publishes from a connection that survives; how many were accepted.
    async fn publish(&mut self, count: u64) -> u64 {
        let numbers = self.next..self.next + count;
        self.next += count;
        let commands = numbers.map(|n| Command::new("PUBLISH").arg("news").arg(n.to_string()));
        let replies = self.redis.pipeline(commands.collect()).await;
        replies.iter().filter(|reply| reply.is_ok()).count() as u64
    }

    async fn kill_connection(&mut self) {
        let first = self.next;
        let mut sent = self.publish(3).await;
        self.redis.command(kill("pubsub")).await.unwrap();
        sent += self.publish(3).await;
        assert_eq!(sent, 6, "the publisher's own connection stands");
        self.check(first).await;
    }

    async fn kill_server(&mut self) {
        let first = self.next;
        self.publish(3).await;
        // While it is killed, some are lost on the way.
        let (server, redis, from) = (&self.server, &self.redis, self.next);
        let commands =
            (from..from + 3).map(|n| Command::new("PUBLISH").arg("news").arg(n.to_string()));
        let (_, ()) = tokio::join!(redis.pipeline(commands.collect()), server.kill());
        self.next += 3;
        self.server.restart().await;
        assert!(self.redis.wait_ready(SOON).await);
        self.publish(3).await;
        self.check(first).await;
    }

    /// Reads up to the gap and beyond it; `first` is the round's first message.
    async fn check(&mut self, first: u64) {
        let mut expected = first;
        loop {
            match next(&mut self.events).await {
                Event::Message(text) => {
                    assert_eq!(text, expected.to_string(), "lost without a gap");
                    expected += 1;
                }
                Event::Gap => break,
                Event::Reconnected => panic!("reconnected without a gap"),
            }
        }
        self.gaps += 1;
        assert_eq!(next(&mut self.events).await, Event::Reconnected);
        // From here on all are heard again. Of this round's some may be, too.
        let last = self.next;
        assert_eq!(self.publish(1).await, 1);
        let mut heard = 0;
        loop {
            match next(&mut self.events).await {
                Event::Message(text) if text == last.to_string() => break,
                Event::Message(_) => heard += 1,
                other => panic!("{other:?} although the connection stands"),
            }
        }
        self.lost += last - expected - heard;
    }

    async fn report(&mut self, mut rounds: u64) {
        // Who is back before the next message has lost none.
        while self.lost == 0 && rounds < 2_000 {
            self.kill_connection().await;
            rounds += 1;
        }
        let Self {
            gaps, lost, next, ..
        } = self;
        println!("{rounds} rounds: {next} messages, {lost} lost, {gaps} gaps told");
        assert_eq!(*gaps, rounds, "each round is told of");
        assert!(*lost > 0, "nothing was lost, so nothing was tested");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscription_loses_no_message_silently() {
    let mut rounds = Rounds::start().await;
    for _ in 0..50 {
        rounds.kill_connection().await;
    }
    for _ in 0..3 {
        rounds.kill_server().await;
    }
    rounds.report(53).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute; the test before it is the same, but shorter"]
async fn subscription_loses_no_message_silently_in_a_thousand_rounds() {
    let mut rounds = Rounds::start().await;
    for _ in 0..9 {
        for _ in 0..100 {
            rounds.kill_connection().await;
        }
        for _ in 0..11 {
            rounds.kill_server().await;
        }
    }
    rounds.kill_connection().await;
    rounds.report(1_000).await;
}
