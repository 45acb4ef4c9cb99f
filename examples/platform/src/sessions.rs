//! Who is logged in: rows of the users' shards, copies of them in Redis if there is
//! one, and what was read a moment ago in this process.

use maxscale_auth::Sessions;
use maxscale_auth::session::{RedisSessions, SessionMap, SessionRoute, SqlSessions};
use maxscale_core::redis::Redis;

use crate::audit::Audit;
use crate::ground::Ground;
use crate::start::StartError;

/// Sessions with copies in `redis`, of which `map` says whose are where; `audit` hears of
/// them, and of accounts.
pub(crate) fn sessions(
    ground: &Ground,
    redis: Vec<Redis>,
    map: Option<SessionMap>,
    audit: Audit,
) -> Result<Sessions, StartError> {
    let (rows, clock) = (rows(ground), ground.clock.clone());
    let (keys, ids) = (ground.keys.clone(), ground.ids.clone());
    let builder = if redis.is_empty() {
        Sessions::builder(rows, keys, ids)
    } else {
        let mut copies = RedisSessions::builder(rows, redis).clock(clock.clone());
        if let Some(map) = map {
            copies = copies.route(SessionRoute::settled(map));
        }
        Sessions::builder(copies.build()?, keys, ids)
    };
    Ok(builder.clock(clock).near(&ground.hub).audit(audit).build())
}

/// The rows that keep sessions for good.
pub(crate) fn rows(ground: &Ground) -> SqlSessions {
    SqlSessions::new(ground.router.clone(), ground.clock.clone())
}
