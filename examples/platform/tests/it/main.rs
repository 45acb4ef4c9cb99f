//! The platform as its users meet it: the program itself, over HTTP, on real servers.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod ask;
mod bad_input;
mod behind_proxy;
mod catalog_down;
mod client;
mod collector;
mod documented;
mod first_steps;
mod flood;
mod journal;
mod kill;
mod load;
mod main_job;
mod migrate;
mod newest;
mod node_down;
mod observe;
mod overrides;
mod prod;
mod redis_down;
mod redis_roles;
mod replicas;
mod rotation;
mod servers;
mod service;
mod start_errors;
mod starts;
mod streams;
mod sweep;
mod terminate;
mod traces;
mod two_nodes;
mod users;
mod visit;
mod wire;
