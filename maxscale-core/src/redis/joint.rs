//! Reads that come at once go together.
//!
//! ```text
//!  read ─ a place free? ─ yes ─ a command of its own ──────────────┐
//!            └ no: waits ─ with all who wait, at once, time after time ┴ the place goes to
//!                                                                     who waits, if any
//! ```
//!
//! What is under way is joined by nobody: whoever waits is read for
//! after he came. In a cluster, whose commands name keys of one slot, each goes
//! alone.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::Redis;

/// How many reads are under way before others wait for each other. With more
/// a read waits less, with less more of them go together.
const AT_ONCE: usize = 2;

/// A way to read for one caller, or for several at once.
pub trait JointRead: Send + Sync + 'static {
    /// What is read.
    type Question: Send + 'static;
    /// What was found.
    type Answer: Send + 'static;

    /// How many go together at most: the server does nothing else meanwhile.
    const MOST: usize = 64;

    /// Reads for one.
    fn alone(&self, question: Self::Question) -> impl Future<Output = Self::Answer> + Send;

    /// Reads for several, and answers as many in their order. Who is left without an
    /// answer is told that there is none.
    fn together(
        &self,
        questions: Vec<Self::Question>,
    ) -> impl Future<Output = Vec<Self::Answer>> + Send;
}

/// Reads of many callers, as few at a time as may be.
pub struct JointReads<R: JointRead> {
    line: Arc<Line<R>>,
    /// Not if the keys are in many places.
    joins: bool,
}

struct Line<R: JointRead> {
    reader: R,
    state: Mutex<State<R>>,
}

struct State<R: JointRead> {
    waiting: VecDeque<Waiting<R>>,
    places: usize,
}

struct Waiting<R: JointRead> {
    question: R::Question,
    answer: oneshot::Sender<R::Answer>,
}

/// The place of a reader who sends for himself. Once it is dropped it belongs to
/// those who wait.
struct Place<'a, R: JointRead> {
    line: &'a Arc<Line<R>>,
    runtime: Handle,
}

/// Reads for those who wait, until nobody does.
struct Server<R: JointRead> {
    line: Arc<Line<R>>,
    done: bool,
}

// === impl JointReads ===

impl<R: JointRead> JointReads<R> {
    /// Reads by `reader`, which asks `redis`.
    pub fn new(redis: &Redis, reader: R) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            places: 0,
        };
        Self {
            line: Arc::new(Line {
                reader,
                state: Mutex::new(state),
            }),
            joins: redis.is_one_place(),
        }
    }

    /// Reads for one caller, together with others who have come by then. `None` if
    /// the runtime of those who read has ended.
    ///
    /// # Cancellation
    ///
    /// Dropped, others' reads go on.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn one(&self, question: R::Question) -> Option<R::Answer> {
        // Erased, as few need it, and it is large.
        let alone =
            |question| -> BoxFuture<'_, R::Answer> { Box::pin(self.line.reader.alone(question)) };
        if !self.joins {
            return Some(alone(question).await);
        }
        let waits = {
            let mut state = self.line.state();
            if state.places < AT_ONCE {
                state.places += 1;
                Err(question)
            } else {
                let (answer, waits) = oneshot::channel();
                state.waiting.push_back(Waiting { question, answer });
                Ok(waits)
            }
        };
        let question = match waits {
            Ok(waits) => return waits.await.ok(),
            Err(question) => question,
        };
        let _place = Place {
            line: &self.line,
            runtime: Handle::current(),
        };
        Some(alone(question).await)
    }

    /// With what it reads.
    pub fn reader(&self) -> &R {
        &self.line.reader
    }
}

impl<R: JointRead> fmt::Debug for JointReads<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JointReads")
            .field("joins", &self.joins)
            .finish_non_exhaustive()
    }
}

// === impl Line ===

impl<R: JointRead> Line<R> {
    fn state(&self) -> MutexGuard<'_, State<R>> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl<R: JointRead> State<R> {
    /// Those who go with the next command; with nobody the place is free.
    fn take(&mut self) -> Option<Vec<Waiting<R>>> {
        let count = self.waiting.len().min(R::MOST);
        if count == 0 {
            self.places -= 1;
            return None;
        }
        Some(self.waiting.drain(..count).collect())
    }
}

// === impl Place ===

impl<R: JointRead> Drop for Place<'_, R> {
    fn drop(&mut self) {
        let mut state = self.line.state();
        if state.waiting.is_empty() {
            state.places -= 1;
            return;
        }
        drop(state);
        let server = Server {
            line: self.line.clone(),
            done: false,
        };
        self.runtime.spawn(server.serve());
    }
}

// === impl Server ===

impl<R: JointRead> Server<R> {
    async fn serve(mut self) {
        loop {
            // Who is about to ask comes along. It costs a moment where others
            // have something to do, and hardly any where nobody has.
            yield_now().await;
            let Some(aboard) = self.line.state().take() else {
                self.done = true;
                return;
            };
            let aboard = aboard.into_iter().filter(|it| !it.answer.is_closed());
            let (questions, answers): (Vec<_>, Vec<_>) =
                aboard.map(|it| (it.question, it.answer)).unzip();
            if questions.is_empty() {
                continue;
            }
            let found = self.line.reader.together(questions).await;
            for (answer, found) in answers.into_iter().zip(found) {
                // Whoever gave up needs none.
                let _ = answer.send(found);
            }
        }
    }
}

impl<R: JointRead> Drop for Server<R> {
    /// Before its end only with its runtime.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.line.state();
        state.places -= 1;
        if state.places == 0 {
            // Nobody is left to read for them.
            state.waiting.clear();
        }
    }
}
