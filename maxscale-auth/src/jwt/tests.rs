mod hostile;
mod whole;

use std::time::Duration;

use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use uuid::Uuid;

use super::*;
use crate::session::{Level, Roles};

const ISSUER: &str = "https://platform.example";
const AUDIENCE: &str = "platform";

fn now() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000)
}

fn tokens() -> AccessTokens {
    AccessTokens::new(ISSUER, AUDIENCE).unwrap()
}

fn key(algorithm: Algorithm, byte: u8) -> SigningKey {
    SigningKey::from_bytes(algorithm, &[byte; 32]).unwrap()
}

fn keys(algorithm: Algorithm) -> Keys {
    Keys::new([(key(algorithm, 7), KeyState::Active)]).unwrap()
}

fn id() -> Id {
    let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
    ids.draw(VirtualShard::new(5))
}

fn claims() -> Claims {
    Claims {
        user: id(),
        email: "ada@example.com".to_owned(),
        roles: Roles::new(["admin", "staff"]).unwrap(),
        session: id(),
        epoch: 42,
        level: Level::Aal2,
        authenticated_at: now().before(Duration::from_secs(60)),
        token: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
        issued_at: now(),
        expires_at: now().after(AccessTokens::DEFAULT_LIFE),
    }
}
