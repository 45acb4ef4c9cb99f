//! The suite that the crate has for every database, on ours.

use maxscale_queue::testkit;

use crate::stage::{Stage, on_both};

on_both! {
    async fn database_keeps_what_a_queue_needs(stage: &Stage) {
        testkit::check(&stage.queue).await;
    }
}
