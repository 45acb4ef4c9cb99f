//! What a caller changed: dropped, marked, or put in its place.

use std::sync::Arc;

use maxscale_core::fact::Invalidation;

use super::{Cache, Token, Wish};
use crate::hub::Invalidated;
use crate::key;
use crate::pending::{Order, Target};

impl<V> Cache<V>
where
    V: Send + Sync + 'static,
{
    /// Makes sure that nobody is served what `id` was until now.
    ///
    /// Call it after the change is committed. In this process the old value is
    /// gone at once, also one that is being loaded, whatever becomes of L2 and
    /// also if the caller gives up waiting. L2 drops it and tells the other
    /// processes; if it does not confirm that, it is asked again until it does.
    pub async fn invalidate(&self, id: &str) -> Invalidated {
        let order = self.hub.shared().order(&self.schema.kind, id, false);
        self.carry_out(order).await
    }

    /// As [`invalidate`](Self::invalidate), and gives a token by which any
    /// process can [read](Self::get_min_version) what is at least as new.
    pub async fn invalidate_with_token(&self, id: &str) -> (Invalidated, Token) {
        let order = self.hub.shared().order(&self.schema.kind, id, false);
        let done = self.hub.shared().change(order).await;
        let done = done.as_deref();
        (Invalidated::of(done), Token::of(done))
    }

    /// The record of an invalidation, to be carried by something else (a queue,
    /// in the transaction that makes the change) and [applied](crate::Hub::apply) there.
    pub fn invalidation(&self, id: &str) -> Invalidation {
        Invalidation {
            kind: self.spec.kind.into(),
            id: id.into(),
        }
    }

    /// Asks for `id` to be loaded again. Until that is done, it may be served
    /// as the cache serves what is not fresh
    /// ([`stale_while_revalidating`](crate::CacheSpec::stale_while_revalidating),
    /// [`stale_if_error`](crate::CacheSpec::stale_if_error)).
    pub async fn mark_stale(&self, id: &str) -> Invalidated {
        let order = self.hub.shared().order(&self.schema.kind, id, true);
        self.carry_out(order).await
    }

    /// Drops all values that were loaded with `tag`, as
    /// [`invalidate`](Self::invalidate) does one. No store is searched.
    pub async fn invalidate_tag(&self, tag: &str) -> Invalidated {
        let part = key::part(tag);
        let kind = self.schema.kind.clone();
        self.carry_out(Order {
            name: key::of_tag(&self.hub.shared().far.prefix, &kind, &part).into(),
            target: Target::Tag {
                kind,
                part: part.into(),
                named: self.naming.is_some(),
            },
        })
        .await
    }

    /// Drops all values of this kind, as [`invalidate`](Self::invalidate) does
    /// one. No store is searched.
    pub async fn clear(&self) -> Invalidated {
        let kind = self.schema.kind.clone();
        self.carry_out(Order {
            name: self.all.key.clone(),
            target: Target::All { kind },
        })
        .await
    }

    /// Drops what `id` was, everywhere, and puts `value` in its place.
    ///
    /// Call it after the change is committed. Of two writers at once the last
    /// one here wins, which need not be the last one there: where that can
    /// happen, use [`put_if_newer`](Self::put_if_newer) or
    /// [`invalidate`](Self::invalidate).
    pub async fn put(&self, id: &str, value: V) -> Invalidated {
        self.put_if(id, Arc::new(value), None).await
    }

    /// As [`put`](Self::put), if there is a value of an older version in L2. Else
    /// the old one is only dropped, and the next read loads.
    ///
    /// Safe against other writers, whichever way they tell of their changes: an
    /// older value is there only if no newer one was told of. The cache has to
    /// know the versions of what it loads
    /// ([`versioned_by`](Self::versioned_by)).
    pub async fn put_if_newer(&self, id: &str, value: V, version: u64) -> Invalidated {
        self.put_if(id, Arc::new(value), Some(version)).await
    }

    pub(super) async fn put_if(
        &self,
        id: &str,
        value: Arc<V>,
        version: Option<u64>,
    ) -> Invalidated {
        let shared = self.hub.shared();
        let order = shared.order(&self.schema.kind, id, false);
        let mark = shared.begin(order);
        // Whoever drops it from now on refuses this value.
        let part = key::part_of(id);
        let fetch = self.fetch(&self.probe(&part).to_key(), None, Wish::default());
        let done = shared.far.send(mark).await;
        if let Some(done) = &done
            && let Some((_, bumped)) = done.iter().find(|(key, _)| **key == *fetch.key)
            && version.is_none_or(|version| (1..version).contains(&bumped.before))
        {
            fetch.put(value, bumped.fence, version).await;
        }
        Invalidated::of(done.as_deref())
    }

    async fn carry_out(&self, order: Order) -> Invalidated {
        Invalidated::of(self.hub.shared().change(order).await.as_deref())
    }
}
