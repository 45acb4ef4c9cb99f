//! Tells the copies of what they may have missed, until they were told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_core::Chain;
use maxscale_core::id::Id;
use tokio::time::{Instant, sleep, timeout_at};

use super::Shared;
use super::pending::Mark;
use crate::session::durable::{DurableSessions, Untold};

/// How many users are told of at once.
const AT_ONCE: usize = 16;
/// How many of the rows' users are asked for at once.
const SWEPT: u32 = 100;
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_AT_MOST: Duration = Duration::from_secs(2);

/// Goes on until it is aborted.
pub(super) async fn run<D: DurableSessions>(shared: Arc<Shared<D>>) {
    let mut sweep = Instant::now() + shared.sweep_every;
    let mut after = None;
    let mut again = AGAIN;
    loop {
        if settle_pending(&shared).await {
            again = AGAIN;
            let _ = timeout_at(sweep, shared.pending.news.notified()).await;
        } else {
            // Whatever comes in between waits with the rest.
            sleep(again).await;
            again = (again * 2).min(AGAIN_AT_MOST);
        }
        if Instant::now() >= sweep {
            shared.room.look(shared.copies.servers()).await;
            after = settle_rows(&shared, after).await;
            // More than one answer has: the next comes at once.
            let pause = after.map_or(shared.sweep_every, |_| Duration::ZERO);
            sweep = Instant::now() + pause;
        }
    }
}

/// Tells of what this process knows. False if something is left to try again.
async fn settle_pending<D: DurableSessions>(shared: &Shared<D>) -> bool {
    let mut done = true;
    for some in shared.pending.all().chunks(AT_ONCE) {
        let settled = some
            .iter()
            .map(|(user, mark)| settle_user(shared, *user, *mark));
        done &= join_all(settled).await.into_iter().all(|it| it);
    }
    done
}

async fn settle_user<D: DurableSessions>(shared: &Shared<D>, user: Id, mark: Mark) -> bool {
    if !shared.copies.is_up(user) {
        return false;
    }
    let changes = match shared.durable.snapshot(user).await {
        Ok(snapshot) => snapshot.standing.changes,
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "cannot read a user's sessions");
            return false;
        }
    };
    let told = settle(shared, Untold { user, changes }).await;
    if told {
        shared.pending.done(user, mark);
    }
    told
}

/// Tells of what the rows know, of users after `after`, and gives the last one; `None`
/// if there were no more. What cannot be told stays in the rows.
async fn settle_rows<D: DurableSessions>(shared: &Shared<D>, after: Option<Id>) -> Option<Id> {
    let untold = match shared.durable.untold(after, SWEPT).await {
        Ok(untold) => untold,
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "cannot ask what no copy was told");
            return None;
        }
    };
    for some in untold.chunks(AT_ONCE) {
        join_all(some.iter().map(|it| settle(shared, *it))).await;
    }
    let full = untold.len() >= usize::try_from(SWEPT).unwrap_or(usize::MAX);
    untold.last().filter(|_| full).map(|it| it.user)
}

/// Tells the copies, and then the rows that they were told.
async fn settle<D: DurableSessions>(shared: &Shared<D>, it: Untold) -> bool {
    if let Err(error) = shared.copies.settle(it).await {
        tracing::debug!(error = %Chain(&error), "cannot tell redis of a change");
        return false;
    }
    if let Err(error) = shared.durable.told(it).await {
        tracing::debug!(error = %Chain(&error), "cannot note that redis was told");
        return false;
    }
    true
}
