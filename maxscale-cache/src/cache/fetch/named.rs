//! Tags that a value names itself, which nobody knew before it was loaded.
//!
//! Their own fences do not tell whether one was dropped since the load began: each may
//! be seen for the first time, or be there for the first time. So a kind has one fence
//! more, of *any* tag, which moves *before* a tag does. A load takes it first, then
//! reads the source, then the fences of the tags, and then that of any again. If it
//! still stands, no tag had moved when its fence was read: each is from before the
//! load, or moves later and takes the value with it.

use std::sync::Arc;

use futures_util::future::join_all;

use super::Fetch;
use super::claim::Ground;
use super::store::Timing;
use crate::cache::Cache;
use crate::remote::Fence;
use crate::tags::Held;

/// Where in [`Fetch::tags`] the tag is that moves with any.
const ANY: usize = 1;

// === impl Fetch ===

impl<V> Fetch<V>
where
    V: Send + Sync + 'static,
{
    /// As [`store`](Self::store), with the tags that the value names.
    pub(super) async fn store_named(
        &self,
        value: Option<Arc<V>>,
        encoded: Option<Vec<u8>>,
        size: usize,
        ground: Option<Ground>,
        timing: Timing,
    ) -> bool {
        let Some(names_of) = self.names_of else {
            return self.store(value, encoded, size, ground, timing).await;
        };
        let names = value.as_deref().map(names_of).unwrap_or_default();
        let is_claimed = ground.is_some();
        // Held before it is looked whether any has moved.
        let named = self.with_tags(&names);
        let ground = match (ground, names.is_empty()) {
            (Some(ground), false) => self.ground_with(ground, &named).await,
            (Some(ground), true) => Ok(Some(without_any(ground))),
            (None, _) => Ok(None),
        };
        let too_many = named.tags.len() > Cache::<V>::MAX_TAGS + 1;
        let any_moved = !names.is_empty() && !self.tags[ANY].is_current();
        if let Ok(ground) = ground
            && !too_many
            && !any_moved
        {
            return named.store(value, encoded, size, ground, timing).await;
        }
        if !too_many {
            self.shared.counters.rejected_by_fence.add(1);
        }
        if is_claimed {
            self.shared.far.release(&self.key).await;
        }
        false
    }

    /// This fetch for a value that has these tags too.
    fn with_tags(&self, names: &[String]) -> Self {
        let own = self.tags.iter().enumerate();
        let own = own.filter(|(at, _)| *at != ANY).map(|(_, held)| held);
        let mut tags: Vec<Held> = own.cloned().collect();
        for name in names {
            let held = self.hold(&crate::key::part_of(name));
            if !tags.iter().any(|known| known.tag.key == held.tag.key) {
                tags.push(held);
            }
        }
        Self {
            shared: self.shared.clone(),
            schema: self.schema.clone(),
            spec: self.spec,
            near: self.near.clone(),
            key: self.key.clone(),
            stamp: self.stamp,
            tags: tags.into(),
            at_least: self.at_least,
            aim: self.aim,
            version_of: self.version_of,
            codec: self.codec.clone(),
            names_of: None,
        }
    }

    /// What to store under with the tags of `named`; none if L2 does not tell their
    /// fences, an error if one of them may be from after the load.
    async fn ground_with(&self, ground: Ground, named: &Self) -> Result<Option<Ground>, Moved> {
        let any = ground.tags[ANY];
        let mut ground = without_any(ground);
        let late = &named.tags[ground.tags.len()..];
        let far = &self.shared.far;
        let asked = late.iter().map(|held| far.fence_of(held, self.stamp.epoch));
        let fences: Option<Vec<Fence>> = join_all(asked).await.into_iter().collect();
        let Some(fences) = fences else {
            return Ok(None);
        };
        // Asked of L2 itself: what is believed here may be from before.
        if far.fence_now(&self.tags[ANY].tag.key).await != Some(any) {
            return Err(Moved);
        }
        ground.tags.extend(fences);
        Ok(Some(ground))
    }
}

/// A tag of the kind was dropped since the load began.
#[derive(Debug)]
struct Moved;

fn without_any(mut ground: Ground) -> Ground {
    ground.tags.remove(ANY);
    ground
}
