//! Accounts as this service has them: which passwords are taken, how often somebody
//! may try, and what a sign-up tells.

use std::sync::Arc;

use maxscale_auth::password::policy::filter::PasswordFilter;
use maxscale_auth::password::{PasswordPolicy, PasswordPool, PasswordPoolConfig};
use maxscale_auth::{Accounts, Sessions, SignUps};
use maxscale_core::limit::Attempts;

use crate::ground::Ground;
use crate::http;
use crate::mail::JobOutbox;
use crate::settings::Settings;
use crate::start::StartError;

/// Puts them together.
pub(crate) async fn accounts(
    settings: &Settings,
    ground: &Ground,
    sessions: Sessions,
    passwords: PasswordPolicy,
) -> Result<Accounts, StartError> {
    let mut config = PasswordPoolConfig::default();
    config.policy = passwords;
    config.meter = ground.meter.clone();
    let passwords = PasswordPool::new(config).await;
    let passwords = passwords.map_err(|e| StartError::Assemble(e.into()))?;
    let sign_ups = match settings.quiet {
        true => SignUps::Quiet,
        false => SignUps::Open,
    };
    let (ids, keys) = (ground.ids.clone(), ground.keys.clone());
    let outbox = JobOutbox::new(ground.queue.clone(), keys.clone());
    let accounts = Accounts::builder(ground.router.clone(), ids, keys, passwords)
        .sessions(sessions)
        .attempts(attempts("passwords", ground)?)
        .mails(attempts("mails", ground)?)
        .sign_ups(sign_ups)
        .base_url(ground.public.base())
        .link_paths(http::link_paths())
        .secure(ground.public.tls())
        .outbox(outbox)
        .build();
    accounts.map_err(|e| StartError::Assemble(e.into()))
}

/// Which passwords are taken. Reads the list of stolen ones, if there is one.
pub(crate) fn policy(settings: &Settings) -> Result<PasswordPolicy, StartError> {
    let policy = PasswordPolicy::new().service(&[&settings.service]);
    Ok(match &settings.stolen_passwords {
        Some(path) => policy.breached(Arc::new(PasswordFilter::open(path)?)),
        None => policy,
    })
}

/// How often somebody may try a password, or have a mail sent.
fn attempts(name: &str, ground: &Ground) -> Result<Attempts, StartError> {
    let attempts = Attempts::builder(name, &ground.limits).build();
    let attempts = attempts.map_err(|e| StartError::Assemble(e.into()))?;
    Ok(attempts.measured(&ground.meter))
}
