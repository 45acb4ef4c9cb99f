use tokio::time::Instant;

use super::layout::{Layout, Map};
use crate::redis::address::Address;
use crate::redis::command::Command;
use crate::redis::config::RedisConfig;
use crate::redis::link::Link;
use crate::redis::pace::draw;
use crate::redis::{RedisError, Reply};

/// What a server says of a command that is not for it. It did not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Another one has the slot.
    Moved(Address),
    /// Another one is being given the slot, and has this key already.
    Ask(Address),
    /// The keys are being moved, and at the moment are apart.
    Again,
}

/// Who serves what, as one of the servers sees it.
pub(super) async fn layout(config: &RedisConfig, map: &Map) -> Result<Layout, RedisError> {
    let mut cause = RedisError::Down;
    // Not always the same one, so that no view is believed for ever.
    let up = map.nodes.iter().filter(|it| it.node.is_up());
    let mut up: Vec<_> = up.collect();
    rotate(&mut up);
    for it in up {
        let end = Instant::now() + config.timeout;
        match it.node.attempt(slots(), end).await {
            Ok(reply) => return read(reply, &it.node.address),
            Err(error) => cause = error,
        }
    }
    let known = map.nodes.iter().map(|it| &it.node.address);
    let mut others: Vec<_> = config.seeds.iter().chain(known).collect();
    rotate(&mut others);
    for address in others {
        match ask_stranger(config, address).await {
            Ok(reply) => return read(reply, address),
            Err(error) => cause = error,
        }
    }
    Err(cause)
}

async fn ask_stranger(config: &RedisConfig, address: &Address) -> Result<Reply, RedisError> {
    let link = Link::for_commands(config, address).await?;
    link.ask(slots()).await
}

fn slots() -> Command {
    Command::new("CLUSTER").arg("SLOTS")
}

fn rotate<T>(all: &mut [T]) {
    let by = usize::try_from(draw()).unwrap_or(0);
    if let Some(by) = by.checked_rem(all.len()) {
        all.rotate_left(by);
    }
}

/// Reads the reply to CLUSTER SLOTS: first slot, last slot, primary, replicas.
fn read(reply: Reply, here: &Address) -> Result<Layout, RedisError> {
    let range = |reply: Reply| {
        let mut parts = reply.into_array()?.into_iter();
        let mut slot = || u16::try_from(parts.next()?.as_int()?).ok();
        let range = slot()?..=slot()?;
        let mut primary = parts.next()?.into_array()?.into_iter();
        // A server that does not know its own name says nothing.
        let host = primary.next()?.into_bytes().unwrap_or_default();
        let port = u16::try_from(primary.next()?.as_int()?).ok()?;
        let host = std::str::from_utf8(&host).ok()?;
        Some((range, Address::named(host, port, here)))
    };
    let ranges = reply.into_array().unwrap_or_default().into_iter();
    let mut ranges = ranges
        .map(range)
        .collect::<Option<Vec<_>>>()
        .filter(|ranges| !ranges.is_empty())
        .ok_or(RedisError::Reply {
            command: "CLUSTER SLOTS",
        })?;
    ranges.sort_by_key(|(range, _)| *range.start());
    Ok(Layout(ranges))
}

// === impl Redirect ===

impl Redirect {
    pub(super) fn of(reply: &Result<Reply, RedisError>, here: &Address) -> Option<Self> {
        let Err(RedisError::Server { message }) = reply else {
            return None;
        };
        let mut words = message.split(' ');
        let kind = words.next()?;
        let mut named = || Address::parse(words.nth(1)?, here);
        match kind {
            "MOVED" => named().map(Self::Moved),
            "ASK" => named().map(Self::Ask),
            "TRYAGAIN" => Some(Self::Again),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Address {
        Address::new("here", 7)
    }

    #[test]
    fn layout_is_read_from_what_a_server_says() {
        let text = |text: &str| Reply::Bytes(text.to_owned().into());
        let node = |host, port| Reply::Array(vec![host, Reply::Int(port), text("id")]);
        let range =
            |first, last, node| Reply::Array(vec![Reply::Int(first), Reply::Int(last), node]);
        let reply = Reply::Array(vec![
            range(5_461, 16_383, node(Reply::Nil, 2)),
            range(0, 5_460, node(text("a"), 1)),
        ]);
        let expected = vec![
            (0..=5_460, Address::new("a", 1)),
            (5_461..=16_383, Address::new("here", 2)),
        ];
        assert_eq!(read(reply, &here()).unwrap(), Layout(expected));
        assert!(read(Reply::Array(Vec::new()), &here()).is_err());
    }

    #[test]
    fn redirect_is_read_from_an_error() {
        let of = |message: &str| {
            let message = message.to_owned();
            Redirect::of(&Err(RedisError::Server { message }), &here())
        };
        let a = || Address::new("a", 1);
        assert_eq!(of("MOVED 3999 a:1"), Some(Redirect::Moved(a())));
        assert_eq!(of("ASK 3999 a:1"), Some(Redirect::Ask(a())));
        assert_eq!(
            of("MOVED 3999 :1"),
            Some(Redirect::Moved(Address::new("here", 1)))
        );
        assert_eq!(of("TRYAGAIN Multiple keys"), Some(Redirect::Again));
        assert_eq!(of("ERR MOVED"), None);
    }
}
