//! maxscale-core
