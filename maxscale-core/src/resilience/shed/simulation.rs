//! Shedders in front of what works on as many requests at a time as they have places.
//! Time is tokio's, which stands still, and all that is random is drawn from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::advance;

use super::*;
use crate::clock::{Clock, Timestamp};
use crate::resilience::simulated::{Random, Times, micros_of};

const SECOND: u64 = 1_000_000;

/// Who asks; each of them as often as others.
const USERS: u32 = 500;

#[derive(Clone, Copy, Debug)]
struct World {
    places: u32,
    mean_millis: u32,
    times: Times,
    /// What is asked for, as a multiple of what there is, at a second.
    load: fn(u64) -> f64,
    /// What part of it is of each tier.
    mix: [f64; TIERS],
    /// The second in which a stall begins that lasts five.
    stall: Option<u64>,
    seconds: u64,
    seed: u64,
}

/// A request whose answer came, or that was refused.
#[derive(Clone, Copy, Debug)]
struct Request {
    asked: u64,
    tier: usize,
    user: u32,
    took: Option<u64>,
}

struct Run {
    world: World,
    random: Random,
    now: u64,
    shedder: LoadShedder,
    events: BinaryHeap<Reverse<(u64, usize)>>,
    working: BTreeMap<usize, LoadShedPermit>,
    requests: Vec<Request>,
}

struct Ran {
    world: World,
    requests: Vec<Request>,
}

/// Stands for the next request, in place of the end of one.
const ASK: usize = usize::MAX;

// === impl World ===

impl World {
    /// Three times what there is.
    fn new(places: u32, mean_millis: u32, times: Times) -> Self {
        Self {
            places,
            mean_millis,
            times,
            load: |_| 3.0,
            mix: [0.05, 0.15, 0.5, 0.0, 0.3, 0.0],
            stall: None,
            seconds: 20,
            seed: 1,
        }
    }

    /// How many requests there can be in a second.
    fn capacity(self) -> f64 {
        f64::from(self.places) * 1_000.0 / f64::from(self.mean_millis)
    }

    async fn run(self) -> Ran {
        let (clock, _) = Clock::manual(Timestamp::from_micros(0));
        let shedder = LoadShedder::builder("service", self.places as usize);
        let shedder = shedder.clock(&clock).secret([7; 16]).build().unwrap();
        let mut run = Run {
            world: self,
            random: Random(self.seed),
            now: 0,
            shedder: shedder.clone(),
            events: BinaryHeap::from([Reverse((0, ASK))]),
            working: BTreeMap::new(),
            requests: Vec::new(),
        };
        run.go().await;
        let requests = std::mem::take(&mut run.requests);
        drop(run);
        assert_eq!((shedder.active(), shedder.waiting()), (0, 0));
        let world = self;
        Ran { world, requests }
    }
}

// === impl Run ===

impl Run {
    async fn go(&mut self) {
        let (entered, mut enters) = mpsc::unbounded_channel();
        let mut waiting = tokio::task::JoinSet::new();
        while let Some(Reverse((at, event))) = self.events.pop() {
            if at >= self.world.seconds * SECOND {
                break;
            }
            advance(Duration::from_micros(at - self.now)).await;
            self.now = at;
            if event == ASK {
                if let Some((number, priority)) = self.ask() {
                    let (shedder, entered) = (self.shedder.clone(), entered.clone());
                    waiting.spawn(async move {
                        if let Ok(permit) = shedder.wait(priority, None).await {
                            entered.send((number, permit)).unwrap();
                        }
                    });
                }
            } else {
                let request = &mut self.requests[event];
                request.took = Some(at - request.asked);
                drop(self.working.remove(&event));
            }
            // Whoever waited for a place has it now, or queues up.
            yield_now().await;
            while let Ok((number, permit)) = enters.try_recv() {
                self.works(number, permit);
            }
        }
        waiting.shutdown().await;
    }

