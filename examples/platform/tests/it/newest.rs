//! The newest projects of all users, which lie on several nodes.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::client::{Answer, Client};
use crate::servers::Servers;
use crate::service::Service;
use crate::two_nodes::{MOST_USERS, home};

#[tokio::test]
async fn newest_projects_of_all_come_page_by_page_embedded() {
    let folder = tempfile::tempdir().unwrap();
    turn_the_pages(&Service::embedded(folder.path()).await).await;
}

#[tokio::test]
async fn newest_projects_of_all_come_page_by_page_on_servers() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    turn_the_pages(&Service::start(servers.builder(folder.path())).await).await;
}

async fn turn_the_pages(service: &Service) {
    let empty = service.client();
    empty.sign_up("reader@example.com").await;
    let page = empty.get("/v1/projects/newest").await;
    assert_eq!((ids(&page).len(), &page.body["next"]), (0, &Value::Null));

    // Users in turn, until both nodes hold projects.
    let (mut homes, mut newest) = (BTreeSet::new(), Vec::new());
    for number in 0..MOST_USERS {
        let client = service.client();
        homes.insert(home(
            &client.sign_up(&format!("u{number}@example.com")).await,
        ));
        for title in ["First", "Second"] {
            newest.insert(0, client.project(title).await);
        }
        if homes.len() == 2 && number >= 2 {
            break;
        }
    }
    assert_eq!(homes.len(), 2);

    let reader = &empty;
    for rows in [1, 4, 100] {
        assert_eq!(turned(reader, rows).await, newest);
    }
    let first = reader.get("/v1/projects/newest?limit=3").await;
    assert_eq!(first.body["complete"], true);
    // A place stays where it is when something newer comes.
    let newer = reader.project("Third").await;
    let next = first.text("/next");
    let second = reader
        .get(&format!("/v1/projects/newest?limit=3&after={next}"))
        .await;
    assert_eq!(ids(&second), newest[3..6]);
    assert_eq!(
        ids(&reader.get("/v1/projects/newest?limit=1").await),
        [newer]
    );

    let changed = if next.ends_with('0') { "1" } else { "0" };
    let changed = format!("{}{changed}", &next[..next.len() - 1]);
    for query in [
        &*format!("after={changed}"),
        "after=x",
        "after=",
        "limit=0",
        "limit=101",
        "limit=x",
        "page=2",
    ] {
        let refused = reader.get(&format!("/v1/projects/newest?{query}")).await;
        assert_eq!(refused.status, 400, "{query}: {refused:?}");
        assert_eq!(refused.headers["content-type"], "application/problem+json");
    }
    let stranger = service.client().get("/v1/projects/newest").await;
    assert_eq!(stranger.status, 401);
}

async fn turned(reader: &Client, rows: usize) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = reader
            .get(&format!("/v1/projects/newest?limit={rows}{after}"))
            .await;
        found.extend(ids(&page));
        if page.body["next"].is_null() {
            return found;
        }
        after = format!("&after={}", page.text("/next"));
    }
}

fn ids(page: &Answer) -> Vec<String> {
    assert_eq!(page.status, 200, "{page:?}");
    let projects = page.body["projects"].as_array().unwrap();
    let id = |project: &Value| project["id"].as_str().unwrap().to_owned();
    projects.iter().map(id).collect()
}
