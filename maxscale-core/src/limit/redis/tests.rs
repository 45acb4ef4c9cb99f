use maxscale_tests::RedisServer;

use super::*;
use crate::keys::Secret;
use crate::limit::lease::Mode;
use crate::limit::lease::tests::taken_back;
use crate::limit::rule::Seen;
use crate::limit::state::State;
use crate::limit::{Entry, Log, Quota, Rate, Run};
use crate::redis::{Command, RedisConfig};

const HOUR: Duration = Duration::from_secs(3_600);

/// Draws from a fixed sequence (SplitMix64), so that a failure comes again.
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn rule(&mut self) -> Rule {
        loop {
            let per = u32::try_from(self.below(1 << 20)).unwrap() >> self.below(20);
            let window = Duration::from_micros(self.below(1 << 36) >> self.below(36));
            let few = u32::try_from(1 + self.below(5)).unwrap();
            let slices = u8::try_from(1 + self.below(12)).unwrap();
            let built = match self.below(3) {
                0 => Rate::new(per, window)
                    .and_then(|rate| rate.burst(few))
                    .map(Rule::from),
                1 => Quota::new(few, window)
                    .and_then(|it| it.slices(slices))
                    .map(Rule::from),
                _ => Log::new(few, window).map(Rule::from),
            };
            if let Ok(rule) = built {
                return rule;
            }
        }
    }

    /// Of one policy or several, mostly of several kinds.
    fn rules(&mut self) -> Vec<Rule> {
        let (count, rates) = (1 + self.below(3), self.below(3) == 0);
        let mut rules = Vec::new();
        while rules.len() < usize::try_from(count).unwrap() {
            let rule = self.rule();
            if !rates || rule.ground() == Ground::Rate {
                rules.push(rule);
            }
        }
        rules
    }

    /// A policy or two, mostly of the same rules as before.
    fn call(&mut self, rules: &[Rule], principal: &str) -> Call {
        let policies = ["a", "b", "c"].iter().zip(rules);
        let entries = policies.map(|(name, rule)| Entry {
            policy: (*name).into(),
            rule: *rule,
            back: match self.below(20) {
                0 => u32::try_from(self.below(4)).unwrap(),
                _ => 0,
            },
        });
        let entries: Vec<_> = entries.collect();
        // One run is the most frequent.
        let runs = (0..1 + self.below(6).saturating_sub(3)).map(|_| Run {
            count: u32::try_from(self.below(4)).unwrap(),
            costs: rules.iter().map(|_| self.cost()).collect(),
            force: self.below(25) == 0,
        });
        Call {
            principal: principal.into(),
            runs: runs.collect(),
            entries,
        }
    }

    fn cost(&mut self) -> u32 {
        match self.below(20) {
            0 => u32::MAX,
            1..=3 => 0,
            _ => u32::try_from(1 + self.below(2)).unwrap(),
        }
    }
}

/// As the script writes it down; nothing of which nothing counts.
fn written(seen: Seen, now: i64) -> Option<String> {
    let counts = !seen.status(now, 0).reset.is_zero();
    counts.then(|| text(&seen.into_state()))
}

fn text(state: &State) -> String {
    match state {
        State::Rate { full, debt: false } => full.to_string(),
        State::Rate { full, debt: true } => format!("d{full}"),
        State::Quota { slice, counts } => {
            let counts: Vec<_> = counts.iter().map(u32::to_string).collect();
            format!("q{slice}:{}", counts.join(","))
        }
        State::Log(moments) => {
            let moments: Vec<_> = moments.iter().map(i64::to_string).collect();
            format!("l{}", moments.join(","))
        }
        State::Blocked { until } => format!("b{until}"),
    }
}

pub(super) async fn limits(server: &RedisServer) -> RedisLimits {
    // What is slow on a busy machine is not down.
    let patience = Duration::from_secs(60);
    let config = RedisConfig::new(&server.url()).unwrap().timeout(patience);
    let redis = Redis::open(config);
    assert!(redis.wait_ready(patience).await);
    let ring = KeyRing::new(1, Secret::new([7; 32])).unwrap();
    RedisLimits::new(redis, "test:", ring)
}

