//! Attempts at accounts, in Redis.

use super::{RedisLimits, hex};
use crate::limit::attempts::{Reserved, Terms, Verdict, Whose};
use crate::redis::{RedisError, Reply, Script, ScriptCall};

static ATTEMPT: Script = Script::by_deadline(concat!(
    include_str!("now.lua"),
    include_str!("attempt.lua")
));

/// What is asked of the script.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// A stranger has to wait so long anyway.
    Begin(i64),
    Settle(Reserved, Verdict),
}

// === impl RedisLimits ===

impl RedisLimits {
    /// Reserves an attempt, or gives the wait until there is one; in time or never.
    pub(in crate::limit) async fn begin_attempt(
        &self,
        name: &str,
        whose: &Whose,
        terms: &Terms,
        elsewhere: i64,
    ) -> Result<Result<Reserved, i64>, RedisError> {
        let reply = self.attempt(name, whose, terms, Ask::Begin(elsewhere), None);
        match reply.await?[..] {
            [1, moment, known] => Ok(Ok(Reserved {
                moment,
                known: known == 1,
            })),
            [0, wait] => Ok(Err(wait)),
            _ => Err(RedisError::Reply { command: "EVALSHA" }),
        }
    }

    /// Says what became of an attempt; gives the wait until the next.
    pub(in crate::limit) async fn settle_attempt(
        &self,
        name: &str,
        whose: &Whose,
        terms: &Terms,
        reserved: Reserved,
        verdict: Verdict,
    ) -> Result<i64, RedisError> {
        let ask = Ask::Settle(reserved, verdict);
        match self.attempt(name, whose, terms, ask, None).await?[..] {
            [wait] => Ok(wait),
            _ => Err(RedisError::Reply { command: "EVALSHA" }),
        }
    }

    async fn attempt(
        &self,
        name: &str,
        whose: &Whose,
        terms: &Terms,
        ask: Ask,
        now: Option<i64>,
    ) -> Result<Vec<i64>, RedisError> {
        let mut attempt = ATTEMPT.call();
        for key in self.keys_of(name, whose) {
            attempt = attempt.key(key);
        }
        attempt = match now {
            Some(now) => attempt.arg(now),
            None => attempt.arg(""),
        };
        let Terms {
            pair,
            strangers,
            known,
        } = terms;
        attempt = attempt
            .arg(i64::from(pair.limit))
            .arg(pair.window)
            .arg(pair.base)
            .arg(pair.longest)
            .arg(i64::from(strangers.limit))
            .arg(strangers.window)
            .arg(*known);
        let reply = self.redis.script(ask.add_to(attempt)).await?;
        let numbers = reply.into_array().and_then(|all| {
            let numbers = all.iter().map(Reply::as_int);
            numbers.collect::<Option<Vec<i64>>>()
        });
        numbers.ok_or(RedisError::Reply { command: "EVALSHA" })
    }

    /// All in the slot of the account.
    fn keys_of(&self, name: &str, whose: &Whose) -> [String; 3] {
        let account = self.principal(&whose.account);
        let (_, client) = self.ring.sign("limit client", whose.client.as_bytes());
        let client = hex(&client);
        [
            format!("{account}:{name}:a{client}"),
            format!("{account}:{name}:a"),
            format!("{account}:{name}:k{client}"),
        ]
    }
}

// === impl Ask ===

impl Ask {
    fn add_to(self, attempt: ScriptCall<'_>) -> ScriptCall<'_> {
        match self {
            Self::Begin(elsewhere) => attempt.arg("begin").arg(elsewhere),
            Self::Settle(_, Verdict::Failed) => attempt.arg("fail"),
            Self::Settle(reserved, verdict) => {
                let verb = match verdict {
                    Verdict::Succeeded => "succeed",
                    _ => "back",
                };
                let known = i64::from(reserved.known);
                attempt.arg(verb).arg(reserved.moment).arg(known)
            }
        }
    }
}

#[cfg(test)]
mod tests;
