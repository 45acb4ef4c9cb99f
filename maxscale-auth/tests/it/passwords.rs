//! A password's way through the pool, as an account takes it.

use maxscale_auth::password::{Context, Factors, Weakness};
#[cfg(feature = "bcrypt")]
use maxscale_auth::password::{OlderHashes, Scheme, Upgraded};
use maxscale_auth::{AuthError, PasswordPool, PasswordPoolConfig};
use maxscale_core::refusal::{Class, Classify};

use crate::support::{LIMIT, PASSWORD};

async fn pool() -> PasswordPool {
    let mut config = PasswordPoolConfig::default();
    config.wait = LIMIT;
    #[cfg(feature = "bcrypt")]
    {
        config.older = Some(OlderHashes::bcrypt(6).wrapped());
    }
    PasswordPool::new(config).await.unwrap()
}

fn check(pool: &PasswordPool, password: &str) -> Result<(), AuthError> {
    let context = Context::of("ada@example.org", "Ada Lovelace");
    let checked = pool
        .policy()
        .check(password, &context, Factors::PasswordAlone);
    Ok(checked.map(drop)?)
}

#[tokio::test]
async fn weak_passwords_are_the_callers_to_change() {
    let pool = pool().await;
    assert!(check(&pool, PASSWORD).is_ok());
    for (weak, code) in [
        ("short", "password_length"),
        ("aaaaaaaaaaaaaaaaaaaa", "password_pattern"),
        ("ada.lovelace-2024", "password_context"),
    ] {
        let refused = check(&pool, weak).unwrap_err();
        assert_eq!(refused.class(), Class::Unprocessable, "{weak}");
        assert_eq!(refused.code(), code, "{weak}");
        assert!(!format!("{refused:?} {refused}").contains("lovelace"));
    }
    let length = check(&pool, "short").unwrap_err();
    assert!(matches!(
        length,
        AuthError::PasswordLength { min: 15, max: 256 }
    ));
    let weakness = check(&pool, "aaaaaaaaaaaaaaaaaaaa").unwrap_err();
    assert!(matches!(weakness, AuthError::Weak(Weakness::Pattern)));
}

#[tokio::test]
async fn hash_that_is_too_dear_or_unreadable_is_an_error_and_not_a_wrong_password() {
    let pool = pool().await;
    let dear = "$argon2id$v=19$m=4194304,t=2,p=1$BznJUV+XDDDV6Aq0SjqApQ$pxJYStCbmiR1CIlOl3MiJqUQzzapRiyOqrgWox/4EgE";
    for stored in [
        dear,
        "",
        "$2b$31$/KgMHC47Y5Adfw6vv56EPesLJ4Q3msxv7WItPzdzaEEGb7xQfXC3C",
    ] {
        let refused = pool.verify(PASSWORD, Some(stored)).await;
        assert!(matches!(refused, Err(AuthError::StoredHash)), "{stored}");
    }
}

#[cfg(feature = "bcrypt")]
#[tokio::test]
async fn older_hash_is_wrapped_and_upgraded_at_the_first_right_password() {
    let pool = pool().await;
    let bcrypt = "$2y$04$i9bHAD/w36/XRaZiU.P29eAN2HS03Lc2mT7aV44VOYP2yFLxJZkLe";
    let wrapped = pool.wrap(bcrypt).await.unwrap().unwrap();
    assert_eq!(wrapped.from, bcrypt);
    for (stored, scheme) in [(bcrypt, Scheme::Bcrypt), (&wrapped.to, Scheme::Wrapped)] {
        let wrong = pool
            .verify("correct horse batterz", Some(stored))
            .await
            .unwrap();
        assert!(!wrong.right && wrong.upgrade.is_none() && wrong.scheme == scheme);
        let right = pool.verify(PASSWORD, Some(stored)).await.unwrap();
        assert!(right.right && right.scheme == scheme);
        let Upgraded { from, to, .. } = pool.upgrade(right.upgrade.unwrap()).await.unwrap();
        assert_eq!(from, stored);
        let after = pool.verify(PASSWORD, Some(&to)).await.unwrap();
        assert!(after.right && after.upgrade.is_none() && after.scheme == Scheme::Argon2);
    }
    // What is no bcrypt hash stays as it is.
    assert!(pool.wrap(&wrapped.to).await.unwrap().is_none());
    assert!(matches!(pool.wrap("?").await, Err(AuthError::StoredHash)));
}

#[cfg(feature = "bcrypt")]
#[tokio::test]
async fn nobody_is_as_slow_as_the_slowest_kind_that_is_stored() {
    let of_argon = PasswordPool::new(PasswordPoolConfig::default())
        .await
        .unwrap();
    let mut config = PasswordPoolConfig::default();
    config.older = Some(OlderHashes::bcrypt(12));
    let of_bcrypt = PasswordPool::new(config.clone()).await.unwrap();
    // By a processor's work 4 to 12 times.
    assert!(of_bcrypt.slowest() > of_argon.slowest());
    config.older = Some(OlderHashes::bcrypt(15));
    assert!(matches!(
        PasswordPool::new(config).await,
        Err(AuthError::StoredHash)
    ));
}
