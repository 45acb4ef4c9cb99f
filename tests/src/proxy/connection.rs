//! One connection: a client, the server, and two directions between them.

use std::{
    io::{self, ErrorKind},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Cut, Way,
    faults::{Faults, PIECE, Weather},
};

/// Pieces on their way in one direction, so that a delay does not throttle.
const UNDER_WAY: usize = 256;

/// What all connections of a proxy share.
#[derive(Debug)]
pub(super) struct Link {
    target: String,
    faults: watch::Sender<Faults>,
    /// Told how to end; each connection listens to the one of its time.
    end: Mutex<watch::Sender<Option<Cut>>>,
    drop_reply: AtomicBool,
    accepted: AtomicU64,
    open: AtomicU64,
    dropped: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) open: u64,
    pub(super) dropped: u64,
    pub(super) to_server: u64,
    pub(super) to_client: u64,
}

/// A connection that was accepted.
struct Connection {
    link: Arc<Link>,
    end: watch::Receiver<Option<Cut>>,
}

/// One more, as long as this lives.
struct Counted<'a>(&'a AtomicU64);

/// Bytes, or none for the end, and when they were read.
struct Piece {
    read: Instant,
    bytes: Vec<u8>,
}

// === impl Link ===

impl Link {
    pub(super) fn new(target: String) -> Self {
        Self {
            target,
            faults: watch::Sender::default(),
            end: Mutex::default(),
            drop_reply: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
    }

    pub(super) fn drop_reply(&self, drop: bool) {
        self.drop_reply.store(drop, Ordering::SeqCst);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Counts {
            accepted: read(&self.accepted),
            open: read(&self.open),
            dropped: read(&self.dropped),
            to_server: read(&self.to_server),
            to_client: read(&self.to_client),
        }
    }

    /// Ends the connections of now; later ones listen to another sender.
    pub(super) async fn cut(&self, how: Cut) {
        let old = mem::take(&mut *self.sender());
        old.send_replace(Some(how));
        old.closed().await;
    }

    /// As [`cut`](Self::cut), without waiting.
    pub(super) fn end(&self) {
        self.sender().send_replace(Some(Cut::Reset));
    }

    fn sender(&self) -> MutexGuard<'_, watch::Sender<Option<Cut>>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a client's bytes to the server and back, until either ends it.
    pub(super) fn carry(self: Arc<Self>, client: TcpStream) {
        let end = self.sender().subscribe();
        self.accepted.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(Connection { link: self, end }.run(client));
    }

    /// Both directions, until both have ended or one fails.
    async fn forward(&self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            self.pump(Way::ToServer, from_client, to_server),
            self.pump(Way::ToClient, from_server, to_client),
        )
        .map(|((), ())| ())
    }

    async fn pump(&self, way: Way, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (pieces, under_way) = mpsc::channel(UNDER_WAY);
        let weather = || Weather::new(self.faults.subscribe(), way);
        tokio::try_join!(
            take_in(from, weather(), pieces),
            self.deliver(way, under_way, weather(), to),
        )
        .map(|((), ())| ())
    }

    async fn deliver(
        &self,
        way: Way,
        mut pieces: mpsc::Receiver<Piece>,
        mut weather: Weather,
        mut to: WriteHalf<'_>,
    ) -> io::Result<()> {
        let delivered = match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        };
        while let Some(piece) = pieces.recv().await {
            weather.due(piece.read).await;
            let mut rest = &piece.bytes[..];
            while !rest.is_empty() {
                if way == Way::ToClient && self.drop_reply.swap(false, Ordering::SeqCst) {
                    self.dropped.fetch_add(1, Ordering::SeqCst);
                    return Err(ErrorKind::ConnectionReset.into());
                }
                let (now, later) = rest.split_at(rest.len().min(weather.piece()));
                to.write_all(now).await?;
                delivered.fetch_add(now.len() as u64, Ordering::SeqCst);
                weather.pace(now.len()).await;
                weather.open().await;
                rest = later;
            }
            if piece.bytes.is_empty() {
                to.shutdown().await?;
            }
        }
        Ok(())
    }
}

async fn take_in(
    mut from: ReadHalf<'_>,
    mut weather: Weather,
    pieces: mpsc::Sender<Piece>,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        weather.open().await;
        let count = from.read(&mut buffer).await?;
        let piece = Piece {
            read: Instant::now(),
            bytes: buffer[..count].to_vec(),
        };
        // Without a receiver the connection has failed, and says so itself.
        if pieces.send(piece).await.is_err() || count == 0 {
            return Ok(());
        }
    }
}

// === impl Connection ===

impl Connection {
    async fn run(mut self, mut client: TcpStream) {
        let link = Arc::clone(&self.link);
        let mut server = None;
        let mut open = None;
        let work = async {
            let server = server.insert(TcpStream::connect(&link.target).await?);
            open = Some(Counted::new(&link.open));
            link.forward(&mut client, server).await
        };
        let how = tokio::select! {
            how = self.ended() => how,
            done = work => if done.is_ok() { Cut::Close } else { Cut::Reset },
        };
        // All before `self` goes: a cut returns once it is gone.
        for mut stream in [Some(client), server].into_iter().flatten() {
            match how {
                // First, because closed with bytes unread a socket only resets.
                Cut::Close => drop(stream.shutdown().await),
                // One that is reset already needs it no more.
                Cut::Reset => drop(stream.set_zero_linger()),
            }
        }
        drop(open);
    }

    async fn ended(&mut self) -> Cut {
        let how = self.end.wait_for(Option::is_some).await;
        how.ok().and_then(|how| *how).unwrap_or(Cut::Reset)
    }
}

// === impl Counted ===

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
