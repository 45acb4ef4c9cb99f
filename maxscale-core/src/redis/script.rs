use std::sync::OnceLock;

use super::{Arg, Redis, RedisError, Reply};

/// A Lua script, sent by its hash.
#[derive(Debug)]
pub struct Script {
    source: &'static str,
    // The server computes the hash when the script is first loaded.
    hash: OnceLock<String>,
}

// === impl Script ===

impl Script {
    /// The script with this text.
    pub const fn new(source: &'static str) -> Self {
        Self {
            source,
            hash: OnceLock::new(),
        }
    }

    pub(super) async fn run(
        &self,
        redis: &Redis,
        keys: Vec<String>,
        args: Vec<Arg>,
    ) -> Result<Reply, RedisError> {
        let hash = match self.hash.get() {
            Some(hash) => hash,
            None => {
                let hash = self.load(redis).await?;
                self.hash.get_or_init(|| hash)
            }
        };
        let by_hash = call(hash, keys.clone(), args.clone());
        match redis.command("EVALSHA", by_hash).await {
            // EVAL loads it again and runs it, in one command.
            Err(error) if error.is_unknown_script() => {
                redis.command("EVAL", call(self.source, keys, args)).await
            }
            reply => reply,
        }
    }

    async fn load(&self, redis: &Redis) -> Result<String, RedisError> {
        let args = vec!["LOAD".into(), self.source.into()];
        let reply = redis.command("SCRIPT", args).await?;
        reply
            .into_bytes()
            .and_then(|hash| String::from_utf8(hash.into()).ok())
            .ok_or(RedisError::Reply { command: "SCRIPT" })
    }
}

fn call(script: &str, keys: Vec<String>, args: Vec<Arg>) -> Vec<Arg> {
    let mut all = Vec::with_capacity(2 + keys.len() + args.len());
    all.push(script.into());
    all.push(Arg::Int(i64::try_from(keys.len()).unwrap_or(i64::MAX)));
    all.extend(keys.into_iter().map(Arg::Text));
    all.extend(args);
    all
}
