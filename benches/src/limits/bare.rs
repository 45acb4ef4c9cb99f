//! The bare mechanism: fred, and the script of the limits as it is.

use std::sync::Arc;

use fred::prelude::{Builder, Client, ClientLike as _, Config, Value};
use fred::types::{ClusterHash, CustomCommand};
use maxscale_core::BoxError;

const TAKE: &str = concat!(
    include_str!("../../../maxscale-core/src/limit/redis/now.lua"),
    include_str!("../../../maxscale-core/src/limit/redis/take.lua"),
);

/// A rate's interval and tolerance, in microseconds.
#[derive(Clone, Copy)]
pub(super) struct Numbers(pub(super) i64, pub(super) i64);

#[derive(Clone)]
pub(super) struct Bare {
    client: Client,
    hash: Arc<str>,
}

// === impl Bare ===

impl Bare {
    pub(super) async fn open(url: &str) -> Result<Self, BoxError> {
        let client = Builder::from_config(Config::from_url(url)?).build()?;
        client.init().await?;
        let load: Vec<Value> = vec!["LOAD".into(), TAKE.into()];
        let hash: String = client.custom(word("SCRIPT"), load).await?;
        Ok(Self {
            client,
            hash: hash.into(),
        })
    }

    /// One request of one rate; whether it is admitted.
    pub(super) async fn take(&self, key: &str, rate: Numbers) -> Result<bool, BoxError> {
        let arguments: Vec<Value> = vec![
            Value::from(&*self.hash),
            1.into(),
            key.into(),
            "".into(),
            // One principal, one policy, one run: a rate; to admit one of cost one.
            1.into(),
            1.into(),
            1.into(),
            1.into(),
            rate.0.into(),
            rate.1.into(),
            0.into(),
            1.into(),
            1.into(),
        ];
        let reply: Vec<i64> = self.client.custom(word("EVALSHA"), arguments).await?;
        Ok(reply.first() == Some(&1))
    }

    pub(super) async fn close(&self) -> Result<(), BoxError> {
        Ok(self.client.quit().await?)
    }
}

fn word(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::FirstKey, false)
}
