use proptest::prelude::*;

use super::*;

const DELAY: Duration = Duration::from_millis(10);
const MOST: usize = 4;
const DEADLY: u32 = 3;

/// What happens to a buffer. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Accept(u8),
    Take { all: bool },
    Settle(usize),
    PutBack(usize),
    Refuse(usize),
    Wait(u8),
    Move,
}

/// The plain form: what each key's newest version is, what is being written,
/// and all that ever was.
#[derive(Default)]
struct Model {
    newest: HashMap<Arc<str>, u64>,
    flying: Vec<Taken<u64>>,
    told: HashMap<Arc<str>, u64>,
}

impl Model {
    fn take(&mut self, taken: Vec<Taken<u64>>) {
        assert!(taken.len() <= MOST);
        for one in taken {
            assert!(
                self.flying.iter().all(|it| it.id != one.id),
                "one flight per key"
            );
            assert_eq!(self.newest.get(&one.id), Some(&one.version), "the newest");
            let before = self.told.insert(one.id.clone(), one.version).unwrap_or(0);
            assert!(before <= one.version, "no version after a higher one");
            self.flying.push(one);
        }
    }

    /// Ends the flight that `choice` chooses.
    fn land(&mut self, choice: usize) -> Option<Taken<u64>> {
        let at = choice.checked_rem(self.flying.len())?;
        Some(self.flying.swap_remove(at))
    }

    fn forget(&mut self, written: &Taken<u64>) {
        if self.newest.get(&written.id) == Some(&written.version) {
            self.newest.remove(&written.id);
        }
    }
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u8).prop_map(Step::Accept),
        3 => any::<bool>().prop_map(|all| Step::Take { all }),
        2 => any::<usize>().prop_map(Step::Settle),
        1 => any::<usize>().prop_map(Step::PutBack),
        2 => any::<usize>().prop_map(Step::Refuse),
        1 => (0..30_u8).prop_map(Step::Wait),
        1 => Just(Step::Move),
    ]
}

struct Run {
    buffer: Buffer<u64>,
    model: Model,
    now: Instant,
    version: u64,
}

impl Run {
    fn step(&mut self, step: Step) {
        match step {
            Step::Accept(key) => {
                self.version += 1;
                let id: Arc<str> = key.to_string().into();
                let (version, place) = (self.version, self.version / 5);
                self.buffer.accept(&id, version, version, place, self.now);
                self.model.newest.insert(id, version);
            }
            Step::Take { all } => {
                let taken = self.buffer.take(self.now, MOST, all);
                self.model.take(taken);
            }
            Step::Settle(choice) => self.settle(choice),
            Step::PutBack(choice) => {
                if let Some(one) = self.model.land(choice) {
                    self.buffer.put_back(&one.id, self.now);
                }
            }
            Step::Refuse(choice) => {
                let Some(one) = self.model.land(choice) else {
                    return;
                };
                let wait = |refusals: u32| DELAY * refusals;
                let ended = self
                    .buffer
                    .refuse(&one.id, one.version, self.now, DEADLY, wait);
                let is_newest = self.model.newest.get(&one.id) == Some(&one.version);
                assert_eq!(ended == Refused::Newer, !is_newest);
                if ended == Refused::Dead {
                    self.model.forget(&one);
                    assert_eq!(self.buffer.settle(&one.id, one.version), Left::Nothing);
                }
            }
            Step::Wait(millis) => self.now += Duration::from_millis(millis.into()),
            Step::Move => {
                let Some(place) = self.buffer.oldest_place() else {
                    return;
                };
                self.version += 5;
                for one in self.buffer.at(Some(place)) {
                    self.buffer.moved(&one.id, one.version, self.version / 5);
                }
                assert_ne!(self.buffer.oldest_place(), Some(place));
            }
        }
    }

    fn settle(&mut self, choice: usize) {
        if let Some(one) = self.model.land(choice) {
            self.model.forget(&one);
            let left = self.buffer.settle(&one.id, one.version);
            let newer = self.model.newest.contains_key(&one.id);
            assert_eq!(left == Left::Newer, newer);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn buffer_writes_the_newest_of_each_key_once_at_a_time_and_forgets_none(
        steps in proptest::collection::vec(steps(), 1..200),
    ) {
        let mut run = Run {
            buffer: Buffer::new(DELAY),
            model: Model::default(),
            now: Instant::now(),
            version: 0,
        };
        for step in steps {
            run.step(step);
            assert_eq!(run.buffer.len(), run.model.newest.len());
            let counted: usize = run.buffer.places.values().sum();
            assert_eq!(counted, run.buffer.len());
        }
        while run.buffer.len() > 0 {
            run.settle(0);
            // Whatever waits is due some day.
            if let Some(due) = run.buffer.next_due() {
                run.now = run.now.max(due);
                let taken = run.buffer.take(run.now, MOST, false);
                assert!(!taken.is_empty());
                run.model.take(taken);
            }
        }
        assert!(run.model.newest.is_empty());
        assert_eq!(run.buffer.oldest_place(), None);
    }
}

fn id(text: &str) -> Arc<str> {
    text.into()
}

#[test]
fn newer_values_do_not_put_off_the_first() {
    let (mut buffer, now) = (Buffer::new(DELAY), Instant::now());
    for version in 1..=10 {
        let at = now + Duration::from_millis(version);
        buffer.accept(&id("k"), version, version, 0, at);
    }
    let due = now + Duration::from_millis(1) + DELAY;
    assert_eq!(buffer.next_due(), Some(due));
    let taken = buffer.take(due, MOST, false);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].version, 10);
}

#[test]
fn full_batch_does_not_wait() {
    let (mut buffer, now) = (Buffer::new(DELAY), Instant::now());
    for version in 1..MOST as u64 {
        buffer.accept(&id(&version.to_string()), version, version, 0, now);
    }
    assert!(buffer.take(now, MOST, false).is_empty());
    buffer.accept(&id("last"), 99, 99, 0, now);
    assert_eq!(buffer.take(now, MOST, false).len(), MOST);
}

#[test]
fn refused_value_is_tried_alone_and_gives_way_to_a_newer_one() {
    let (mut buffer, now) = (Buffer::new(Duration::ZERO), Instant::now());
    let wait = |_| DELAY;
    buffer.accept(&id("bad"), 1, 1, 0, now);
    buffer.take(now, MOST, true);
    assert_eq!(buffer.refuse(&id("bad"), 1, now, 9, wait), Refused::Later);
    buffer.accept(&id("good"), 2, 2, 0, now);
    assert_eq!(
        buffer.take(now, MOST, true).len(),
        1,
        "the other does not wait"
    );
    let taken = buffer.take(now + DELAY, MOST, true);
    assert_eq!(taken.len(), 1);
    assert_eq!(&*taken[0].id, "bad");
    assert_eq!(buffer.refuse(&id("bad"), 1, now, 9, wait), Refused::Later);
    buffer.accept(&id("bad"), 3, 3, 0, now);
    assert_eq!(buffer.take(now, MOST, false)[0].version, 3);
}
