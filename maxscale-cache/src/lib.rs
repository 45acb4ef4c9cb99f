//! maxscale-cache
