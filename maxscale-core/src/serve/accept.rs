//! Accepts connections as long as there is room for them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::gate::{Gate, Place};

/// How long the system has to come to itself when it is short of something.
const PAUSE: Duration = Duration::from_millis(500);

/// Where connections come from.
pub(super) trait Accept {
    /// One connection.
    type Io;

    /// Waits for the next one. May be cancelled.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = Self::accept(self).await?;
        // Answers are written whole; waiting for more to send only delays them.
        stream.set_nodelay(true)?;
        Ok((stream, peer))
    }
}

/// Hands connections to `serve` for ever. What finds no room is not accepted,
/// and waits where the system keeps it.
pub(super) async fn accept_all<A: Accept>(
    listener: &A,
    gate: &Arc<Gate>,
    serve: impl Fn(A::Io, SocketAddr, Place),
) {
    loop {
        let permit = gate.place().await;
        match listener.accept().await {
            Ok((io, peer)) => serve(io, peer, gate.enter(permit)),
            Err(error) if is_of_one_connection(&error) => {}
            // Too many open files, for one: asked again at once it would spin.
            Err(error) => {
                gate.failed(&error);
                sleep(PAUSE).await;
            }
        }
    }
}

/// The client left before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            // `set_nodelay` on a connection that is gone.
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::meter;

    /// Gives what `next` makes of the number of the call.
    struct Script<F> {
        calls: AtomicUsize,
        next: F,
    }

    impl<F: Fn(usize) -> io::Result<()> + Sync> Accept for Script<F> {
        type Io = ();

        async fn accept(&self) -> io::Result<((), SocketAddr)> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            (self.next)(call).map(|()| ((), SocketAddr::from(([127, 0, 0, 1], 1))))
        }
    }

    /// Accepts for `span` and keeps what was accepted.
    async fn run<F: Fn(usize) -> io::Result<()> + Sync>(
        next: F,
        limit: u32,
        span: Duration,
    ) -> (usize, Vec<Instant>) {
        let script = Script {
            calls: AtomicUsize::new(0),
            next,
        };
        let gate = Gate::new("test", limit, &meter::nowhere());
        let kept = Mutex::new(Vec::new());
        let serve = |(), _, place| kept.lock().unwrap().push((Instant::now(), place));
        let _ = timeout(span, accept_all(&script, &gate, serve)).await;
        let kept = kept.into_inner().unwrap();
        (
            script.calls.load(Ordering::SeqCst),
            kept.into_iter().map(|(at, _)| at).collect(),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn shortage_of_files_neither_ends_the_loop_nor_spins() {
        let start = Instant::now();
        let too_many = |call| match call {
            // EMFILE
            0..10 => Err(io::Error::from_raw_os_error(24)),
            _ => Ok(()),
        };
        let (calls, kept) = run(too_many, 1, Duration::from_secs(60)).await;
        assert_eq!((calls, kept.len()), (11, 1));
        let waited = kept[0] - start;
        let off = waited.abs_diff(10 * PAUSE);
        assert!(off < Duration::from_millis(50), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_left_delays_nobody() {
        let start = Instant::now();
        let left = |call| match call {
            0..10 => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        };
        let (_, kept) = run(left, 1, Duration::from_secs(60)).await;
        assert_eq!(kept, [start]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_is_not_accepted() {
        let (calls, kept) = run(|_| Ok(()), 3, Duration::from_secs(60)).await;
        assert_eq!((calls, kept.len()), (3, 3));
    }
}
