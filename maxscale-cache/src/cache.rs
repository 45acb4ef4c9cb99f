//! A cache of one type: read, load once, invalidate.

mod ask;
mod change;
mod fetch;
mod many;
mod spec;
mod token;
mod write;

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use crate::codec::Codec;
use crate::error::CacheError;
use crate::hub::Hub;
use crate::key;
use crate::l1::{Entry, NearKey, Probe, Stamp, State};
use crate::schemas::Schema;
use crate::tags::{Held, Tag};
use crate::ticks::micros;

pub use spec::CacheSpec;
pub use token::{Token, TokenError};

use fetch::{Aim, Fetch, Look, value_of};

/// Values of one type by id. Cheap to clone; see [`Hub::cache`].
pub struct Cache<V> {
    hub: Hub,
    schema: Arc<Schema>,
    /// The tag that all values of the kind have.
    all: Arc<Tag>,
    spec: CacheSpec,
    l1_ttl: u64,
    version_of: Option<fn(&V) -> u64>,
    codec: Arc<dyn Codec<V>>,
    naming: Option<Naming<V>>,
}

/// Values that name tags themselves.
struct Naming<V> {
    names_of: fn(&V) -> Vec<String>,
    /// What moves before any tag of the kind does.
    any: Arc<Tag>,
}

type Answer<V, E> = Result<Option<Arc<V>>, CacheError<E>>;

/// What a caller wants to have.
#[derive(Clone, Copy, Debug, Default)]
struct Wish<'a> {
    tags: &'a [&'a str],
    at_least: Option<Token>,
}

// === impl Cache ===

