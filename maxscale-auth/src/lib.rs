//! maxscale-auth
