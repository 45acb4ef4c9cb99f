//! No answer that must not tell whether there is an account comes before its floor.

use std::time::Duration;

use maxscale_auth::AuthError;
use tokio::time::Instant;

use crate::mail::at;
use crate::support::{Bench, PASSWORD};

on_both!(answers_about_anybody_come_at_the_floor_at_the_earliest);

/// Of what sends a link and hashes nothing.
const LINK: Duration = Duration::from_millis(50);

async fn answers_about_anybody_come_at_the_floor_at_the_earliest(bench: Bench) {
    let accounts = bench.quiet();
    bench.join(&accounts, "ada@example.org").await;
    let hash = bench.passwords.slowest() * 2;
    for (number, email) in ["ada@example.org", "nobody@example.org"].iter().enumerate() {
        let from = number.to_string();
        let client = at(&from);

        let begun = Instant::now();
        let refused = accounts
            .log_in(email, "a wrong horse battery", &client)
            .await;
        assert!(
            matches!(refused, Err(AuthError::Credentials)),
            "{refused:?}"
        );
        assert!(begun.elapsed() >= hash, "login, {email}");

        let begun = Instant::now();
        accounts.forgot_password(email, &client).await.unwrap();
        assert!(begun.elapsed() >= LINK, "reset, {email}");

        let begun = Instant::now();
        accounts.send_magic_link(email, &client).await.unwrap();
        assert!(begun.elapsed() >= LINK, "magic link, {email}");

        let begun = Instant::now();
        let signed_up = accounts.sign_up(email, PASSWORD, "Ada", &client);
        signed_up.await.unwrap();
        assert!(begun.elapsed() >= hash, "sign-up, {email}");
    }
}
