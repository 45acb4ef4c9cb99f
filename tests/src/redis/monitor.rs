//! What a Redis is asked, by its own account.

use super::wire::{Client, Reply};

/// Hears every command that a server takes, in its order (`MONITOR`).
#[derive(Debug)]
pub struct RedisMonitor {
    monitor: Client,
    marker: Client,
}

/// Nobody else says it.
const MARK: &str = "maxscale-tests: until here";

// === impl RedisMonitor ===

impl RedisMonitor {
    pub(super) async fn start(url: &str) -> Result<Self, String> {
        let marker = Client::connect(url).await?;
        let mut monitor = Client::connect(url).await?;
        monitor.command(&["MONITOR"]).await?;
        Ok(Self { monitor, marker })
    }

    /// All that the server took since it was asked last, each as the server writes it:
    /// when, from whom, and the words in quotes.
    pub async fn commands(&mut self) -> Vec<String> {
        let heard = self.until_mark().await;
        heard.unwrap_or_else(|why| panic!("MONITOR: {why}"))
    }

    async fn until_mark(&mut self) -> Result<Vec<String>, String> {
        self.marker.command(&["ECHO", MARK]).await?;
        let mut heard = Vec::new();
        loop {
            match self.monitor.reply().await? {
                Reply::Text(line) if line.contains(MARK) => return Ok(heard),
                Reply::Text(line) => heard.push(line),
                other => return Err(format!("it says {other:?}")),
            }
        }
    }
}
