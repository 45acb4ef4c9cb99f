//! A sink in this process: a table that can be down, and refuses some rows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use maxscale_cache::behind::{DeadLetter, Op, SinkError};
use maxscale_core::BoxError;

#[derive(Clone, Default)]
pub(super) struct Table(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Version and value.
    rows: HashMap<String, (u64, Option<u64>)>,
    down: bool,
    poison: HashSet<String>,
    panics: HashSet<String>,
    letters: Vec<(String, Option<u64>)>,
    letters_to_lose: u32,
    writes: usize,
    failures: usize,
}

impl Table {
    pub(super) fn get(&self, id: &str) -> Option<u64> {
        self.state().rows.get(id)?.1
    }

    /// Writes past everybody.
    pub(super) fn set(&self, id: &str, value: u64) {
        let mut state = self.state();
        let version = state.rows.get(id).map_or(0, |row| row.0);
        state.rows.insert(id.to_owned(), (version, Some(value)));
    }

    pub(super) fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    pub(super) fn poison(&self, id: &str) {
        self.state().poison.insert(id.to_owned());
    }

    pub(super) fn panic_at(&self, id: &str) {
        self.state().panics.insert(id.to_owned());
    }

    pub(super) fn lose_letters(&self, count: u32) {
        self.state().letters_to_lose = count;
    }

    pub(super) fn letters(&self) -> Vec<(String, Option<u64>)> {
        self.state().letters.clone()
    }

    /// How many rows were written.
    pub(super) fn writes(&self) -> usize {
        self.state().writes
    }

    /// How often it was down when it was asked.
    pub(super) fn failures(&self) -> usize {
        self.state().failures
    }

    pub(super) async fn write(self, ops: Vec<Op<u64>>) -> Result<(), SinkError> {
        tokio::task::yield_now().await;
        let bad = {
            let state = self.state();
            ops.iter().any(|op| state.panics.contains(&*op.id))
        };
        assert!(!bad, "a row that nobody can write");
        let mut state = self.state();
        if state.down {
            state.failures += 1;
            return Err(SinkError::Unavailable("down".into()));
        }
        if ops.iter().any(|op| state.poison.contains(&*op.id)) {
            return Err(SinkError::Refused("a row is at fault".into()));
        }
        for op in ops {
            let known = state.rows.get(&*op.id).map_or(0, |row| row.0);
            state.writes += 1;
            if known < op.version {
                let row = (op.version, op.value.as_deref().copied());
                state.rows.insert(op.id.to_string(), row);
            }
        }
        Ok(())
    }

    pub(super) async fn bury(self, letter: DeadLetter<u64>) -> Result<(), BoxError> {
        let mut state = self.state();
        if state.letters_to_lose > 0 {
            state.letters_to_lose -= 1;
            return Err("no room for letters".into());
        }
        let value = letter.op.value.as_deref().copied();
        state.letters.push((letter.op.id.to_string(), value));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}