    /// The next request, if it has to wait.
    fn ask(&mut self) -> Option<(usize, Priority)> {
        let rate = self.world.capacity() * (self.world.load)(self.now / SECOND);
        let pause = micros_of(self.random.exponential() / rate);
        self.events.push(Reverse((self.now + pause, ASK)));
        let mut drawn = self.random.draw();
        let tier = self.world.mix.iter().position(|part| {
            drawn -= part;
            drawn < 0.0
        });
        let tier = tier.unwrap_or(2);
        let user = micros_of(self.random.draw()) % u64::from(USERS);
        let user = u32::try_from(user).unwrap();
        let number = self.requests.len();
        let (asked, took) = (self.now, None);
        self.requests.push(Request {
            asked,
            tier,
            user,
            took,
        });
        let priority = Priority::of_tier(u8::try_from(tier).unwrap());
        let who = || Some(Cow::Owned(format!("user-{user}")));
        match self.shedder.try_enter(priority, who) {
            Ok(Entry::Permit(permit)) => self.works(number, permit),
            Ok(Entry::Wait) => return Some((number, priority)),
            Err(_) => {}
        }
        None
    }

    fn works(&mut self, number: usize, permit: LoadShedPermit) {
        let mean = f64::from(self.world.mean_millis) / 1_000.0;
        let mut took = micros_of(self.world.times.draw(&mut self.random) * mean);
        if let Some(stall) = self.world.stall.map(|second| second * SECOND) {
            let stalled = stall..stall + 5 * SECOND;
            if stalled.contains(&self.now) || stalled.contains(&(self.now + took)) {
                took += stalled.end - self.now.max(stall);
            }
        }
        self.working.insert(number, permit);
        self.events.push(Reverse((self.now + took, number)));
    }
}

// === impl Ran ===

impl Ran {
    fn from(&self, second: u64) -> impl Iterator<Item = &Request> {
        let asked = (second * SECOND)..;
        // Of the last ones nobody knows.
        let end = (self.world.seconds - 1) * SECOND;
        let requests = self.requests.iter();
        requests.filter(move |it| asked.contains(&it.asked) && it.asked < end)
    }

    /// The part of requests of a tier that were answered.
    fn success(&self, tier: usize, from: u64) -> f64 {
        let of_tier = self.from(from).filter(|it| it.tier == tier);
        part(of_tier.map(|it| it.took.is_some()))
    }

    /// What was answered, as a part of what can be.
    fn goodput(&self, from: u64) -> f64 {
        let answered = self.from(from).filter(|it| it.took.is_some()).count();
        let seconds = u32::try_from(self.world.seconds - 1 - from).unwrap();
        float(answered) / f64::from(seconds) / self.world.capacity()
    }

    /// What 99 of 100 answers took no longer than, in microseconds.
    fn p99(&self) -> u64 {
        let mut took: Vec<_> = self.from(0).filter_map(|it| it.took).collect();
        took.sort_unstable();
        took[took.len() * 99 / 100]
    }

    /// The part of users of whom nearly all requests of a tier were answered, or
    /// nearly none.
    fn whole(&self, tier: usize, from: u64) -> f64 {
        let mut users: BTreeMap<u32, Vec<bool>> = BTreeMap::new();
        for request in self.from(from).filter(|it| it.tier == tier) {
            let answered = users.entry(request.user).or_default();
            answered.push(request.took.is_some());
        }
        let shares = users.into_values().map(|it| part(it.into_iter()));
        part(shares.map(|share| !(0.1..0.9).contains(&share)))
    }
}

