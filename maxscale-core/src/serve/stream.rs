//! A connection's bytes: what comes in is noted, and a cut ends it wherever it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::activity::Activity;
use super::draining::Draining;
use super::gate::Place;

/// How a client of HTTP/2 begins; no method of HTTP/1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// A connection, also after a request has taken it over (a WebSocket).
pub(super) struct Stream {
    inner: TcpStream,
    activity: Arc<Activity>,
    /// How much of the preface was seen; `None` once it is known.
    preface: Option<usize>,
    cut: Draining,
    /// Wakes whoever reads when the cut comes.
    cutting: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    _place: Place,
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(
        inner: TcpStream,
        activity: Arc<Activity>,
        cut: Draining,
        place: Place,
    ) -> Self {
        Self {
            inner,
            activity,
            preface: Some(0),
            cutting: Box::pin(cut.wait()),
            cut,
            _place: place,
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.activity.read(Instant::now());
        let Some(seen) = self.preface else {
            return;
        };
        let wanted = &PREFACE[seen..];
        let here = wanted.len().min(bytes.len());
        if wanted[..here] != bytes[..here] {
            self.preface = None;
        } else if here == wanted.len() {
            self.activity.multiplexed();
            self.preface = None;
        } else {
            self.preface = Some(seen + here);
        }
    }

    /// An error once the cut has come.
    fn is_whole(&self) -> io::Result<()> {
        if self.cut.is_draining() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.note(&buf.filled()[before..]);
        // Asked first: a wait that has ended must not be polled again.
        self.is_whole()?;
        if polled.is_pending() && self.cutting.as_mut().poll(cx).is_ready() {
            self.is_whole()?;
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_whole()?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_whole()?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_whole()?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
