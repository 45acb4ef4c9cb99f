use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use super::command::{Command, Effort};
use super::lineage::Witness;
use super::{Arg, Redis, RedisError, Reply};

/// Takes the deadline from the end of ARGV and does nothing after it. Redis
/// works on one command at a time, so the time does not pass while a script runs.
const BY_DEADLINE: &str = "\
do
  local time = redis.call('TIME')
  if time[1] * 1000000 + time[2] > tonumber(table.remove(ARGV)) then
    return redis.error_reply('LATE the deadline has passed')
  end
end
";

/// A Lua script, sent by its hash.
#[derive(Debug)]
pub struct Script {
    source: &'static str,
    by_deadline: bool,
    // The server computes the hash when the script is first loaded.
    hash: OnceLock<String>,
}

/// One call of a [`Script`].
#[must_use]
pub struct ScriptCall<'a> {
    script: &'a Script,
    keys: Vec<Arg>,
    args: Vec<Arg>,
    effort: Effort,
    pub(super) witness: Option<Witness>,
    next: Option<Box<Command>>,
}

// === impl Script ===

impl Script {
    /// The script with this text, for what may as well happen late.
    pub const fn new(source: &'static str) -> Self {
        Self {
            source,
            by_deadline: false,
            hash: OnceLock::new(),
        }
    }

    /// A script that charges or fences: it runs in time or never.
    ///
    /// The call's timeout goes along as a deadline in the server's own time,
    /// and a server that gets to it later leaves all as it was. So when a call
    /// has timed out, it either had its effect by then or never will. It is
    /// sent once, whatever [`ScriptCall::attempts`] says.
    ///
    /// The server's time is known to within the round trip of the last
    /// heartbeat, on the side of doing nothing.
    pub const fn by_deadline(source: &'static str) -> Self {
        Self {
            source,
            by_deadline: true,
            hash: OnceLock::new(),
        }
    }

    /// A call of it without keys and arguments, to be added.
    pub const fn call(&self) -> ScriptCall<'_> {
        ScriptCall {
            script: self,
            keys: Vec::new(),
            args: Vec::new(),
            effort: Effort::ONCE,
            witness: None,
            next: None,
        }
    }

    fn text(&self) -> Cow<'static, str> {
        if self.by_deadline {
            format!("{BY_DEADLINE}{}", self.source).into()
        } else {
            self.source.into()
        }
    }
}

// === impl ScriptCall ===

impl ScriptCall<'_> {
    /// Adds a key. In a cluster all keys of a call must be in one slot.
    pub fn key(mut self, key: impl Into<Arg>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// How long each attempt may take.
    ///
    /// Default: the handle's, see [`RedisConfig::timeout`](super::RedisConfig::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.effort = self.effort.timeout(timeout);
        self
    }

    /// How often it is sent at most while no reply comes. Only for a script
    /// that may run twice.
    ///
    /// Default: once.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.effort = self.effort.attempts(attempts);
        self
    }

    /// Sends `next` on the same connection when it has run; see
    /// [`Command::then`].
    pub fn then(mut self, next: Command) -> Self {
        self.next = Some(Box::new(next));
        self
    }

    /// Runs it; loading it counts towards its time.
    pub(super) async fn run(mut self, redis: &Redis) -> Result<Reply, RedisError> {
        if self.script.by_deadline {
            self.effort.attempts = 1;
        }
        let limit = self.effort.timeout.unwrap_or(redis.config().timeout);
        let start = Instant::now();
        let hash = match self.script.hash.get() {
            Some(hash) => hash,
            None => {
                let hash = self.load(redis).await?;
                self.script.hash.get_or_init(|| hash)
            }
        };
        self.effort = self.effort.timeout(limit.saturating_sub(start.elapsed()));
        let by_hash = self.command("EVALSHA", hash.as_str().into());
        match redis.command(by_hash).await {
            // It did not run. EVAL loads it again and runs it, in one command.
            Err(error) if error.is_unknown_script() => {
                self.effort = self.effort.timeout(limit.saturating_sub(start.elapsed()));
                let text = self.script.text().into_owned();
                redis.command(self.command("EVAL", text.into())).await
            }
            reply => reply,
        }
    }

    async fn load(&self, redis: &Redis) -> Result<String, RedisError> {
        let mut load = Command::new("SCRIPT")
            .arg("LOAD")
            .arg(self.script.text().into_owned());
        load.effort = self.effort;
        let reply = redis.command(load).await?;
        reply
            .into_bytes()
            .and_then(|hash| String::from_utf8(hash.into()).ok())
            .ok_or(RedisError::Reply { command: "SCRIPT" })
    }

    fn command(&self, name: &'static str, script: Arg) -> Command {
        let keys = i64::try_from(self.keys.len()).unwrap_or(i64::MAX);
        let mut command = Command::new(name).arg(script).arg(keys);
        for key in &self.keys {
            command = command.key(key.clone());
        }
        command = command.args(self.args.iter().cloned());
        command.effort = self.effort;
        command.by_deadline = self.script.by_deadline;
        command.tells_lineage = self.witness.is_some();
        command.witness = self.witness.clone();
        command.next.clone_from(&self.next);
        command
    }
}

impl fmt::Debug for ScriptCall<'_> {
    /// Without the arguments, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptCall")
            .field("script", &self.script)
            .field("keys", &self.keys.len())
            .field("args", &self.args.len())
            .finish_non_exhaustive()
    }
}
