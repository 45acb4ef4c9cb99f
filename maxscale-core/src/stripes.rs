//! What all threads would write, in a few copies: each thread writes its own, so that
//! none takes the cache line from another.

use std::cell::Cell;
use std::hash::{Hash as _, Hasher};
use std::thread;

/// How many copies there are at most. Threads beyond these share.
pub const STRIPES: usize = 16;

thread_local! {
    /// [`UNKNOWN`] until it is asked for.
    static STRIPE: Cell<usize> = const { Cell::new(UNKNOWN) };
}

const UNKNOWN: usize = usize::MAX;

/// What an id hands to its hasher: a number.
struct Number(u64);

/// Which copy is this thread's, below [`STRIPES`]. Always the same one.
#[inline]
pub fn of_this_thread() -> usize {
    STRIPE.with(|stripe| match stripe.get() {
        UNKNOWN => {
            stripe.set(first_of_this_thread());
            stripe.get()
        }
        known => known,
    })
}

/// Threads are numbered one after another.
#[cold]
fn first_of_this_thread() -> usize {
    let mut number = Number(0);
    thread::current().id().hash(&mut number);
    usize::try_from(number.0 % STRIPES as u64).unwrap_or(0)
}

// === impl Number ===

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_stripes_of_their_own() {
        let threads = [(); 4].map(|()| thread::spawn(|| (of_this_thread(), of_this_thread())));
        let mut stripes = threads.map(|it| it.join().unwrap());
        assert!(stripes.iter().all(|(one, again)| one == again));
        stripes.sort_unstable();
        // Others' threads may lie between, but four in a row are no four times the same.
        assert_ne!(stripes[0], stripes[3]);
    }
}
