//! Where rows lie when there are several nodes.

use std::collections::BTreeSet;

use maxscale_core::id::Id;
use maxscale_shard::{Database, DatabaseOptions, NodeId, Sql, Topology};
use uuid::Uuid;

use crate::client::{PLUCK, send};
use crate::servers::Servers;
use crate::service::Service;

/// Which node, which table, whose or which row.
type Place = (usize, &'static str, String);

/// Every table with rows of users, and the column by which they are told apart.
const TABLES: [(&str, Sql); 6] = [
    ("user", Sql::both("SELECT user_id AS id FROM ms_user")),
    ("session", Sql::both("SELECT user_id AS id FROM ms_session")),
    ("owner", Sql::both("SELECT user_id AS id FROM project")),
    ("project", Sql::both("SELECT project_id AS id FROM project")),
    ("track", Sql::both("SELECT track_id AS id FROM track")),
    (
        "job",
        Sql::both("SELECT job_id AS id FROM ms_job WHERE kind <> 'mail.send'"),
    ),
];
/// With two nodes, one run in a million million has all its users on one.
pub(crate) const MOST_USERS: usize = 40;

#[tokio::test]
async fn all_rows_of_a_user_are_in_the_one_database_that_the_users_shard_maps_to() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let service = Service::start(servers.builder(folder.path())).await;

    let mut made = BTreeSet::new();
    let both = |made: &BTreeSet<Place>| {
        let nodes: BTreeSet<usize> = made.iter().map(|(node, ..)| *node).collect();
        nodes.len() == 2
    };
    for number in 0..MOST_USERS {
        made.extend(make(&service, number).await);
        if both(&made) {
            break;
        }
    }
    assert!(both(&made), "{made:?}");
    assert_eq!(found(&servers).await, made);
}

/// A user with a project and a track; gives where each row has to be.
async fn make(service: &Service, number: usize) -> Vec<Place> {
    let client = service.client();
    let user = client.sign_up(&format!("u{number}@example.com")).await;
    let project = client.project("First recordings").await;
    let uploaded = send(client.upload(&project, PLUCK)).await.unwrap();
    assert_eq!(uploaded.status, 202, "{uploaded:?}");
    let (track, job) = (uploaded.text("/track/id"), uploaded.text("/track/job"));
    let home = home(&user);
    let ids = [user.clone(), user.clone(), user, project, track, job];
    let tables = TABLES.iter().map(|(table, _)| *table);
    tables
        .zip(ids)
        .map(|(table, id)| (home, table, id))
        .collect()
}

/// The place of the node that the user's shard maps to.
pub(crate) fn home(user: &str) -> usize {
    let nodes = ["node-1", "node-2"].map(|name| NodeId::new(name).unwrap());
    let map = Topology::even(nodes.to_vec(), 1024).unwrap();
    map.locate(user.parse::<Id>().unwrap().shard()).unwrap()
}

async fn found(servers: &Servers) -> BTreeSet<Place> {
    let mut found = BTreeSet::new();
    for (node, database) in servers.nodes.iter().enumerate() {
        let options = DatabaseOptions::default();
        let database = Database::open("asked", &database.url(), &options).unwrap();
        for (table, sql) in TABLES {
            for row in database.fetch_all(sql.statement()).await.unwrap() {
                found.insert((node, table, row.get::<Uuid>("id").unwrap().to_string()));
            }
        }
        database.close().await;
    }
    found
}
