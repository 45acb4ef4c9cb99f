use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::Arg;
use super::config::at_most_a_day;
use super::lineage::Witness;

/// One command, and how patiently it is sent.
///
/// A command is sent once. One that may run twice, a read for instance, can be
/// given more [attempts](Self::attempts).
#[derive(Clone)]
#[must_use]
pub struct Command {
    pub(super) name: &'static str,
    pub(super) args: Vec<Arg>,
    /// Which argument is the first key.
    key: Option<usize>,
    pub(super) effort: Effort,
    /// Whether the node that gets it adds the deadline in its own time.
    pub(super) by_deadline: bool,
    /// Whether it goes to a server that is still being given the key's slot.
    pub(super) asking: bool,
    /// Who is told the lineage of the server that answers.
    pub(super) witness: Option<Witness>,
    /// Whether the node that gets it adds its lineage.
    pub(super) tells_lineage: bool,
    /// What follows on the same connection.
    pub(super) next: Option<Box<Self>>,
}

/// How long a call may take, and how often it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) timeout: Option<Duration>,
    pub(super) attempts: u32,
}

// === impl Command ===

impl Command {
    /// The command `name`, which is one word (`GET`); further words are arguments.
    ///
    /// Commands that block the connection (`BLPOP`) or change it (`SELECT`)
    /// are not for this handle.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            args: Vec::new(),
            key: None,
            effort: Effort::ONCE,
            by_deadline: false,
            asking: false,
            witness: None,
            tells_lineage: false,
            next: None,
        }
    }

    /// Adds a key. In a cluster the first one says which server is asked;
    /// without any the command goes to one of them.
    pub fn key(mut self, key: impl Into<Arg>) -> Self {
        self.key.get_or_insert(self.args.len());
        self.arg(key)
    }

    /// Adds an argument that is no key.
    pub fn arg(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments that are no keys.
    pub fn args<A: Into<Arg>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// How long each attempt may take, the wait for its turn included.
    ///
    /// Default: the handle's, see [`RedisConfig::timeout`](super::RedisConfig::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.effort = self.effort.timeout(timeout);
        self
    }

    /// How often it is sent at most while no reply comes.
    ///
    /// Only for what may run twice: an attempt that timed out may still run.
    ///
    /// Default: once.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.effort = self.effort.attempts(attempts);
        self
    }

    /// Sends `next` on the same connection once this one has been answered
    /// without an error. The reply is then that of both, an array of two, with
    /// [`Nil`](super::Reply::Nil) in place of the second's if it got none.
    ///
    /// For what asks about the connection's own commands (`WAIT`). It may block
    /// for a while: whoever uses the handle meanwhile waits. The time of this
    /// command is the time of both. Others' commands may come between them.
    pub fn then(mut self, next: Self) -> Self {
        self.next = Some(Box::new(next));
        self
    }

    /// The bytes of the first key, as the server sees them.
    pub(super) fn first_key(&self) -> Option<Bytes> {
        self.key.map(|at| self.args[at].bytes())
    }
}

impl fmt::Debug for Command {
    /// Without the arguments, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &self.name)
            .field("args", &self.args.len())
            .field("effort", &self.effort)
            .finish_non_exhaustive()
    }
}

// === impl Effort ===

impl Effort {
    pub(super) const ONCE: Self = Self {
        timeout: None,
        attempts: 1,
    };

    pub(super) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(at_most_a_day(timeout));
        self
    }

    pub(super) fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }
}
