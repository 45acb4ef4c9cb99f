use maxscale_core::meter::{HotCounter, Meter, Metric};

use crate::envelope::Unread;

const HITS: Metric = Metric::new(
    "maxscale.cache.hits",
    "{read}",
    "Reads answered by a tier of the cache.",
);
const L3_MISSES: Metric = Metric::new(
    "maxscale.cache.l3.misses",
    "{read}",
    "Values that L2 knows to lie in memcached, and that did not come from there.",
);
const LOADS: Metric = Metric::new(
    "maxscale.cache.loads",
    "{load}",
    "Loads that were started because no tier had the value.",
);
const COALESCED: Metric = Metric::new(
    "maxscale.cache.coalesced",
    "{read}",
    "Reads that waited for a fetch that was under way.",
);
const REJECTED: Metric = Metric::new(
    "maxscale.cache.fills.rejected",
    "{fill}",
    "Values not stored in a tier.",
);
const UNREAD: Metric = Metric::new(
    "maxscale.cache.l2.unread",
    "{value}",
    "Values in L2 that could not be read, and counted as misses.",
);
const REMOTE_ERRORS: Metric = Metric::new(
    "maxscale.cache.remote.errors",
    "{call}",
    "Calls to L2 that gave no answer.",
);
const MISSED: Metric = Metric::new(
    "maxscale.cache.bus.gaps",
    "{gap}",
    "Times that L1 became suspect because an invalidation may have been missed.",
);
const AUDITED: Metric = Metric::new(
    "maxscale.cache.audits",
    "{look}",
    "Looks at values that were invalidated, after the time in which they have to be gone.",
);
const AUDITED_OLD: Metric = Metric::new(
    "maxscale.cache.audits.old",
    "{value}",
    "Values that such a look found in a tier, older than they may be.",
);
pub(crate) const PENDING: Metric = Metric::new(
    "maxscale.cache.invalidations.pending",
    "{key}",
    "Keys whose invalidation L2 did not confirm at once, and not since.",
);

pub(crate) const BYTES: Metric =
    Metric::new("maxscale.cache.l1.size", "By", "What L1 holds, by weight.");
const STALE: Metric = Metric::new(
    "maxscale.cache.stale",
    "{read}",
    "Reads answered by a value that was not fresh any more.",
);

/// What a [`Hub`](crate::Hub) did since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Reads answered by L1.
    pub l1_hits: u64,
    /// Fetches answered by L2.
    pub l2_hits: u64,
    /// Values of those that came from memcached.
    pub l3_hits: u64,
    /// Values that memcached should have had, and had not.
    pub l3_misses: u64,
    /// Values that memcached was not asked for, or gave no answer to, since it is
    /// down or slow.
    pub l3_errors: u64,
    /// Loads started.
    pub loads: u64,
    /// Reads that waited for a fetch already under way.
    pub coalesced: u64,
    /// Values not stored because their key was dropped meanwhile.
    pub rejected_by_fence: u64,
    /// Values not stored because they are too large or cannot be encoded.
    pub rejected_by_size: u64,
    /// Values in L2 of another program, format, codec or feature.
    pub unread_by_form: u64,
    /// Values in L2 that are not as they were written, or not written under their key.
    pub unread_by_damage: u64,
    /// Values in L2 that are longer than one may be, as they are or unpacked.
    pub unread_by_size: u64,
    /// Values in L2 that do not decode as their type.
    pub unread_by_value: u64,
    /// Calls to L2 that gave no answer.
    pub remote_errors: u64,
    /// Reads answered by a value that was not fresh any more.
    pub stale: u64,
    /// Times L1 became suspect because messages may have been missed.
    pub gaps: u64,
    /// Keys whose invalidation L2 did not confirm at once, and not since.
    pub pending: u64,
    /// Looks at what was invalidated; see [`HubBuilder::audit`](crate::HubBuilder::audit).
    pub audited: u64,
    /// Values that such a look found in a tier, older than they may be.
    pub audited_old: u64,
}

