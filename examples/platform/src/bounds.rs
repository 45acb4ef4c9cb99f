//! Settings that are well by their kind, and cannot be.

use std::time::Duration;

use crate::mail::{self, Carrier};
use crate::settings::Settings;
use crate::start::StartError;

/// What needs no database to be told, so that nobody waits for one to hear it.
pub(crate) fn check(settings: &Settings) -> Result<(), StartError> {
    if settings.deadline.is_zero() {
        return Err(StartError::Bounds {
            key: "http.deadline",
            allowed: "longer than 0s, or no request could be answered",
        });
    }
    if settings.connections == 0 {
        return Err(StartError::Bounds {
            key: "http.connections",
            allowed: "at least 1",
        });
    }
    if settings.stop_wait > settings.grace {
        return Err(StartError::Bounds {
            key: "shutdown.wait",
            allowed: "at most shutdown.grace, of which it is a part",
        });
    }
    if settings.grace > LONGEST_GRACE {
        return Err(StartError::Bounds {
            key: "shutdown.grace",
            allowed: "at most 1h",
        });
    }
    if settings.workers > MAX_WORKERS {
        return Err(StartError::Bounds {
            key: "worker.concurrency",
            allowed: "a number from 0 to 1,024",
        });
    }
    // A folder's is opened when the data's folder is held.
    if mail::folder(settings).is_none() {
        Carrier::open(settings)?;
    }
    Ok(())
}

/// Each job at once may hold a connection; more is a slip of the keyboard.
const MAX_WORKERS: usize = 1024;

/// Whoever stops the process kills it long before.
const LONGEST_GRACE: Duration = Duration::from_secs(3_600);