#[tokio::test]
async fn script_and_model_agree() {
    agree(3_000).await;
}

#[tokio::test]
#[ignore = "long: 100,000 steps; run by name with --ignored"]
async fn script_and_model_agree_for_a_hundred_thousand_steps() {
    agree(100_000).await;
}

/// A principal, and what the model keeps of it.
struct Whose {
    name: String,
    rules: Vec<Rule>,
    states: Vec<Option<State>>,
}

impl Whose {
    fn new(draw: &mut Draw, name: u64) -> Self {
        Self {
            name: name.to_string(),
            rules: draw.rules(),
            states: vec![None; 3],
        }
    }

    /// Raised or lowered under keys in use, or of other kinds, which have keys of
    /// their own.
    fn change(&mut self, rules: Vec<Rule>) {
        let grounds: Vec<_> = self.rules.iter().map(Rule::ground).collect();
        self.rules = rules;
        for (at, state) in self.states.iter_mut().enumerate() {
            let same = self.rules.get(at).map(Rule::ground) == grounds.get(at).copied();
            *state = state.take().filter(|_| same);
        }
    }

    fn key(&self, limits: &RedisLimits, at: usize) -> String {
        let policy = ["a", "b", "c"][at];
        RedisLimits::key(&limits.principal(&self.name), policy, &self.rules[at])
    }

    /// The script's keys expire by the real clock, which is not the test's.
    async fn put(&self, limits: &RedisLimits) {
        for (at, (state, _)) in self.states.iter().zip(&self.rules).enumerate() {
            let put = match state {
                Some(state) => Command::new("SET")
                    .key(self.key(limits, at))
                    .arg(text(state)),
                None => Command::new("DEL").key(self.key(limits, at)),
            };
            limits.redis.command(put).await.unwrap();
        }
    }

    /// Decides by the model, and says what Redis has to keep: nothing, or a text.
    fn decide(&mut self, call: &Call, now: i64) -> (Vec<Granted>, Vec<(usize, Option<String>)>) {
        let states_of = self.states.iter().zip(&self.rules);
        let mut seen: Vec<Seen> = states_of
            .map(|(state, rule)| rule.see(state.as_ref(), now))
            .collect();
        let (ours, changed) = call.decide(&mut seen, now);
        let mut kept = Vec::new();
        for (at, seen) in seen.into_iter().enumerate().filter(|(at, _)| changed[*at]) {
            let ours = written(seen.clone(), now);
            self.states[at] = ours.is_some().then(|| seen.into_state());
            kept.push((at, ours));
        }
        (ours, kept)
    }
}

/// A call for each, some of which differ from the first in nothing but the principal.
fn calls(draw: &mut Draw, asked: &mut [Whose]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for at in 0..asked.len() {
        calls.push(if at > 0 && draw.below(2) == 0 {
            let rules = asked[0].rules.clone();
            asked[at].change(rules);
            Call {
                principal: asked[at].name.as_str().into(),
                ..calls[0].clone()
            }
        } else {
            draw.call(&asked[at].rules, &asked[at].name)
        });
    }
    calls
}

