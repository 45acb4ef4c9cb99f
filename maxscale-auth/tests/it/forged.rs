//! A token that was tampered with costs a real Redis nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maxscale_auth::session::RedisSessions;
use maxscale_auth::{Principal, SessionLayer};
use maxscale_core::fact::VirtualShard;
use maxscale_tests::RedisMonitor;

use crate::activity::PROOF;
use crate::copies::{Copied, HOUR, connect, is_settled};
use crate::support::{ask, authorization, cookie};

/// What a text may be changed to: both ends of the alphabet, its neighbours, and what is
/// in none.
const OTHERS: &[u8] = b"AZaz09-_+/=.~ ";

/// The token with each of its bytes changed in several ways: each bit of what it says,
/// and each letter of how it is written.
fn tampered(token: &str) -> Vec<String> {
    let (prefix, written) = token.split_at(4);
    let bytes = URL_SAFE_NO_PAD.decode(written).unwrap();
    let mut all = Vec::new();
    for at in 0..bytes.len() {
        // Each bit, all of them, and a byte that is not of a kind with it.
        for change in (0..8).map(|bit| 1 << bit).chain([0xff, 0x55]) {
            let mut bytes = bytes.clone();
            bytes[at] ^= change;
            all.push(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)));
        }
    }
    for (at, old) in token.bytes().enumerate() {
        for new in OTHERS.iter().filter(|new| **new != old) {
            let mut text = token.as_bytes().to_vec();
            text[at] = *new;
            all.push(String::from_utf8(text).unwrap());
        }
        all.push(format!("{}{}", &token[..at], &token[at + 1..]));
        all.push(token[..at].to_owned());
    }
    all
}

/// What was asked but the handle's heartbeat.
async fn asked(monitor: &mut RedisMonitor) -> Vec<String> {
    let mut heard = monitor.commands().await;
    heard.retain(|line| !line.ends_with("\"TIME\""));
    heard
}

async fn is_recognised(layer: &SessionLayer, request: http::Request<()>) -> bool {
    let answer = ask(layer, request).await;
    answer.extensions().get::<Principal>().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_with_any_byte_changed_costs_no_command() {
    let copied = Copied::new().await;
    let redis = connect(&copied.servers[0].url()).await;
    // It asks for nothing by itself.
    let store = RedisSessions::builder(copied.bench.rows(), [redis]);
    let store = store.sweep_every(HOUR).build().unwrap();
    let sessions = copied.bench.sessions_on(store.clone());
    let user = copied.bench.ids.draw(VirtualShard::new(3));
    let token = sessions.begin(user, PROOF, "").await.unwrap();
    is_settled(&copied.bench).await;
    let layer = copied.bench.layer_on(store);

    let mut monitor = copied.servers[0].monitor().await;
    let mut taken = Vec::new();
    for bad in tampered(&token) {
        let bearer = authorization(&format!("Bearer {bad}"));
        for request in [cookie(&bad), bearer] {
            if is_recognised(&layer, request).await {
                taken.push(bad.clone());
            }
        }
    }
    let heard = asked(&mut monitor).await;
    assert!(
        heard.is_empty(),
        "{} commands: {:?}",
        heard.len(),
        heard.first()
    );
    assert!(taken.is_empty(), "{taken:?}");

    assert!(is_recognised(&layer, cookie(&token)).await);
    assert!(!asked(&mut monitor).await.is_empty());
}
