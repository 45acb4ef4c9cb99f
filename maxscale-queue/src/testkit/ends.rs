//! Each end of a run, under each fault.

use std::time::Duration;

use crate::job::JobState;
use crate::store::{self, Ending, Lease, Seen};

use super::{Suite, ok};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MICROS: i64 = 3_600_000_000;

/// How a run ends.
#[derive(Clone, Debug)]
enum End {
    Settled(Ending),
    /// In a transaction of the handler's.
    Completed,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    /// The worker dies before it tells.
    CrashBefore,
    /// The worker dies once its end is stored.
    CrashAfter,
    /// The reply is lost, and the end is told once more.
    Twice,
    /// As before, and meanwhile the job runs again under the same worker.
    TwiceAndClaimed,
    /// The job was given back and taken again by the same worker.
    StaleToken,
    /// Another worker that lives has the right token.
    WrongWorker,
    /// The job is another's by now.
    Taken,
    /// The transaction, if there is one, is rolled back.
    RolledBack,
}

const FAULTS: [Fault; 9] = [
    Fault::None,
    Fault::CrashBefore,
    Fault::CrashAfter,
    Fault::Twice,
    Fault::TwiceAndClaimed,
    Fault::StaleToken,
    Fault::WrongWorker,
    Fault::Taken,
    Fault::RolledBack,
];

fn ends() -> Vec<End> {
    let text = || "why".to_owned();
    let settled = [
        Ending::Done { result: None },
        Ending::Done {
            result: Some("7".to_owned()),
        },
        Ending::Retry {
            after: HOUR,
            error: text(),
        },
        Ending::Dead { reason: text() },
        Ending::Undecodable { reason: text() },
        Ending::Snooze { after: HOUR },
        Ending::Continue {
            checkpoint: "8".to_owned(),
        },
        Ending::Cancelled { reason: text() },
        Ending::HandBack,
    ];
    let settled = settled.into_iter().map(End::Settled);
    settled.chain([End::Completed]).collect()
}

impl Suite {
    pub(super) async fn ends(&self) {
        for end in ends() {
            for fault in FAULTS {
                self.end(&end, fault).await;
                self.wipe().await;
            }
        }
    }

    async fn end(&self, end: &End, fault: Fault) {
        let told = format!("{end:?}, {fault:?}, {:?}", self.form);
        let lease = self.running().await;
        let before = self.seen(lease.job).await;
        match fault {
            Fault::None => assert!(self.tell(end, lease).await, "{told}"),
            Fault::CrashBefore => {
                self.die(lease.worker).await;
                assert_eq!(self.rescue().await, 1, "{told}");
                let rescued = self.seen(lease.job).await;
                assert_eq!(rescued.state, JobState::Ready, "{told}");
                assert_eq!((rescued.attempt, rescued.crashes), (0, 1), "{told}");
                return self.refused(end, lease, &told).await;
            }
            Fault::CrashAfter => {
                assert!(self.tell(end, lease).await, "{told}");
                self.die(lease.worker).await;
                assert_eq!(self.rescue().await, 0, "{told}");
            }
            Fault::Twice => {
                assert!(self.tell(end, lease).await, "{told}");
                self.refused(end, lease, &told).await;
            }
            Fault::TwiceAndClaimed => {
                assert!(self.tell(end, lease).await, "{told}");
                // Again there to be claimed only if it was handed back.
                self.claim(lease.worker, 1).await;
                return self.refused(end, lease, &told).await;
            }
            Fault::StaleToken => {
                let given_back = store::give_back(&self.node, lease.worker, &[]).await;
                assert_eq!(ok(given_back), 1, "{told}");
                assert_ne!(self.claim_one(lease.worker).await.token, lease.token);
                return self.refused(end, lease, &told).await;
            }
            Fault::WrongWorker => {
                let worker = self.worker().await;
                let other = Lease { worker, ..lease };
                return self.refused(end, other, &told).await;
            }
            Fault::Taken => {
                self.die(lease.worker).await;
                assert_eq!(self.rescue().await, 1, "{told}");
                self.claim_one(self.worker().await).await;
                return self.refused(end, lease, &told).await;
            }
            Fault::RolledBack => {
                let mut tx = ok(self.shard.begin().await);
                assert!(ok(store::complete(&mut tx, &lease).await), "{told}");
                ok(tx.rollback().await);
                assert_eq!(self.seen(lease.job).await, before, "{told}");
                assert!(self.tell(end, lease).await, "{told}");
            }
        }
        check(end, &before, &self.seen(lease.job).await, &told);
    }

