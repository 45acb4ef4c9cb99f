//! Invalidations that L2 has not confirmed yet.
//!
//! A key is marked *before* it is dropped from L1 and stays marked until L2
//! confirmed. While it is marked, this process neither reads nor fills it in
//! L2. The number of marks is bounded; what does not fit turns L2 off for as
//! long as an old value could live there.
//!
//! Where there are [`Notes`], what L2 did not confirm is noted in them, on disk,
//! and is marked again when the process is back.
//!
//! It sends nothing; [`far`](crate::far) does.

mod notes;
mod order;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maxscale_core::Chain;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::JournalError;
use crate::message::News;

pub(crate) use notes::Notes;
pub(crate) use order::{Order, Target};

#[derive(Debug)]
pub(crate) struct Pending {
    limit: usize,
    state: Arc<Mutex<State>>,
    journal: Option<Notes>,
    /// Something is due.
    pub(crate) due: Notify,
}

/// What a journal has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// It is not confirmed.
    Change(Target),
    /// Something did not fit: L2 is off for so long.
    Off(Duration),
}

/// How a note of that kind begins.
const OFF: &str = "off:";

/// An invalidation to send; confirmed or handed back exactly once.
///
/// Dropped unconfirmed (the caller gave up, the answer was an error), it
/// becomes due for another attempt.
#[derive(Debug)]
pub(crate) struct Mark<'a> {
    pending: &'a Pending,
    pub(crate) order: Order,
    /// `None` if there was no room to remember it.
    seq: Option<u64>,
    confirmed: bool,
}

#[derive(Debug, Default)]
struct State {
    next_seq: u64,
    marks: HashMap<Arc<str>, Entry>,
    off: Option<Off>,
}

/// Something did not fit.
#[derive(Clone, Copy, Debug)]
struct Off {
    until: Instant,
    /// For how long it was when it began.
    span: Duration,
    noted: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    /// The latest invalidation of the key; confirming it covers the earlier ones.
    seq: u64,
    order: Order,
    due: bool,
    /// Whether an attempt has failed.
    failed: bool,
    /// The number of its record in the journal.
    noted: Option<u64>,
}

/// Opens a journal, and reads what it has from before. Blocks.
pub(crate) fn open_journal(path: &Path) -> Result<(Notes, Vec<Note>), JournalError> {
    let (journal, texts) = Notes::open(path)?;
    let read = |text: String| {
        Note::read(&text).ok_or_else(|| JournalError::Decode {
            // It may name any value, so that nothing may be served.
            source: "it names nothing that this release knows".into(),
            id: text,
        })
    };
    let notes: Result<_, _> = texts.into_iter().map(read).collect();
    Ok((journal, notes?))
}

// === impl Pending ===

