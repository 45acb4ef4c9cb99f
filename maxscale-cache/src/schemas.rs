//! The kinds and versions of values: those of this process, and those that
//! others say they use.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::remote::Beat;
use crate::ticks::micros;

/// One form of one kind of values, in use here.
#[derive(Debug)]
pub(crate) struct Schema {
    /// As keys write it.
    pub(crate) kind: Arc<str>,
    pub(crate) version: u32,
    /// Tells it from the others in L1.
    pub(crate) number: u32,
    /// Whether L2 may have values of it.
    is_far: bool,
    name: Arc<str>,
    /// How long a value may live in L2, in microseconds.
    lives: AtomicU64,
    /// From which tick on L2 may be used for it; [`UNKNOWN`] before the others know.
    usable_at: AtomicU64,
}

/// The forms of one kind.
type Versions = BTreeMap<u32, Arc<Schema>>;

/// What is in use, here and elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    own: RwLock<HashMap<Arc<str>, Versions>>,
    next: AtomicU32,
    view: Mutex<View>,
}

/// What the board said.
#[derive(Debug, Default)]
struct View {
    versions: HashMap<String, BTreeSet<u32>>,
    /// When it was asked.
    asked: Option<Instant>,
    valid_for: Duration,
    now: u64,
}

const UNKNOWN: u64 = u64::MAX;

// === impl Schemas ===

impl Schemas {
    /// Notes that this process uses a form, whose values live for at most `lives` in L2.
    pub(crate) fn register(&self, kind: &str, version: u32, lives: Duration) -> Arc<Schema> {
        let schema = self.get(kind, version, true);
        schema.lives.fetch_max(micros(lives), Ordering::SeqCst);
        schema
    }

    /// Notes that this process has values of a kind that L2 knows nothing of. They
    /// have no version: nobody else ever reads one.
    pub(crate) fn register_near(&self, kind: &str) -> Arc<Schema> {
        self.get(kind, 0, false)
    }

    fn get(&self, kind: &str, version: u32, is_far: bool) -> Arc<Schema> {
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        let versions = own.entry(kind.into()).or_default();
        let schema = versions.entry(version).or_insert_with(|| {
            Arc::new(Schema {
                kind: kind.into(),
                version,
                number: self.next.fetch_add(1, Ordering::Relaxed),
                is_far,
                name: format!("{kind}:{version}").into(),
                lives: AtomicU64::new(0),
                usable_at: AtomicU64::new(UNKNOWN),
            })
        });
        schema.clone()
    }

    /// The forms of a kind in this process.
    pub(crate) fn own(&self, kind: &str) -> Vec<Arc<Schema>> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        own.get(kind)
            .map_or_else(Vec::new, |versions| versions.values().cloned().collect())
    }

    /// What to tell the others.
    pub(crate) fn adverts(&self) -> Vec<(Arc<str>, Duration)> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let all = own.values().flat_map(Versions::values);
        let far = all.filter(|it| it.is_far);
        far.map(|it| {
            let lives = Duration::from_micros(it.lives.load(Ordering::SeqCst));
            (it.name.clone(), lives)
        })
        .collect()
    }

    /// Takes in what the board said; it was asked at `asked`, and now is `now` ticks.
    pub(crate) fn take_in(&self, beat: &Beat, asked: Instant, now: u64) {
        let mut versions: HashMap<String, BTreeSet<u32>> = HashMap::new();
        let waits = beat.schemas.iter().filter_map(|(name, wait)| {
            let (kind, version) = name.rsplit_once(':')?;
            Some((kind, version.parse().ok()?, *wait))
        });
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        for (kind, version, wait) in waits {
            versions.entry(kind.to_owned()).or_default().insert(version);
            if let Some(schema) = own.get(kind).and_then(|it| it.get(&version)) {
                let from = now.saturating_add(micros(wait));
                schema.usable_at.store(from, Ordering::SeqCst);
            }
        }
        drop(own);
        let mut view = self.view();
        if view.asked.is_none_or(|before| before <= asked) {
            *view = View {
                versions,
                asked: Some(asked),
                valid_for: beat.valid_for,
                now: beat.now,
            };
        }
    }

    /// The store's time of what was taken in last, 0 for nothing.
    pub(crate) fn seen(&self) -> u64 {
        self.view().now
    }

    /// Whether it is known which versions there are, for a change that began at `since`.
    pub(crate) fn is_known(&self, since: Instant) -> bool {
        let view = self.view();
        view.asked.is_some_and(|asked| {
            if view.valid_for.is_zero() {
                asked >= since
            } else {
                asked.elapsed() <= view.valid_for
            }
        })
    }

    /// All versions of a kind of which values may live in L2.
    pub(crate) fn versions(&self, kind: &str) -> BTreeSet<u32> {
        let mut versions = self.view().versions.get(kind).cloned().unwrap_or_default();
        let own = self.own(kind);
        let far = own.iter().filter(|schema| schema.is_far);
        versions.extend(far.map(|schema| schema.version));
        versions
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Schema ===

impl Schema {
    /// Whether the others know of it, so that their changes reach its values.
    /// `None` before the board was asked.
    pub(crate) fn is_usable(&self, now: u64) -> Option<bool> {
        match self.usable_at.load(Ordering::SeqCst) {
            UNKNOWN => None,
            from => Some(now >= from),
        }
    }

    /// Lets it be used at once, where there are no others.
    pub(crate) fn use_alone(&self) {
        self.usable_at.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: Duration = Duration::from_secs(3);

    fn beat(schemas: &[(&str, u64)]) -> Beat {
        let schemas = schemas
            .iter()
            .map(|(name, wait)| ((*name).to_owned(), Duration::from_micros(*wait)));
        Beat::new(1, 1, schemas.collect(), VALID)
    }

    #[tokio::test(start_paused = true)]
    async fn versions_of_others_count_while_the_view_is_young() {
        let schemas = Schemas::default();
        let start = Instant::now();
        schemas.register("user", 1, VALID);
        assert!(!schemas.is_known(start));
        schemas.take_in(&beat(&[("user:1", 0), ("user:2", 0)]), start, 10);
        assert_eq!(schemas.versions("user"), BTreeSet::from([1, 2]));
        assert!(schemas.is_known(start));
        tokio::time::advance(VALID + Duration::from_millis(1)).await;
        assert!(!schemas.is_known(start));
    }

    #[tokio::test(start_paused = true)]
    async fn near_kind_is_told_to_nobody_and_has_no_key() {
        let schemas = Schemas::default();
        schemas.register_near("seen");
        assert!(schemas.adverts().is_empty());
        assert!(schemas.versions("seen").is_empty());
        assert_eq!(schemas.own("seen").len(), 1, "it is dropped all the same");
    }

    #[tokio::test(start_paused = true)]
    async fn new_version_waits_until_the_others_know() {
        let schemas = Schemas::default();
        let schema = schemas.register("user", 2, VALID);
        assert_eq!(schema.is_usable(10), None);
        schemas.take_in(&beat(&[("user:2", 50)]), Instant::now(), 10);
        assert_eq!(schema.is_usable(59), Some(false));
        assert_eq!(schema.is_usable(60), Some(true));
    }
}
