//! maxscale-shard
