use std::time::Duration;

use maxscale_core::keys::Secret;
use tokio::time::Instant;

#[cfg(feature = "bcrypt")]
use super::config::OlderHashes;
use super::config::PasswordPoolConfig;
use super::cost::HashCost;
use super::memory::Memory;
use super::scheme::{Argon, Stored};
#[cfg(feature = "bcrypt")]
use super::scheme::{Bcrypt, Setting, Wrapped};
use super::typed::Typed;
use crate::error::AuthError;

/// Makes hashes of nobody's password, of each kind that is in use.
///
/// bcrypt takes three to ten times as long as argon2id. A wrong password for an
/// account that nobody has must not be told from one for an account with the slower.
#[derive(Debug)]
pub(super) struct Nobody {
    cost: HashCost,
    secret: [u8; 16],
    #[cfg(feature = "bcrypt")]
    older: Option<(Bcrypt, bool)>,
}

/// How often each is timed; the shortest counts.
const TIMES: usize = 3;

// === impl Nobody ===

impl Nobody {
    pub(super) fn hash(config: &PasswordPoolConfig) -> Result<Self, AuthError> {
        Ok(Self {
            cost: config.cost,
            secret: Secret::random()?,
            #[cfg(feature = "bcrypt")]
            older: config.older.map(older).transpose()?,
        })
    }

    /// The hash that takes longest, and how long that is.
    pub(super) fn slowest(self, memory: &mut Memory) -> Result<(Stored, Duration), AuthError> {
        let mut slowest = None;
        for hash in self.kinds(memory)? {
            let took = shortest(&hash, memory)?;
            if slowest.as_ref().is_none_or(|&(_, longest)| took > longest) {
                slowest = Some((hash, took));
            }
        }
        slowest.ok_or(AuthError::StoredHash)
    }

    fn kinds(self, memory: &mut Memory) -> Result<Vec<Stored>, AuthError> {
        let argon = Argon::of(&self.secret, self.cost, memory)?;
        #[cfg_attr(
            not(feature = "bcrypt"),
            expect(unused_mut, reason = "there is one kind")
        )]
        let mut kinds = vec![Stored::Argon(argon)];
        #[cfg(feature = "bcrypt")]
        if let Some((hash, wrapped)) = self.older {
            if wrapped {
                let over = Wrapped::over(hash.clone(), self.cost, memory)?;
                kinds.push(Stored::Wrapped(over));
            }
            kinds.push(Stored::Bcrypt(hash));
        }
        Ok(kinds)
    }
}

/// A digest that is of no password that anybody will find.
#[cfg(feature = "bcrypt")]
fn older(older: OlderHashes) -> Result<(Bcrypt, bool), AuthError> {
    let setting = Setting::draw(older.cost)?;
    let hash = Bcrypt::new(setting, Secret::random()?).ok_or(AuthError::StoredHash)?;
    Ok((hash, older.wrapped))
}

fn shortest(hash: &Stored, memory: &mut Memory) -> Result<Duration, AuthError> {
    let typed = Typed::new("a password of nobody");
    let mut shortest = Duration::MAX;
    for _ in 0..TIMES {
        let begun = Instant::now();
        let _never = hash.is_of(&typed, memory)?;
        shortest = shortest.min(begun.elapsed());
    }
    Ok(shortest)
}