#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) l1_hits: HotCounter,
    pub(crate) l2_hits: HotCounter,
    pub(crate) l3_hits: HotCounter,
    pub(crate) l3_misses: HotCounter,
    pub(crate) l3_errors: HotCounter,
    pub(crate) loads: HotCounter,
    pub(crate) coalesced: HotCounter,
    pub(crate) rejected_by_fence: HotCounter,
    pub(crate) rejected_by_size: HotCounter,
    pub(crate) unread_by_form: HotCounter,
    pub(crate) unread_by_damage: HotCounter,
    pub(crate) unread_by_size: HotCounter,
    pub(crate) unread_by_value: HotCounter,
    pub(crate) remote_errors: HotCounter,
    pub(crate) stale: HotCounter,
    pub(crate) gaps: HotCounter,
    pub(crate) audited: HotCounter,
    pub(crate) audited_old: HotCounter,
}

// === impl Stats ===

impl Stats {
    /// How many nines of consistency the [audit](crate::HubBuilder::audit) saw:
    /// 3 if one look in a thousand found an old value. As many looks without any
    /// tell as much at the least. `None` without a look.
    #[expect(clippy::cast_precision_loss, reason = "nobody wants so many digits")]
    pub fn nines(&self) -> Option<f64> {
        let looks = (self.audited > 0).then_some(self.audited as f64)?;
        Some((looks / self.audited_old.max(1) as f64).log10())
    }
}

// === impl Counters ===

impl Counters {
    pub(crate) fn register(meter: &Meter) -> Self {
        let count = |metric, labels: &[_]| HotCounter::register(meter, metric, labels);
        Self {
            l1_hits: count(HITS, &[("tier", "l1")]),
            l2_hits: count(HITS, &[("tier", "l2")]),
            l3_hits: count(HITS, &[("tier", "l3")]),
            l3_misses: count(L3_MISSES, &[("reason", "absent")]),
            l3_errors: count(L3_MISSES, &[("reason", "error")]),
            loads: count(LOADS, &[]),
            coalesced: count(COALESCED, &[]),
            rejected_by_fence: count(REJECTED, &[("reason", "fence")]),
            rejected_by_size: count(REJECTED, &[("reason", "size")]),
            unread_by_form: count(UNREAD, &[("reason", "form")]),
            unread_by_damage: count(UNREAD, &[("reason", "damage")]),
            unread_by_size: count(UNREAD, &[("reason", "size")]),
            unread_by_value: count(UNREAD, &[("reason", "value")]),
            remote_errors: count(REMOTE_ERRORS, &[]),
            stale: count(STALE, &[]),
            gaps: count(MISSED, &[]),
            audited: count(AUDITED, &[]),
            audited_old: count(AUDITED_OLD, &[]),
        }
    }

    /// Counts a value in L2 that is a miss.
    pub(crate) fn unread(&self, why: Unread) {
        match why {
            Unread::Form => self.unread_by_form.add(1),
            Unread::Damaged => self.unread_by_damage.add(1),
            Unread::Size => self.unread_by_size.add(1),
            Unread::Value => self.unread_by_value.add(1),
        }
    }

    pub(crate) fn stats(&self, pending: usize) -> Stats {
        Stats {
            l1_hits: self.l1_hits.get(),
            l2_hits: self.l2_hits.get(),
            l3_hits: self.l3_hits.get(),
            l3_misses: self.l3_misses.get(),
            l3_errors: self.l3_errors.get(),
            loads: self.loads.get(),
            coalesced: self.coalesced.get(),
            rejected_by_fence: self.rejected_by_fence.get(),
            rejected_by_size: self.rejected_by_size.get(),
            unread_by_form: self.unread_by_form.get(),
            unread_by_damage: self.unread_by_damage.get(),
            unread_by_size: self.unread_by_size.get(),
            unread_by_value: self.unread_by_value.get(),
            remote_errors: self.remote_errors.get(),
            stale: self.stale.get(),
            gaps: self.gaps.get(),
            pending: u64::try_from(pending).unwrap_or(u64::MAX),
            audited: self.audited.get(),
            audited_old: self.audited_old.get(),
        }
    }
}
