//! A TCP proxy that a test puts between a client and its server, to break what
//! is between them.

mod connection;
mod faults;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::Mutex, task::JoinHandle};

use self::{connection::Link, faults::Faults};
use crate::wait::{free_port, within};

const HEAL_LIMIT: Duration = Duration::from_secs(10);

/// A TCP proxy on a port of 127.0.0.1 that stays the same for its lifetime.
///
/// It does nothing to what it forwards until it is told to. Faults add up, hold
/// for connections of now and later, and end with [`heal`](Self::heal).
///
/// It runs on the runtime it was started on and ends, with all its
/// connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    port: u16,
    link: Arc<Link>,
    // None: new connections are refused.
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// As if the other side had crashed: a read is an error (`RST`).
    Reset,
    /// As if the other side had closed it: a read finds the end (`FIN`).
    Close,
}

/// A direction through a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// What clients send.
    ToServer,
    /// What the server answers.
    ToClient,
}

// === impl Proxy ===

impl Proxy {
    /// Starts a proxy to `target`: a URL with a host and a port, or the two
    /// alone (`127.0.0.1:6379`).
    ///
    /// Nobody needs to listen there yet; until then clients are accepted and
    /// reset.
    ///
    /// # Panics
    ///
    /// Panics when the target has no port.
    pub async fn start(target: impl AsRef<str>) -> Self {
        let target = target.as_ref();
        let address = address_in(target).unwrap_or_else(|| panic!("{target} names no port"));
        let link = Arc::new(Link::new(target[address.clone()].to_owned()));
        // Between choosing a port and listening on it somebody may take it.
        let (port, accepting) = loop {
            let port = free_port();
            if let Ok(accepting) = accept(&link, port).await {
                break (port, accepting);
            }
        };
        let here = format!("127.0.0.1:{port}");
        Self {
            url: [&target[..address.start], &here, &target[address.end..]].concat(),
            port,
            link,
            accepting: Mutex::new(Some(accepting)),
        }
    }

    /// The target, as it was given, with this proxy's address in its place.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Ends all connections that are open, and returns once they are.
    ///
    /// What a fault still holds of them is lost.
    pub async fn cut(&self, how: Cut) {
        self.link.cut(how).await;
    }

    /// Refuses new connections from now on, as if nobody listened.
    ///
    /// Those that are open stay.
    pub async fn refuse(&self) {
        let mut accepting = self.accepting.lock().await;
        if let Some(task) = accepting.take() {
            task.abort();
            // Its end is that of the listener; aborted is how it ends.
            let _ = task.await;
        }
    }

    /// Delays each byte by `latency`, in each direction: a round trip takes
    /// twice as long.
    pub fn delay(&self, latency: Duration) {
        self.link.change(|faults| faults.latency = latency);
    }

    /// Lets no more than `bytes_per_second` through, on each connection and in
    /// each direction.
    ///
    /// # Panics
    ///
    /// Panics when it is 0; that is what [`black_hole`](Self::black_hole) is
    /// for.
    pub fn throttle(&self, bytes_per_second: u32) {
        assert!(bytes_per_second > 0, "a throttle lets something through");
        self.link
            .change(|faults| faults.rate = Some(bytes_per_second));
    }

    /// Accepts connections and lets nothing through in this direction, not
    /// even their end.
    ///
    /// As TCP does, it delivers what was sent meanwhile once it is
    /// [healed](Self::heal). [`cut`](Self::cut) it before, and it is lost.
    pub fn black_hole(&self, way: Way) {
        self.link.change(|faults| match way {
            Way::ToServer => faults.to_server_held = true,
            Way::ToClient => faults.to_client_held = true,
        });
    }

    /// Swallows what the server sends next, on whichever connection, and
    /// resets that connection: the server did it, the client cannot know.
    pub fn drop_reply(&self) {
        self.link.drop_reply(true);
    }

    /// Ends all faults: accepts, and forwards at once.
    ///
    /// # Panics
    ///
    /// Panics when somebody took the port while connections were refused.
    pub async fn heal(&self) {
        self.link.drop_reply(false);
        self.link.change(|faults| *faults = Faults::default());
        let mut accepting = self.accepting.lock().await;
        if accepting.is_none() {
            // Whoever looks for a free port holds this one for a moment.
            let task = within(HEAL_LIMIT, async || {
                let task = accept(&self.link, self.port).await;
                task.map_err(|error| error.to_string())
            });
            let task = task.await;
            *accepting = Some(task.unwrap_or_else(|why| panic!("{}: {why}", self.address())));
        }
    }

    /// How many connections it accepted so far.
    pub fn connections(&self) -> u64 {
        self.link.counts().accepted
    }

    /// How many of them are open, on both sides.
    pub fn open_connections(&self) -> u64 {
        self.link.counts().open
    }

    /// How many replies it dropped.
    pub fn dropped_replies(&self) -> u64 {
        self.link.counts().dropped
    }

    /// How many bytes it delivered in one direction.
    pub fn bytes(&self, way: Way) -> u64 {
        let counts = self.link.counts();
        match way {
            Way::ToServer => counts.to_server,
            Way::ToClient => counts.to_client,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.get_mut() {
            task.abort();
        }
        self.link.end();
    }
}

async fn accept(link: &Arc<Link>, port: u16) -> io::Result<JoinHandle<()>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let link = Arc::clone(link);
    Ok(tokio::spawn(async move {
        loop {
            // A client that is gone before it is accepted is no connection.
            if let Ok((client, _)) = listener.accept().await {
                Arc::clone(&link).carry(client);
            }
        }
    }))
}

/// Where `host:port` stands in a URL.
fn address_in(url: &str) -> Option<std::ops::Range<usize>> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..]
        .find(['/', '?'])
        .map_or(url.len(), |at| start + at);
    let start = url[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    let (_, port) = url[start..end].rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::address_in;

    #[test]
    fn only_the_address_in_a_url_is_replaced() {
        for (url, expected) in [
            ("127.0.0.1:1", Some("127.0.0.1:1")),
            ("redis://h:2", Some("h:2")),
            ("postgres://a:b@h:3/db?x=y:4", Some("h:3")),
            ("redis://h:5?node=i:6", Some("h:5")),
            ("redis://[::1]:7/0", Some("[::1]:7")),
            ("redis://h", None),
        ] {
            assert_eq!(address_in(url).map(|range| &url[range]), expected, "{url}");
        }
    }
}