async fn agree(steps: u32) {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let mut draw = Draw(42);
    let mut all: Vec<Whose> = (0..4).map(|name| Whose::new(&mut draw, name)).collect();
    let (mut now, mut names) = (60_000_000_000_000, 4);
    let (mut granted, mut denied, mut stored, mut together) = (0, 0, 0, 0);

    for step in 0..steps {
        // Mostly one is asked for, else several, of whom some differ in nothing else.
        let count = [1, 1, 1, 2, 3, 4][usize::try_from(draw.below(6)).unwrap()];
        let first = usize::try_from(draw.below(4)).unwrap();
        all.rotate_left(first);
        let asked = &mut all[..count];
        for whose in &mut *asked {
            match draw.below(50) {
                0 => {
                    *whose = Whose::new(&mut draw, names);
                    names += 1;
                }
                1..=3 => whose.change(draw.rules()),
                4 => {
                    whose.states[0] = Some(State::Blocked {
                        until: now + 1_000_000,
                    });
                }
                _ => {}
            }
        }
        // Mostly about an interval on, at times far on, at times back.
        let rule = asked[0].rules[0];
        let window = u64::try_from(rule.window().as_micros()).unwrap();
        let by = window / u64::from(rule.per()) * 2;
        let by = i64::try_from(draw.below(by + 1)).unwrap();
        now += match draw.below(20) {
            0 => i64::try_from(window).unwrap(),
            1 => -by,
            2..=9 => 0,
            _ => by,
        };

        let calls = calls(&mut draw, asked);
        for whose in &*asked {
            whose.put(&limits).await;
        }
        together += u32::from(take::alike(&calls).len() < count);

        let theirs = limits.run_at(&calls, Some(now)).await.unwrap();
        assert_eq!(theirs.len(), count);
        for ((whose, call), theirs) in asked.iter_mut().zip(&calls).zip(theirs) {
            let before = whose.states.clone();
            let (ours, kept) = whose.decide(call, now);
            assert_eq!(theirs, ours, "step {step}: {call:?} {before:?} {now}");
            for (at, ours) in kept {
                let get = Command::new("GET").key(whose.key(&limits, at));
                let there = limits.redis.command(get).await.unwrap().into_bytes();
                let there = there.map(|bytes| String::from_utf8(bytes.into()).unwrap());
                // What lasts no longer than a millisecond may be over.
                if there.is_some() || ours.is_none() {
                    assert_eq!(there, ours, "step {step}: {call:?} {before:?} {now}");
                    stored += u32::from(there.is_some());
                }
            }
            for (run, answer) in call.runs.iter().zip(&ours) {
                granted += u32::from(answer.count > 0);
                denied += u32::from(answer.count < run.count);
            }
        }
    }
    let counted = [
        ("granted", granted),
        ("denied", denied),
        ("stored", stored),
        ("together", together),
    ];
    for (what, times) in counted {
        assert!(times > steps / 10, "{what}: {times}");
    }
}