impl Pending {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Arc::default(),
            journal: None,
            due: Notify::new(),
        }
    }

    /// Notes from now on in `journal` what is not confirmed. What it has from
    /// before is marked, and due.
    pub(crate) fn keep_in(&mut self, journal: Notes, notes: Vec<Note>, prefix: &str) {
        self.journal = Some(journal);
        // Everything of before is on disk.
        let noted = Some(0);
        let mut state = self.state();
        for note in notes {
            match note {
                Note::Change(target) => {
                    let entry = state.put(Order::new(prefix, target));
                    (entry.due, entry.failed, entry.noted) = (true, true, noted);
                }
                Note::Off(span) => {
                    // How much of it is over nobody knows.
                    state.turn_off(span);
                    state.off = state.off.map(|off| Off { noted, ..off });
                }
            }
        }
        drop(state);
        self.due.notify_one();
    }

    /// Marks what `order` names. Without room for it, L2 is off for `off` from now.
    pub(crate) fn mark(&self, mut order: Order, off: Duration) -> Mark<'_> {
        let mut state = self.state();
        let full = state.marks.len() >= self.limit && !state.marks.contains_key(&order.name);
        let seq = if full {
            state.turn_off(off);
            None
        } else {
            let entry = state.put(order);
            order = entry.order.clone();
            Some(entry.seq)
        };
        Mark {
            pending: self,
            order,
            seq,
            confirmed: false,
        }
    }

    /// Whether L2 must not be used for what is marked as `name`.
    pub(crate) fn bars(&self, name: &str) -> bool {
        let mut state = self.state();
        if let Some(off) = state.off {
            if Instant::now() < off.until {
                return true;
            }
            state.off = None;
            // The journal need not know any more.
            self.due.notify_one();
        }
        state.marks.contains_key(name)
    }

    /// Returns once what is marked as `name` is in the journal, if there is one
    /// and it is not confirmed meanwhile; or that it did not fit.
    pub(crate) async fn note(&self, name: &str) {
        let Some(journal) = &self.journal else { return };
        let noted = {
            let mut state = self.state();
            let State { marks, off, .. } = &mut *state;
            if let Some(entry) = marks.get_mut(name) {
                let push = || journal.push(&entry.order.target.news().to_string());
                *entry.noted.get_or_insert_with(push)
            } else if let Some(off) = off {
                let text = Note::Off(off.span).to_string();
                *off.noted.get_or_insert_with(|| journal.push(&text))
            } else {
                return;
            }
        };
        if let Err(error) = journal.sync(noted).await {
            tracing::error!(error = %Chain(&error), "an unconfirmed invalidation is not in the journal");
        }
    }

    /// Drops from the journal what was confirmed since.
    pub(crate) async fn tidy(&self) {
        let Some(journal) = &self.journal else { return };
        let state = self.state.clone();
        let needed = move || lock(&state).noted();
        if let Err(error) = journal.tidy(needed).await {
            tracing::error!(error = %Chain(&error), "the journal is not tidied up");
        }
    }

    /// Takes all that is due; each becomes due again unless it is confirmed.
    pub(crate) fn take_due(&self) -> Vec<Mark<'_>> {
        let mut state = self.state();
        let due = state.marks.iter_mut().filter(|(_, entry)| entry.due);
        due.map(|(_, entry)| {
            entry.due = false;
            Mark {
                pending: self,
                order: entry.order.clone(),
                seq: Some(entry.seq),
                confirmed: false,
            }
        })
        .collect()
    }

    /// How many of which an attempt has failed. One that is on its way for the first
    /// time is not late yet.
    pub(crate) fn failed(&self) -> usize {
        let state = self.state();
        state.marks.values().filter(|entry| entry.failed).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl State ===

impl State {
    /// Enters a new order, which stands for the earlier ones of its name too.
    fn put(&mut self, mut order: Order) -> &mut Entry {
        self.next_seq += 1;
        let (mut noted, mut failed) = (None, false);
        if let Some(earlier) = self.marks.get(&order.name) {
            order.cover(&earlier.order);
            failed = earlier.failed;
            // What is noted has to say as much.
            noted = earlier.noted.filter(|_| order == earlier.order);
        }
        let entry = Entry {
            seq: self.next_seq,
            order: order.clone(),
            due: false,
            failed,
            noted,
        };
        let place = self.marks.entry(order.name);
        place.insert_entry(entry).into_mut()
    }

    fn turn_off(&mut self, span: Duration) {
        let until = Instant::now() + span;
        let noted = self.off.filter(|off| off.span >= span);
        self.off = Some(Off {
            until: self.off.map_or(until, |off| off.until.max(until)),
            span: self.off.map_or(span, |off| off.span.max(span)),
            noted: noted.and_then(|off| off.noted),
        });
    }

    /// What the journal has to keep.
    fn noted(&self) -> Vec<String> {
        let marks = self.marks.values().filter(|entry| entry.noted.is_some());
        let marks = marks.map(|entry| entry.order.target.news().to_string());
        let off = self.off.filter(|off| off.noted.is_some());
        let off = off.map(|off| Note::Off(off.span).to_string());
        marks.chain(off).collect()
    }
}

// === impl Note ===

impl Note {
    fn read(text: &str) -> Option<Self> {
        match text.strip_prefix(OFF) {
            Some(millis) => Some(Self::Off(Duration::from_millis(millis.parse().ok()?))),
            None => News::read(text).map(|news| Self::Change(Target::of(news))),
        }
    }
}

/// As the journal has it.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(target) => target.news().fmt(f),
            Self::Off(span) => write!(f, "{OFF}{}", span.as_millis()),
        }
    }
}

// === impl Mark ===

impl Mark<'_> {
    /// L2 confirmed an attempt that was sent after the mark was made.
    pub(crate) fn confirm(mut self) {
        self.confirmed = true;
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        let Some(seq) = self.seq else { return };
        let mut state = self.pending.state();
        // A later invalidation of the key has a mark of its own.
        let Some(entry) = state
            .marks
            .get_mut(&self.order.name)
            .filter(|e| e.seq == seq)
        else {
            return;
        };
        if self.confirmed {
            let noted = entry.noted.is_some();
            state.marks.remove(&self.order.name);
            if noted {
                // The journal need not know any more.
                self.pending.due.notify_one();
            }
        } else {
            (entry.due, entry.failed) = (true, true);
            self.pending.due.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
