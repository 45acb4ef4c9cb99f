use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::{Book, Bucket, Reserved, Terms};
use super::{Verdict, Whose};
use crate::clock::Clock;
use crate::limit::table::{Entry, Table};

/// How many buckets and marks are kept.
const CAPACITY: usize = 1 << 17;

/// Attempts in this process, in bounded memory.
pub(super) struct Memory {
    clock: Clock,
    // Secret to this process: nobody outside can make keys collide.
    hashers: [RandomState; 2],
    table: Mutex<Table<Kept>>,
}

#[derive(Debug)]
enum Kept {
    Bucket(Bucket),
    /// A client that succeeded.
    Known,
}

/// What a [`Book`] is kept under.
struct Names {
    pair: u128,
    strangers: u128,
    known: u128,
}

// === impl Memory ===

impl Memory {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            hashers: [RandomState::new(), RandomState::new()],
            table: Mutex::new(Table::new(CAPACITY)),
        }
    }

    pub(super) fn begin(&self, whose: &Whose, terms: &Terms) -> Result<Reserved, i64> {
        self.change(whose, terms, |book, now| book.begin(terms, 0, now))
    }

    /// Gives the wait until the next attempt.
    pub(super) fn settle(
        &self,
        whose: &Whose,
        terms: &Terms,
        reserved: Reserved,
        verdict: Verdict,
    ) -> i64 {
        self.change(whose, terms, |book, now| match verdict {
            Verdict::Failed => book.fail(terms, now),
            Verdict::Succeeded => {
                book.succeed(reserved);
                0
            }
            Verdict::NotMade => {
                book.give_back(reserved);
                0
            }
        })
    }

    /// Knows a client that succeeded elsewhere, for when nobody else can be asked.
    #[cfg(feature = "redis")]
    pub(super) fn know(&self, whose: &Whose, terms: &Terms) {
        self.change(whose, terms, |book, _| book.known = true);
    }

    fn change<T>(
        &self,
        whose: &Whose,
        terms: &Terms,
        change: impl FnOnce(&mut Book, i64) -> T,
    ) -> T {
        let names = self.names(whose);
        let mut table = self.table();
        // Read under the lock, so that no earlier time follows a later one.
        let now = self.clock.now().as_micros();
        let mut book = Book {
            pair: bucket(&table, names.pair).see(&terms.pair, now),
            strangers: bucket(&table, names.strangers).see(&terms.strangers, now),
            known: matches!(table.live(names.known, now), Some(Kept::Known)),
        };
        let before = book.clone();
        let answer = change(&mut book, now);
        let mut put = |key, state, over_at| {
            let entry = Entry {
                key,
                state,
                over_at,
            };
            table.put(entry, now);
        };
        if book.pair != before.pair || book.pair.is_pulled() {
            let over_at = book.pair.over_at(&terms.pair);
            put(names.pair, Kept::Bucket(book.pair), over_at);
        }
        if book.strangers != before.strangers || book.strangers.is_pulled() {
            let over_at = book.strangers.over_at(&terms.strangers);
            put(names.strangers, Kept::Bucket(book.strangers), over_at);
        }
        if book.known && !before.known {
            put(names.known, Kept::Known, now.saturating_add(terms.known));
        }
        answer
    }

    fn names(&self, whose: &Whose) -> Names {
        let name = |what: (u8, &str, &str)| {
            let [high, low] = self.hashers.each_ref().map(|hasher| hasher.hash_one(what));
            u128::from(high) << 64 | u128::from(low)
        };
        Names {
            pair: name((0, &whose.account, &whose.client)),
            strangers: name((1, &whose.account, "")),
            known: name((2, &whose.account, &whose.client)),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table<Kept>> {
        // Nothing panics while holding it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bucket(table: &Table<Kept>, key: u128) -> Bucket {
    match table.get(key) {
        Some(Kept::Bucket(bucket)) => bucket.clone(),
        _ => Bucket::default(),
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}