#[tokio::test]
async fn key_that_holds_what_nobody_wrote_counts_as_empty_and_hinders_no_other() {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let rules: [Rule; 3] = [
        Rate::per_minute(60).unwrap().into(),
        Quota::new(10, HOUR).unwrap().into(),
        Log::new(10, HOUR).unwrap().into(),
    ];
    for nonsense in [
        "nonsense", "", "b", "d", "q", "q1", "q1,2", "l", "l,", "b1:2", "12:3",
    ] {
        for rule in rules {
            let mut calls = Vec::new();
            for name in ["one", "other"] {
                let mut call = Draw(1).call(&[rule], name);
                call.entries[0].back = 0;
                call.runs = vec![Run {
                    count: 1,
                    costs: vec![1],
                    force: false,
                }];
                calls.push(call);
            }
            let key = RedisLimits::key(&limits.principal("one"), "a", &rule);
            let put = Command::new("SET").key(key).arg(nonsense);
            limits.redis.command(put).await.unwrap();
            let answers = limits.run_all(&calls).await.unwrap();
            for answer in answers {
                assert_eq!(answer[0].count, 1, "{nonsense} {rule:?}");
            }
            limits
                .redis
                .command(Command::new("FLUSHALL"))
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn script_that_takes_back_agrees_with_the_model() {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let (mut draw, now) = (Draw(7), 60_000_000_000_000);
    let mut taken = 0;
    for step in 0..1_000 {
        let per = u32::try_from(1 + draw.below(1_000_000)).unwrap();
        let burst = u32::try_from(1 + draw.below(100_000)).unwrap();
        let rate = Rate::per_second(per).unwrap().burst(burst).unwrap();
        let ttl = Duration::from_millis(10 + draw.below(1_000));
        let Some(terms) = Terms::of(&rate.into(), Mode::Leased(ttl)) else {
            continue;
        };
        let [_, _, tolerance, _] = rate.numbers();
        let reach = 3 * u64::try_from(tolerance).unwrap();
        let mut moment = |debt| State::Rate {
            full: now + i64::try_from(draw.below(reach)).unwrap() - tolerance / 2,
            debt,
        };
        let key = match step % 5 {
            0 => None,
            1 => Some(moment(true)),
            2 => Some(State::Blocked { until: now + 1 }),
            _ => Some(moment(false)),
        };
        let width = i64::try_from(ttl.as_micros()).unwrap();
        let allowance = (step % 3 == 0).then(|| State::Quota {
            slice: now / width - 2 + i64::try_from(draw.below(4)).unwrap(),
            counts: [0, 0]
                .map(|_| u32::try_from(draw.below(8_000)).unwrap())
                .into(),
        });
        let tokens = u32::try_from(draw.below(20_000)).unwrap();

        let name = RedisLimits::key(&limits.principal("whose"), "what", &rate.into());
        let names = [name.clone(), format!("{name}:back")];
        for (name, state) in names.iter().zip([&key, &allowance]) {
            let put = match state {
                Some(state) => Command::new("SET").key(name.as_str()).arg(text(state)),
                None => Command::new("DEL").key(name.as_str()),
            };
            limits.redis.command(put).await.unwrap();
        }
        let theirs = limits.take_back("whose", "what", &terms, tokens, Some(now));
        let theirs = theirs.await.unwrap();
        let stored = [key.as_ref(), allowance.as_ref()];
        let ours = taken_back(&terms, stored, now, tokens);
        assert_eq!(theirs, ours.as_ref().map_or(0, |it| it.0), "{stored:?}");
        let Some((_, seen)) = ours else { continue };
        taken += 1;
        for (name, seen) in names.iter().zip(seen) {
            let get = limits
                .redis
                .command(Command::new("GET").key(name.as_str()))
                .await;
            let there = get.unwrap().into_bytes();
            let there = there.map(|bytes| String::from_utf8(bytes.into()).unwrap());
            let ours = written(seen, now);
            // What lasts no longer than a millisecond may be over.
            if there.is_some() || ours.is_none() {
                assert_eq!(there, ours, "{stored:?}");
            }
        }
    }
    assert!(taken > 300, "{taken}");
}

#[tokio::test]
async fn every_key_expires_and_none_shows_what_it_counts() {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let rules = [
        Rate::per_minute(1).unwrap().into(),
        Log::new(5, HOUR).unwrap().into(),
    ];
    let mut call = Draw(1).call(&rules, "ip:192.0.2.1");
    call.runs = vec![Run {
        count: 1,
        costs: vec![1, 1],
        force: false,
    }];
    limits.run(&call).await.unwrap();

    let keys = Command::new("KEYS").arg("*");
    let keys = limits.redis.command(keys).await.unwrap();
    let keys = keys.into_array().unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in keys {
        let key = key.into_bytes().unwrap();
        let text = String::from_utf8(key.to_vec()).unwrap();
        assert!(
            text.starts_with("test:limit:2:{") && !text.contains("192"),
            "{text}"
        );
        let most = if text.ends_with(":a") {
            60_000
        } else {
            3_600_000
        };
        let left = Command::new("PTTL").key(key);
        let left = limits.redis.command(left).await.unwrap();
        assert!((1..=most).contains(&left.as_int().unwrap()), "{left:?}");
    }
}

#[tokio::test]
async fn request_that_one_policy_denies_leaves_the_keys_of_the_others_as_they_are() {
    let server = RedisServer::start().await;
    let limits = limits(&server).await;
    let wide: [Rule; 3] = [
        Rate::new(10, HOUR).unwrap().burst(10).unwrap().into(),
        Quota::new(10, HOUR).unwrap().into(),
        Log::new(10, HOUR).unwrap().into(),
    ];
    for (n, rule) in wide.into_iter().enumerate() {
        let rules = [rule, Rate::new(1, HOUR).unwrap().into()];
        let mut call = Draw(1).call(&rules, &format!("principal {n}"));
        call.runs = vec![Run {
            count: 1,
            costs: vec![1, 1],
            force: false,
        }];
        let key = RedisLimits::key(&limits.principal(&call.principal), "a", &rule);
        let dumped = async || {
            let dump = Command::new("DUMP").key(key.as_str());
            limits.redis.command(dump).await.unwrap().into_bytes()
        };
        assert_eq!(limits.run(&call).await.unwrap()[0].count, 1);
        let before = dumped().await;
        assert!(before.is_some());
        for _ in 0..20 {
            assert_eq!(limits.run(&call).await.unwrap()[0].count, 0);
        }
        assert_eq!(dumped().await, before);
    }
}
