//! A user whom the map sends elsewhere than the bits of the id say.

use std::sync::Arc;

use maxscale_auth::{Accounts, AuthError};
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{Id, IdGenerator, KeyspaceTag};
use maxscale_shard::{NodeId, Target};

use crate::support::{Bench, OpenAccounts, PASSWORD};

on_both!(
    user_on_another_virtual_shard_has_every_row_there,
    user_on_another_node_has_every_row_there,
);

const EMAIL: &str = "ada@example.org";

/// Where each row lies: on which node, under which `shard_id`.
type Places = Vec<(NodeId, i64)>;

async fn user_on_another_virtual_shard_has_every_row_there(bench: Bench) {
    let (ada, _, other) = foreseen(&bench);
    let map = bench.router().topology();
    let is_there = |shard: &VirtualShard| map.nodes()[map.locate(*shard).unwrap()] == other;
    let mut shards = (0..map.shards()).map(VirtualShard::new);
    let elsewhere = shards.rfind(is_there).unwrap();
    divert(&bench, ada, Target::Shard(elsewhere));

    let places = live(&bench, ada).await;

    let there = (other, elsewhere.as_i64());
    assert_eq!(places, vec![there; 5]);
}

async fn user_on_another_node_has_every_row_there(bench: Bench) {
    let (ada, own, other) = foreseen(&bench);
    divert(&bench, ada, Target::Node(other.clone()));

    let places = live(&bench, ada).await;

    let there = (other, own.as_i64());
    assert_eq!(places, vec![there; 5]);
}

/// Its first id is known before it is drawn, as its clock stands.
fn ids(bench: &Bench) -> IdGenerator {
    IdGenerator::with_random(bench.clock.clone(), KeyspaceTag::default(), || 7 << 60 | 7)
}

/// The id of the next user, its virtual shard, and the node that this is not on.
fn foreseen(bench: &Bench) -> (Id, VirtualShard, NodeId) {
    let id = ids(bench).draw_anywhere(bench.router().shards());
    let own = bench.router().shard(id).unwrap();
    let nodes = bench.router().nodes();
    let mut others = nodes.iter().filter(|node| node.id() != own.node().id());
    (id, own.id(), others.next().unwrap().id().clone())
}

fn divert(bench: &Bench, user: Id, to: Target) {
    let map = bench.router().topology().change().divert(user, to);
    let map = map.build().unwrap();
    bench.router().reload(map, &bench.nodes).unwrap();
}

/// Signs the user up and does all that an account can; gives where the rows lie
/// that are left: the user's two, and those of three sessions, one of them over.
async fn live(bench: &Bench, id: Id) -> Places {
    let (router, keys) = (bench.router().clone(), bench.keys.clone());
    let accounts = Accounts::builder(router, Arc::new(ids(bench)), keys, bench.passwords.clone())
        .clock(bench.clock.clone());
    let accounts = OpenAccounts::new(accounts, &bench.letters);
    let ada = accounts.sign_up(EMAIL, PASSWORD, "Ada").await.unwrap();
    assert_eq!(ada.user.id, id);
    let who = bench.who(&ada.token).await.unwrap();
    assert_eq!(who.user(), id);

    let mut tokens = Vec::new();
    for _ in 0..2 {
        let again = accounts.log_in(EMAIL, PASSWORD).await.unwrap();
        assert_eq!(again.user, ada.user);
        tokens.push(again.token);
    }
    accounts.log_out(&who).await.unwrap();
    assert!(bench.who(&ada.token).await.is_none());
    for token in &tokens {
        assert_eq!(bench.who(token).await.unwrap().user(), id);
    }

    assert!(accounts.rename(id, "Ada L.").await.unwrap());
    assert_eq!(accounts.user(id).await.unwrap().unwrap().name, "Ada L.");
    let taken = accounts.sign_up(EMAIL, PASSWORD, "Eve").await;
    assert!(matches!(taken, Err(AuthError::EmailTaken)), "{taken:?}");

    let rows = maxscale_shard::sql(
        "SELECT shard_id FROM ms_user UNION ALL SELECT shard_id FROM ms_session
         UNION ALL SELECT shard_id FROM ms_session_user",
    );
    let mut places = Vec::new();
    for node in bench.router().nodes().iter() {
        for row in node.database().fetch_all(rows.clone()).await.unwrap() {
            places.push((node.id().clone(), row.get("shard_id").unwrap()));
        }
    }
    places
}
