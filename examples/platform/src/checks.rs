//! What the platform stands on, as checks that run in the background.
//!
//! None decides readiness: while a part is away, the users of the others are served.

use std::future::ready;
use std::time::Duration;

use maxscale_core::clock::Clock;
use maxscale_core::health::{Health, Importance, Place};
use maxscale_queue::Job as _;
use maxscale_shard::{Fleet, sql};

use crate::ground::Ground;
use crate::http::App;
use crate::measure::Measure;
use crate::redis::{self, Servers};

/// A job that is due waits longer only where workers are too few or stand still.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Checks every node, the map, each Redis, the objects, the queue and the bus.
pub(crate) fn health(fleet: &Fleet, redis: &Servers, app: &App, ground: &Ground) -> Health {
    let Ground {
        hub, queue, meter, ..
    } = ground;
    let health = Health::builder(Clock::system(), env!("CARGO_PKG_VERSION"));
    let health = health.meter(meter).build();
    for node in fleet.router().nodes().iter() {
        let checked = node.clone();
        let check = move || {
            let node = checked.clone();
            async move {
                if !node.is_ready() {
                    return Err("not ready since the start".into());
                }
                node.background().fetch_all(sql("SELECT 1 AS one")).await?;
                Ok(())
            }
        };
        let name = node.id().as_str();
        health.register(Place::NODES, name, Importance::Degrading, check);
    }
    let map = fleet.watch_map();
    let confirmed = move || {
        let problem = map.borrow().problem.clone();
        async move { problem.map_or(Ok(()), |problem| Err(problem.into())) }
    };
    health.register(Place::NODES, "shard map", Importance::Degrading, confirmed);
    redis::register(redis, &health);
    let objects = app.objects.clone();
    let reached = move || {
        let objects = objects.clone();
        async move { Ok(objects.ping().await?) }
    };
    let degrading = Importance::Degrading;
    health.register(Place::OBJECT_STORE, "objects", degrading, reached);
    let queue = queue.clone();
    let in_time = move || {
        let queue = queue.clone();
        async move {
            match queue.waited(Measure::QUEUE).await? {
                Some(waited) if waited > LONGEST_WAIT => {
                    let waited = waited.as_secs();
                    Err(format!("the oldest job that is due has waited for {waited} s").into())
                }
                _ => Ok(()),
            }
        }
    };
    health.register(Place::QUEUE, "jobs", Importance::Degrading, in_time);
    let hub = hub.clone();
    let told = move || {
        let pending = hub.stats().pending;
        ready(match pending {
            0 => Ok(()),
            _ => Err(format!("{pending} dropped keys are not told to others yet").into()),
        })
    };
    health.register(Place::BUS, "invalidations", Importance::Degrading, told);
    health
}