/// The part of them that is true.
fn part(all: impl Iterator<Item = bool>) -> f64 {
    let all: Vec<_> = all.collect();
    float(all.iter().filter(|it| **it).count()) / float(all.len())
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

const SERVICES: [(u32, u32); 3] = [(8, 10), (40, 20), (200, 100)];

/// Every service with all kinds of times.
fn worlds() -> impl Iterator<Item = World> {
    let service = |times| SERVICES.map(|(places, millis)| World::new(places, millis, times));
    Times::ALL.into_iter().flat_map(service)
}

/// What does not hold, of all worlds.
fn none(broken: &[String]) {
    assert!(broken.is_empty(), "{broken:#?}");
}

/// From the first request on, not only once it is settled.
#[tokio::test(start_paused = true)]
async fn at_three_times_the_load_what_is_critical_is_served_and_nothing_is_wasted() {
    let mut broken = Vec::new();
    for world in worlds() {
        let load = |_| 0.5;
        let calm = World { load, ..world }.run().await;
        let ran = world.run().await;
        let (critical, goodput) = (ran.success(0, 0), ran.goodput(0));
        let [slow, calm] = [&ran, &calm].map(|it| float(usize::try_from(it.p99()).unwrap()));
        let [high, normal, low] = [1, 2, 4].map(|tier| ran.success(tier, 2));
        let (slower, whole) = (slow / calm, ran.whole(2, 2));
        let told = format!(
            "{} places, {:?}: critical {critical:.4}, high {high:.3}, normal {normal:.3}, \
             low {low:.3}, goodput {goodput:.3}, p99 {slower:.2} times, whole {whole:.3}",
            world.places, world.times,
        );
        eprintln!("{told}");
        // Of eight places one is kept, and a window has few requests.
        let [goodput, high, whole] = match world.places {
            8 => [goodput / 0.85, high / 0.9, whole / 0.6],
            _ => [goodput / 0.9, high / 0.95, whole / 0.8],
        };
        // The next tier has room, the last has none.
        let part = goodput.min(high).min(whole);
        if part < 1.0 || critical < 0.99 || slower > 2.0 || low > 0.05 {
            broken.push(told);
        }
    }
    none(&broken);
}

#[tokio::test(start_paused = true)]
async fn at_three_fifths_of_what_there_is_little_is_refused() {
    let mut broken = Vec::new();
    for world in worlds() {
        let load = |_| 0.6;
        let ran = World { load, ..world }.run().await;
        let tiers = [1, 2, 4].map(|tier| ran.success(tier, 0));
        eprintln!("{} places, {:?}: {tiers:.4?}", world.places, world.times);
        if tiers.into_iter().any(|it| it < 0.97) {
            broken.push(format!("{tiers:?} {world:?}"));
        }
    }
    none(&broken);
}

#[tokio::test(start_paused = true)]
async fn all_are_served_again_when_it_is_over() {
    let mut broken = Vec::new();
    for world in worlds() {
        let load = |second| if second < 10 { 3.0 } else { 0.6 };
        let ran = World { load, ..world }.run().await;
        let success = ran.success(4, 13);
        eprintln!("{} places, {:?}: {success:.4}", world.places, world.times);
        if success < 0.97 {
            broken.push(format!("{success} {world:?}"));
        }
    }
    none(&broken);
}

#[tokio::test(start_paused = true)]
async fn stall_of_5_s_is_forgotten_within_6() {
    let mut broken = Vec::new();
    for times in Times::ALL {
        let (stall, seconds) = (Some(5), 26);
        let world = World {
            seconds,
            ..World::new(40, 20, times)
        };
        let ran = World { stall, ..world }.run().await;
        let critical = ran.success(0, 16);
        let goodput = ran.goodput(16) / world.run().await.goodput(16);
        eprintln!(
            "{} places, {:?}: critical {critical:.4}, goodput {goodput:.3} of the usual",
            world.places, world.times,
        );
        if critical < 0.99 || goodput < 0.95 {
            broken.push(format!("{critical} {goodput} {world:?}"));
        }
    }
    none(&broken);
}

/// What is kept for what is critical is all that is idle while nothing is.
#[tokio::test(start_paused = true)]
async fn without_what_is_critical_only_the_reserve_is_idle() {
    let mut broken = Vec::new();
    for world in worlds() {
        let mix = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
        let ran = World { mix, ..world }.run().await;
        let places = f64::from(world.places);
        let common = 1.0 - (places * LoadShedder::DEFAULT_RESERVE).round() / places;
        let goodput = ran.goodput(1) / common;
        eprintln!("{} places, {:?}: {goodput:.3}", world.places, world.times);
        if goodput < 0.9 {
            broken.push(format!("{goodput} {world:?}"));
        }
    }
    none(&broken);
}
