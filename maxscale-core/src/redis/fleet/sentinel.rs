use std::sync::Arc;

use futures_util::future::join_all;

use super::layout::Layout;
use crate::redis::address::Address;
use crate::redis::command::Command;
use crate::redis::config::RedisConfig;
use crate::redis::link::Link;
use crate::redis::{RedisError, Reply};

/// The sentinels, who say which server is the primary.
///
/// All of them are asked each time. What more than half of all say is believed:
/// one that is cut off from the others names the old primary for ever, also
/// when it is the only one to answer.
pub(super) struct Sentinels {
    config: Arc<RedisConfig>,
    all: Vec<Sentinel>,
    believed: Option<Address>,
}

struct Sentinel {
    address: Address,
    link: Option<Link>,
}

// === impl Sentinels ===

impl Sentinels {
    pub(super) fn new(config: Arc<RedisConfig>) -> Self {
        let seeds = config.seeds.iter().cloned();
        let all = seeds.map(|address| Sentinel {
            address,
            link: None,
        });
        Self {
            all: all.collect(),
            config,
            believed: None,
        }
    }

    pub(super) async fn layout(&mut self) -> Result<Layout, RedisError> {
        let asked = self.all.iter_mut().map(|it| it.ask(&self.config));
        let mut cause = RedisError::Down;
        let mut named = Vec::new();
        for said in join_all(asked).await {
            match said {
                Ok(address) => named.push(address),
                Err(error) => cause = error,
            }
        }
        let address = elect(&named, self.all.len(), self.believed.as_ref()).ok_or(cause)?;
        self.believed = Some(address.clone());
        Ok(Layout::one(address))
    }
}

// === impl Sentinel ===

impl Sentinel {
    async fn ask(&mut self, config: &RedisConfig) -> Result<Address, RedisError> {
        let link = match self.link.take() {
            Some(link) => link,
            None => Link::for_sentinel(config, &self.address).await?,
        };
        let question = Command::new("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(&*config.name);
        let reply = link.ask(question).await?;
        // Kept only if it answered.
        self.link = Some(link);
        address(reply, &self.address).ok_or(RedisError::Reply {
            command: "SENTINEL GET-MASTER-ADDR-BY-NAME",
        })
    }
}

/// What most of those who answered say, of `all`. What was believed before is
/// given up only if more than half of all say so.
fn elect(named: &[Address], all: usize, believed: Option<&Address>) -> Option<Address> {
    let votes = |it: &Address| named.iter().filter(|other| *other == it).count();
    let most = named.iter().max_by_key(|it| votes(it))?;
    let elected = match believed {
        Some(known) if votes(most) * 2 <= all => known,
        _ => most,
    };
    Some(elected.clone())
}

fn address(reply: Reply, here: &Address) -> Option<Address> {
    let [host, port] = <[Reply; 2]>::try_from(reply.into_array()?).ok()?;
    let text = |reply: Reply| String::from_utf8(reply.into_bytes()?.into()).ok();
    Some(Address::named(
        &text(host)?,
        text(port)?.parse().ok()?,
        here,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinel_that_is_cut_off_is_outvoted() {
        let [old, new] = [1, 2].map(|port| Address::new("host", port));
        let elect = |named: &[&Address], believed| {
            let named: Vec<_> = named.iter().map(|it| (*it).clone()).collect();
            elect(&named, 3, believed)
        };
        assert_eq!(elect(&[], Some(&old)), None);
        assert_eq!(elect(&[&old], None), Some(old.clone()));
        assert_eq!(elect(&[&old], Some(&new)), Some(new.clone()));
        let two_of_three = [&new, &old, &new];
        assert_eq!(elect(&two_of_three, Some(&old)), Some(new.clone()));
        for named in [[&old, &new], [&new, &old]] {
            assert_eq!(elect(&named, Some(&old)), Some(old.clone()));
            assert_eq!(elect(&named, Some(&new)), Some(new.clone()));
        }
    }
}
