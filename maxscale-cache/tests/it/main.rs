//! One hub, two hubs, a far tier that fails, and a real Redis that is killed.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod audit;
mod behind;
mod burst;
mod checker;
mod codec;
mod evicted;
mod far;
mod fleet;
mod held;
mod http;
mod killed;
mod load;
mod memcached;
mod memory;
mod monotonic;
mod near;
mod outage;
mod processes;
mod program;
mod reads;
mod redis;
mod several;
mod source;
mod stale;
mod standstill;
mod tagged;
mod through;