impl<V> Cache<V>
where
    V: Send + Sync + 'static,
{
    /// The most tags that a value can have.
    pub const MAX_TAGS: usize = 16;

    pub(crate) fn new(hub: Hub, spec: CacheSpec, codec: Arc<dyn Codec<V>>) -> Self {
        let shared = hub.shared();
        let kind = key::part(spec.kind);
        let lives = spec.longest().saturating_add(shared.load_timeout);
        let schema = shared.far.register(&kind, spec.version, lives);
        let all = shared.tags.get(&key::of_all(&shared.far.prefix, &kind));
        Self {
            l1_ttl: micros(spec.l1_ttl),
            hub,
            schema,
            all,
            spec,
            version_of: None,
            codec,
            naming: None,
        }
    }

    /// The same cache, which knows the versions of its values: numbers that rise
    /// with each change, from 1 on. [`put_if_newer`](Self::put_if_newer) compares
    /// by them.
    #[must_use]
    pub fn versioned_by(mut self, version_of: fn(&V) -> u64) -> Self {
        self.version_of = Some(version_of);
        self
    }

    /// The same cache, whose values have tags that are known only once they are
    /// loaded, beside those that their callers give: `names_of` reads them out.
    ///
    /// They are dropped with them as with [others](Self::get_or_load_tagged), also
    /// if that happens during the load. What costs that: while a tag of the kind is
    /// being dropped, whichever it is, values that are being loaded with tags of
    /// their own are returned and not kept; a drop of a tag asks L2 twice, and a
    /// load once more.
    ///
    /// All processes have to do so, or none.
    #[must_use]
    pub fn tagged_by(mut self, names_of: fn(&V) -> Vec<String>) -> Self {
        let shared = self.hub.shared();
        let key = key::of_any_tag(&shared.far.prefix, &self.schema.kind);
        let any = shared.tags.get(&key);
        self.naming = Some(Naming { names_of, any });
        self
    }

    /// The value of `id` if a tier has it. Loads nothing.
    pub async fn get(&self, id: &str) -> Option<Arc<V>> {
        let part = key::part_of(id);
        let probe = self.probe(&part);
        if let Some(value) = self.at_hand(&probe, |_| true) {
            return value;
        }
        let entry = self.near(&probe);
        if let Some((entry, State::Fresh)) = &entry {
            return self.serve(entry)?;
        }
        let fetch = self.fetch(&probe.to_key(), None, Wish::default());
        if let Some(value) = fetch.pinned() {
            return value;
        }
        let known = entry.as_ref().map(|(entry, _)| entry);
        let old = match fetch.look_far(known).await {
            Look::Fresh(entry) => return value_of(&entry)?,
            Look::Stale(entry) => Some(entry),
            Look::Nothing | Look::Off => {
                entry.and_then(|(entry, state)| (state == State::Stale).then_some(entry))
            }
        };
        let value = fetch.serve_while_revalidating(&old?)?;
        self.hub.shared().counters.stale.add(1);
        value
    }

    /// The value of `id` if this process has it in its memory. Asks nobody, and so
    /// never waits.
    pub fn peek(&self, id: &str) -> Option<Arc<V>> {
        let part = key::part_of(id);
        let probe = self.probe(&part);
        if let Some(value) = self.at_hand(&probe, |_| true) {
            return value;
        }
        match self.near(&probe) {
            Some((entry, State::Fresh)) => self.serve(&entry)?,
            _ => self.pinned(&probe.to_key())?,
        }
    }

    /// What `look` says of what [`peek`](Self::peek) gives, which is not cloned for it:
    /// a reference count is in the way of all threads that ask for one value.
    #[cfg(feature = "http")]
    pub(crate) fn peek_at<T>(&self, id: &str, look: impl Fn(&V) -> T) -> Option<T> {
        let part = key::part_of(id);
        let probe = self.probe(&part);
        let shared = self.hub.shared();
        let look_at = |entry: &Entry| {
            let value = entry.value.as_ref()?.downcast_ref()?;
            shared.counters.l1_hits.add(1);
            Some(look(value))
        };
        if let Some(seen) = shared.at_hand(&probe, self.l1_ttl, look_at) {
            return Some(seen);
        }
        match self.near(&probe) {
            Some((entry, State::Fresh)) => look_at(&entry),
            _ => Some(look(&*self.pinned(&probe.to_key())??)),
        }
    }

    /// The value of `id`, loaded by `load` if no tier has it.
    ///
    /// At most one load per id runs in this process; callers that come
    /// meanwhile get its answer, and callers that give up do not cancel it: it
    /// runs in a task of its own. Only who comes after an invalidation of the
    /// id never gets the answer of a load from before; a new one starts, and who
    /// waits for the one from before may get what the new one finds. Of several
    /// processes that share L2, one loads, and the others wait for it as long as
    /// it lives.
    ///
    /// `None` means that there is no such value; see
    /// [`CacheSpec::absent_ttl`]. Invalidate after creating a value too: a load
    /// under way may have missed it.
    ///
    /// A load that asks this cache for the same id waits for itself until the
    /// hub's limits end it with an error.
    ///
    /// # Errors
    ///
    /// See [`CacheError`]. An L2 that is down is none.
    pub async fn get_or_load<F, Fut, E>(
        &self,
        id: &str,
        load: F,
    ) -> Result<Option<Arc<V>>, CacheError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        self.ask(id, Wish::default(), load).await
    }

    /// The value of `id`, loaded anew though a tier may have one, which is then
    /// replaced.
    ///
    /// Until the new value is there the old one is served, also if the load fails or
    /// finds none. Like [`get_or_load`](Self::get_or_load) it joins a load that is
    /// under way, runs in a task of its own, and never puts in what was loaded
    /// before an invalidation.
    ///
    /// # Errors
    ///
    /// See [`CacheError`]. An L2 that is down is none.
    pub async fn refresh<F, Fut, E>(
        &self,
        id: &str,
        load: F,
    ) -> Result<Option<Arc<V>>, CacheError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let part = key::part_of(id);
        let near = self.probe(&part).to_key();
        self.fly(&near, Aim::Anew, Wish::default(), load).await
    }

    /// As [`get_or_load`](Self::get_or_load); what is loaded is dropped when
    /// one of `tags` is [invalidated](Self::invalidate_tag), too.
    ///
    /// With more than [`MAX_TAGS`](Self::MAX_TAGS) nothing is kept.
    ///
    /// # Errors
    ///
    /// See [`CacheError`].
    pub async fn get_or_load_tagged<F, Fut, E>(
        &self,
        id: &str,
        tags: &[&str],
        load: F,
    ) -> Result<Option<Arc<V>>, CacheError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let at_least = None;
        self.ask(id, Wish { tags, at_least }, load).await
    }

    /// As [`get_or_load`](Self::get_or_load), and never older than the change
    /// that `token` is of, in whichever process that was made.
    ///
    /// # Errors
    ///
    /// See [`CacheError`].
    pub async fn get_min_version<F, Fut, E>(
        &self,
        id: &str,
        token: Token,
        load: F,
    ) -> Result<Option<Arc<V>>, CacheError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let at_least = Some(token);
        let tags = &[];
        self.ask(id, Wish { tags, at_least }, load).await
    }

    /// The kind's own tag, the one that moves with any if values name their own, and
    /// these, as they are now.
    fn hold(&self, tags: &[&str]) -> Arc<[Held]> {
        let shared = self.hub.shared();
        let prefix = &shared.far.prefix;
        let held = tags.iter().map(|tag| {
            let key = key::of_tag(prefix, &self.schema.kind, &key::part_of(tag));
            shared.tags.get(&key).hold()
        });
        let any = self.naming.iter().map(|naming| naming.any.hold());
        let own = std::iter::once(self.all.hold()).chain(any);
        own.chain(held).collect()
    }

    #[inline]
    fn probe<'a>(&self, part: &'a str) -> Probe<'a> {
        self.hub.shared().probe(&self.schema, part)
    }

    /// What this process has, and what it is good for. What is good for
    /// nothing is left out.
    #[inline]
    fn near(&self, probe: &Probe<'_>) -> Option<(Entry, State)> {
        self.hub.shared().near(probe, self.l1_ttl)
    }

    /// The fresh value that this thread has at hand, if it is `good` for who asks.
    #[inline]
    fn at_hand(
        &self,
        probe: &Probe<'_>,
        good: impl FnOnce(&Entry) -> bool,
    ) -> Option<Option<Arc<V>>> {
        let shared = self.hub.shared();
        shared.at_hand(probe, self.l1_ttl, |entry| {
            good(entry).then(|| self.serve(entry))?
        })
    }

    /// `None` if the entry is of another type.
    #[inline]
    fn serve(&self, entry: &Entry) -> Option<Option<Arc<V>>> {
        let value = value_of(entry)?;
        self.hub.shared().counters.l1_hits.add(1);
        Some(value)
    }

    /// What was accepted for the key and is not in the source yet.
    fn pinned(&self, near: &NearKey) -> Option<Option<Arc<V>>> {
        self.hub.shared().pinned(near)
    }

    fn fetch(
        &self,
        near: &NearKey,
        begun: Option<(Stamp, Arc<[Held]>)>,
        wish: Wish<'_>,
    ) -> Fetch<V> {
        let shared = self.hub.shared().clone();
        let begun = begun.unwrap_or_else(|| (shared.stamp(near), self.hold(wish.tags)));
        let schema = self.schema.clone();
        let key = key::of_parts(
            &shared.far.prefix,
            &schema.kind,
            near.part(),
            schema.version,
        );
        Fetch {
            shared,
            schema,
            spec: self.spec,
            near: near.clone(),
            key: key.into(),
            stamp: begun.0,
            tags: begun.1,
            at_least: wish.at_least,
            aim: Aim::Any,
            version_of: self.version_of,
            codec: self.codec.clone(),
            names_of: self.naming.as_ref().map(|naming| naming.names_of),
        }
    }
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            schema: self.schema.clone(),
            all: self.all.clone(),
            spec: self.spec,
            l1_ttl: self.l1_ttl,
            version_of: self.version_of,
            codec: self.codec.clone(),
            naming: self.naming.clone(),
        }
    }
}

impl<V> Clone for Naming<V> {
    fn clone(&self) -> Self {
        Self {
            names_of: self.names_of,
            any: self.any.clone(),
        }
    }
}

impl<V> std::fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

/// Any number from 0 up to 1.
pub(crate) fn draw() -> f64 {
    // Every `RandomState` differs from the one before and between processes.
    let draw = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(draw).unwrap_or(0)) / f64::from(u32::MAX)
}
