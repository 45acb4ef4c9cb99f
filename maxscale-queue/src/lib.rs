//! maxscale-queue
