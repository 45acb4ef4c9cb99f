use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{Error as HashError, PasswordHasher, PasswordVerifier};
use maxscale_core::keys::Secret;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use unicode_normalization::UnicodeNormalization;

use crate::error::AuthError;

/// Hashes and checks passwords, a few at a time. Cheap to clone.
///
/// argon2id with OWASP's parameters (19 MiB, 2 passes, 1 lane), on blocking
/// threads. At most [`PasswordPoolConfig::threads`] run at once, so memory is
/// bounded; who waits longer than [`PasswordPoolConfig::wait`] is refused.
///
/// # Cancellation
///
/// A dropped call leaves its hash running to its end; its place stays taken
/// until then.
#[derive(Clone, Debug)]
pub struct PasswordPool {
    places: Arc<Semaphore>,
    wait: Duration,
    // Verified against when there is no account, so that both cost the same.
    nobody: Arc<str>,
}

/// How many passwords are hashed at once, and how long others wait.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PasswordPoolConfig {
    /// Hashes at once. Default: 2.
    pub threads: usize,
    /// The longest wait for a place. Default: 2 s.
    pub wait: Duration,
}

/// The fewest characters of a password (NIST SP 800-63B-4, without a second factor).
pub(crate) const MIN_CHARS: usize = 15;
/// The most characters of a password.
pub(crate) const MAX_CHARS: usize = 256;

// === impl PasswordPoolConfig ===

impl Default for PasswordPoolConfig {
    fn default() -> Self {
        Self {
            threads: 2,
            wait: Duration::from_secs(2),
        }
    }
}

// === impl PasswordPool ===

impl PasswordPool {
    /// A pool with nothing running; hashes once to have a hash of nobody.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] without randomness.
    pub async fn new(config: PasswordPoolConfig) -> Result<Self, AuthError> {
        let mut pool = Self {
            places: Arc::new(Semaphore::new(config.threads.max(1))),
            wait: config.wait,
            nobody: "".into(),
        };
        let secret: [u8; 16] = Secret::random()?;
        pool.nobody = pool.run(move || hash(&secret)).await?.into();
        Ok(pool)
    }

    /// Hashes a new password, after checking its length.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::PasswordLength`] or [`AuthError::Busy`].
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let password = normal(password)?;
        let chars = password.chars().count();
        if !(MIN_CHARS..=MAX_CHARS).contains(&chars) {
            return Err(LENGTH);
        }
        self.run(move || hash(password.as_bytes())).await
    }

    /// Whether `password` is the one behind `stored`; `None` costs the same and is never true.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Busy`] or [`AuthError::StoredHash`].
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, AuthError> {
        let known = stored.is_some();
        let stored = stored.unwrap_or(&self.nobody).to_owned();
        let password = normal(password)?;
        let right = self
            .run(move || verify(password.as_bytes(), &stored))
            .await?;
        Ok(right && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, AuthError> + Send + 'static,
    ) -> Result<T, AuthError> {
        let place = timeout(self.wait, self.places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(AuthError::Busy);
        };
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            // Freed when the work ends, not when the caller gives up.
            drop(place);
            done
        });
        task.await.map_err(|join| AuthError::Hash(join.into()))?
    }
}

const LENGTH: AuthError = AuthError::PasswordLength {
    min: MIN_CHARS,
    max: MAX_CHARS,
};

/// NFKC, so that a password types the same on every keyboard. Bounded first.
fn normal(password: &str) -> Result<String, AuthError> {
    if password.len() > 4 * MAX_CHARS {
        return Err(LENGTH);
    }
    Ok(password.nfkc().collect())
}

fn hash(password: &[u8]) -> Result<String, AuthError> {
    let salt: [u8; 16] = Secret::random()?;
    let hashed = Argon2::default().hash_password_with_salt(password, &salt);
    Ok(hashed
        .map_err(|e| AuthError::Hash(e.to_string().into()))?
        .to_string())
}

fn verify(password: &[u8], stored: &str) -> Result<bool, AuthError> {
    let stored = PasswordHash::new(stored).map_err(|_| AuthError::StoredHash)?;
    match Argon2::default().verify_password(password, &stored) {
        Ok(()) => Ok(true),
        Err(HashError::PasswordInvalid) => Ok(false),
        Err(_) => Err(AuthError::StoredHash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn password_verifies_only_against_its_own_hash() {
        let pool = PasswordPool::new(PasswordPoolConfig::default())
            .await
            .unwrap();
        let stored = pool.hash("correct horse battery").await.unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{stored}"
        );
        assert!(
            pool.verify("correct horse battery", Some(&stored))
                .await
                .unwrap()
        );
        assert!(
            !pool
                .verify("correct horse batterz", Some(&stored))
                .await
                .unwrap()
        );
        assert!(!pool.verify("correct horse battery", None).await.unwrap());
        assert!(matches!(
            pool.verify("x", Some("?")).await,
            Err(AuthError::StoredHash)
        ));
    }

    #[tokio::test]
    async fn length_is_bounded_on_both_sides() {
        let pool = PasswordPool::new(PasswordPoolConfig::default())
            .await
            .unwrap();
        for password in ["fourteen chars", &"x".repeat(257), &"x".repeat(1_000_000)] {
            let refused = pool.hash(password).await;
            assert!(matches!(refused, Err(AuthError::PasswordLength { .. })));
        }
    }

    #[tokio::test]
    async fn who_waits_too_long_is_refused() {
        let config = PasswordPoolConfig {
            threads: 1,
            wait: Duration::from_millis(1),
        };
        let pool = PasswordPool::new(config).await.unwrap();
        let _taken = pool.places.clone().acquire_owned().await.unwrap();
        let refused = pool.verify("correct horse battery", None).await;
        assert!(matches!(refused, Err(AuthError::Busy)));
    }
}