    /// Tells of an end; false if the row did not take it.
    async fn tell(&self, end: &End, lease: Lease) -> bool {
        match end {
            End::Settled(ending) => self.settle(lease, ending.clone()).await,
            End::Completed => {
                let mut tx = ok(self.shard.begin().await);
                let taken = ok(store::complete(&mut tx, &lease).await);
                ok(tx.commit().await);
                taken
            }
        }
    }

    /// An end that comes too late, or from somebody else, changes nothing.
    async fn refused(&self, end: &End, lease: Lease, told: &str) {
        let before = self.seen(lease.job).await;
        assert!(!self.tell(end, lease).await, "{told}: it was taken");
        assert_eq!(self.seen(lease.job).await, before, "{told}");
    }
}

/// What an end makes of a row.
fn check(end: &End, before: &Seen, after: &Seen, told: &str) {
    use Ending::{Cancelled, Continue, Dead, Done, HandBack, Retry, Snooze, Undecodable};
    let finished = after.finished_at.is_some();
    assert_eq!((after.worker, after.token), (None, before.token), "{told}");
    assert_eq!(finished, after.state.is_end(), "{told}");
    let state = match end {
        End::Completed | End::Settled(Done { .. }) => JobState::Done,
        End::Settled(Dead { .. } | Undecodable { .. } | Cancelled { .. }) => JobState::Dead,
        End::Settled(_) => JobState::Ready,
    };
    assert_eq!(after.state, state, "{told}");
    let pruned = after.prune_at.zip(after.finished_at);
    let kept = pruned.map(|(at, finished)| at - finished);
    assert_eq!(
        kept,
        (state == JobState::Done).then_some(HOUR_MICROS),
        "{told}"
    );
    let attempt = match end {
        End::Settled(HandBack | Snooze { .. } | Continue { .. }) => 0,
        _ => 1,
    };
    assert_eq!(after.attempt, attempt, "{told}");
    let put_off = matches!(end, End::Settled(Retry { .. } | Snooze { .. }));
    if put_off {
        let waits = after.run_at - before.run_at;
        assert!(waits >= HOUR_MICROS, "{told}: {waits}");
        assert_eq!(after.rank, None, "{told}: it has a place before its time");
    } else if matches!(end, End::Settled(Continue { .. })) {
        assert!(
            after.run_at >= before.run_at && after.rank.is_none(),
            "{told}: it goes behind"
        );
    } else {
        let place = |seen: &Seen| (seen.rank, seen.run_at);
        assert_eq!(place(after), place(before), "{told}");
    }
    let result = match end {
        End::Settled(Done { result }) => result.clone(),
        _ => None,
    };
    assert_eq!(after.result, result, "{told}");
    let reason = match end {
        End::Settled(Dead { .. }) => Some("failed"),
        End::Settled(Undecodable { .. }) => Some("undecodable"),
        End::Settled(Cancelled { .. }) => Some("cancelled"),
        _ => None,
    };
    assert_eq!(after.dead_reason.as_deref(), reason, "{told}");
    let failed = reason.is_some() || matches!(end, End::Settled(Retry { .. }));
    assert_eq!(after.last_error.is_some(), failed, "{told}");
    let noted = !matches!(end, End::Completed | End::Settled(Done { .. }));
    assert_eq!(after.history.is_some(), noted, "{told}");
    let checkpoint = matches!(end, End::Settled(Continue { .. })).then_some("8");
    assert_eq!(after.checkpoint.as_deref(), checkpoint, "{told}");
    let stops = matches!(end, End::Settled(Cancelled { .. }));
    assert_eq!(after.cancel_at.is_some(), stops, "{told}");
}
