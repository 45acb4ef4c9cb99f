//! What L1 takes of the heap, counted by the allocator, and of the machine's memory: in
//! processes of their own, where nobody else takes any.

use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use maxscale_cache::remote::LocalRemote;
use maxscale_cache::{Cache, CacheSpec, Hub, L1Engine};
use peak_alloc::PeakAlloc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::program;
use crate::source::LONG;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const MIB: u64 = 1 << 20;

/// How often a value is asked for in a second, at the most.
const OPS: u64 = 20_000;

/// How often in a second it goes on with the next ones.
const TICKS: u64 = 100;

/// From then on as much goes as comes: each value lives for a second, and sweeps come
/// later.
const WARM: u64 = 4;

const ENGINES: [L1Engine; 2] = [L1Engine::Moka, L1Engine::Quick];

/// What a program is to do: `churn ENGINE BUDGET IDS ROUNDS`, or `flat SECONDS`.
const WHAT: &str = "MEMORY";

#[tokio::test]
async fn churn_over_the_whole_budget_stays_within_it_on_the_heap() {
    for engine in 0..ENGINES.len() {
        run(&format!("churn {engine} {} 3000 3", 8 * MIB)).await;
    }
}

#[tokio::test]
#[ignore = "the default budget takes a minute; CONTRIBUTING.md has the command"]
async fn churn_over_the_default_budget_stays_within_it_on_the_heap() {
    for engine in 0..ENGINES.len() {
        let budget = Hub::DEFAULT_L1_BUDGET;
        run(&format!("churn {engine} {budget} 100000 20")).await;
    }
}

#[tokio::test]
async fn values_that_live_for_a_second_leave_memory_flat() {
    run("flat 8").await;
}

#[tokio::test]
#[ignore = "it asks for a minute; CONTRIBUTING.md has the command"]
async fn values_that_live_for_a_second_leave_memory_flat_for_a_minute() {
    run("flat 60").await;
}

/// Has a process do `what`.
async fn run(what: &str) {
    let program = program::start("memory::program_of_its_own", &[(WHAT, what)]);
    let status = program.wait(Duration::from_secs(170)).await;
    let lines = program.stderr().join("\n");
    eprintln!("{lines}");
    assert!(status.success(), "{lines}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "other tests start it"]
async fn program_of_its_own() {
    let Some(what) = program::variable(WHAT) else {
        return;
    };
    let mut words = what.split(' ');
    let name = words.next().unwrap();
    let numbers: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
    match (name, &numbers[..]) {
        ("churn", &[engine, budget, ids, rounds]) => {
            let engine = ENGINES[usize::try_from(engine).unwrap()];
            churn(engine, budget, ids, rounds).await;
        }
        ("flat", &[seconds]) => stays_flat(seconds).await,
        _ => panic!("{what}"),
    }
}

/// Reads `ids` values again and again, several times what fits.
async fn churn(engine: L1Engine, budget: u64, ids: u64, rounds: u64) {
    let before = live();
    HEAP.reset_peak_usage();
    let remote = LocalRemote::new(MIB);
    let hub = Hub::builder().l1_engine(engine).l1_budget(budget);
    let hub = hub.remote(remote).build();
    let cache = hub.cache::<String>(LONG);
    for n in 0..ids * rounds {
        let id = (n * 7 % ids).to_string();
        let load = move || async move { Ok::<_, Infallible>(Some("x".repeat(length(n)))) };
        cache.get_or_load(&id, load).await.unwrap();
    }
    let most = u64::try_from(HEAP.peak_usage()).unwrap() - before;
    let (now, resident) = (live() - before, of_process("VmHWM"));
    eprintln!(
        "{engine:?}, {budget} bytes of budget: {most} bytes of heap at the most, {now} at the end,"
    );
    eprintln!("{resident} bytes resident at the most");
    assert!(most <= budget * 115 / 100 + 32 * MIB, "{most}");
    // Else the budget was never reached.
    assert!(now > budget / 2, "{now}");
    // Of a small one, most is the program itself.
    if budget >= Hub::DEFAULT_L1_BUDGET {
        assert!(resident <= budget * 3 / 2, "{resident}");
    }
}

/// Lengths from 100 bytes to 50 KiB, small ones as many as large ones.
fn length(n: u64) -> usize {
    let shift = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    usize::try_from(100_u64 << (shift % 10)).unwrap_or_default()
}

/// Asks for so many seconds for values that live for one: no more memory is used later
/// than when as much goes as comes, for as many values in a second.
async fn stays_flat(seconds: u64) {
    let second = Duration::from_secs(1);
    let hub = Hub::builder().build();
    let cache = hub.cache(CacheSpec::new("brief", 1).l1_ttl(second).l2_ttl(second));
    let mut ticks = interval(second / u32::try_from(TICKS).unwrap());
    // Less is asked where the machine is slow.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut asked, mut early, mut late) = (0, [0; 2], [0; 2]);
    // How long the quickest second's worth of requests took, before and after.
    let (mut begun, mut quickest) = (Instant::now(), [Duration::MAX; 2]);
    for tick in 0..seconds * TICKS {
        ticks.tick().await;
        for _ in 0..OPS / TICKS {
            ask(&cache, asked).await;
            asked += 1;
        }
        let at = tick / TICKS + 1;
        if (tick + 1) % TICKS == 0 {
            let [heap, resident] = [live(), of_process("VmRSS")];
            eprintln!("{at} s: {asked} asked, {heap} bytes of heap, {resident} resident");
            let quick = &mut quickest[usize::from(at > WARM)];
            *quick = begun.elapsed().min(*quick);
            begun = Instant::now();
            let most = if at <= WARM { &mut early } else { &mut late };
            *most = [most[0].max(heap), most[1].max(resident)];
        }
    }
    // Where the machine was slow before and is not now, more lives at once.
    let [before, after] = quickest.map(|it| u64::try_from(it.as_millis()).unwrap());
    for (early, late) in early.into_iter().zip(late) {
        let as_many = early * before.max(after) / after;
        // Kept beyond its second, what came would take as much again in each.
        assert!(
            late <= as_many + as_many / 4 + 8 * MIB,
            "{early}, and then {late}; {before} ms, and then {after} ms"
        );
    }
}

/// Each value is asked for twice: it is loaded, and then found.
async fn ask(cache: &Cache<String>, number: u64) {
    let load = move || async move { Ok::<_, Infallible>(Some("x".repeat(500))) };
    let value = cache.get_or_load(&(number / 2).to_string(), load).await;
    assert!(value.unwrap().is_some());
}

/// The bytes that are allocated now.
fn live() -> u64 {
    u64::try_from(HEAP.current_usage()).unwrap()
}

/// A number of bytes that the system counts for this process.
fn of_process(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() * 1_024
}
