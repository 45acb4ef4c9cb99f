//! Mails, as the folder of the embedded mode has them, and where their links lead.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maxscale_shard::{Database, DatabaseOptions, sql};
use maxscale_tests::eventually;
use serde_json::json;

use crate::client::{Answer, Client, PASSWORD};
use crate::service::Service;

const LIMIT: Duration = Duration::from_secs(60);
const ADA: &str = "ada@example.com";
const OTHER: &str = "another horse and its battery";

/// The folder of mails of a service that runs in `folder`.
fn mails(folder: &Path) -> PathBuf {
    folder.join(".maxscale/mail")
}

/// Waits until so many mails were sent; gives the link of the newest.
async fn link(folder: &Path, number: usize) -> String {
    link_to(ADA, folder, number).await
}

/// That of a mail to this address.
async fn link_to(address: &str, folder: &Path, number: usize) -> String {
    let mails = mails(folder);
    eventually(LIMIT, async || {
        let files = fs::read_dir(&mails).into_iter().flatten();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|it| it == "eml"));
        files.sort();
        if files.len() < number {
            return Err(files);
        }
        assert_eq!(files.len(), number, "{files:?}");
        let mail = fs::read_to_string(&files[number - 1]).unwrap();
        assert!(mail.contains(&format!("To: {address}")), "{mail}");
        let link = mail.lines().find(|line| line.starts_with("http"));
        Ok(link
            .unwrap_or_else(|| panic!("no link in {mail}"))
            .to_owned())
    })
    .await
}

/// Opens the page that `link` leads to, as a browser does; gives the token behind it.
async fn open(service: &Service, link: &str, page: &str) -> String {
    let (path, token) = link.split_once('#').unwrap();
    assert_eq!(path, format!("{}/v1/{page}", service.base()));
    let shown = service.client().get(&format!("/v1/{page}")).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(shown.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(shown.headers["cache-control"], "no-store");
    token.to_owned()
}

async fn log_in(client: &Client, password: &str) -> Answer {
    let body = json!({ "email": ADA, "password": password });
    client.post("/v1/login", &body).await
}

#[tokio::test]
async fn forgotten_password_is_set_by_the_link_of_a_mail() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let ada = service.client();
    ada.sign_up(ADA).await;
    // She is asked to confirm the address, though she is logged in.
    let confirm = link(folder.path(), 1).await;
    open(&service, &confirm, "confirm").await;
    for email in [ADA, "nobody@example.com"] {
        let body = json!({ "email": email });
        let told = service.client().post("/v1/password/forgot", &body).await;
        assert_eq!(told.status, 202, "{told:?}");
    }
    let link = link(folder.path(), 2).await;
    let token = open(&service, &link, "reset").await;
    let body = json!({ "token": token, "password": OTHER });
    let visitor = service.client();
    let set = visitor.post("/v1/password/reset", &body).await;
    assert_eq!(set.status, 204, "{set:?}");

    assert_eq!(
        ada.patch("/v1/me", &json!({ "name": "Eve" })).await.status,
        401
    );
    assert_eq!(log_in(&service.client(), OTHER).await.status, 200);
    let again = visitor.post("/v1/password/reset", &body).await;
    assert_eq!(again.body["code"], "mail_token", "{again:?}");
    let log = service.process.lines().join("\n");
    assert!(!log.contains("mxm_") && !log.contains(&token), "{log}");
}

#[tokio::test]
async fn sign_up_by_mail_ends_with_the_link_and_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Service::builder(folder.path()).env("MAXSCALE__ACCOUNTS__SIGN_UPS", "quiet");
    let service = Service::start(builder).await;
    let ada = service.client();
    let body = json!({ "email": ADA, "password": PASSWORD, "name": "Ada" });
    assert_eq!(ada.post("/v1/signup", &body).await.status, 202);
    let token = open(&service, &link(folder.path(), 1).await, "confirm").await;
    // Who has the link alone has nothing.
    let wrong = json!({ "token": token, "password": OTHER });
    let refused = service.client().post("/v1/email/verify", &wrong).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    let right = json!({ "token": token, "password": PASSWORD });
    eventually(LIMIT, async || {
        // After a failure it waits for a second.
        let answer = ada.post("/v1/email/verify", &right).await;
        (answer.status == 200).then_some(()).ok_or(answer)
    })
    .await;
    assert_eq!(ada.get("/v1/me").await.text("/user/email"), ADA);

    let eve = json!({ "email": ADA, "password": OTHER, "name": "Eve" });
    let told = service.client().post("/v1/signup", &eve).await;
    assert_eq!(told.status, 202, "{told:?}");
    let link = link(folder.path(), 2).await;
    assert_eq!(link, format!("{}/v1/forgot", service.base()));
}

#[tokio::test]
async fn mail_that_cannot_be_sent_is_tried_again_and_lies_sealed_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    service.client().sign_up(ADA).await;
    link(folder.path(), 1).await;
    fs::remove_dir_all(mails(folder.path())).unwrap();
    let body = json!({ "email": ADA });
    let told = service.client().post("/v1/magic/send", &body).await;
    assert_eq!(told.status, 202, "{told:?}");
    let job = eventually(LIMIT, async || {
        failed_mail(folder.path()).await.ok_or("none")
    })
    .await;
    assert!(!job.contains("mxm_") && !job.contains(ADA), "{job}");

    fs::create_dir(mails(folder.path())).unwrap();
    let token = open(&service, &link(folder.path(), 1).await, "magic").await;
    let ada = service.client();
    let answer = ada
        .post("/v1/magic/redeem", &json!({ "token": token }))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(ada.get("/v1/me").await.text("/user/email"), ADA);
}

#[tokio::test]
async fn changed_address_is_shown_at_once_and_told_to_the_audit() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let ada = service.client();
    ada.sign_up(ADA).await;
    link(folder.path(), 1).await;
    assert_eq!(ada.get("/v1/me").await.text("/user/email"), ADA);
    let new = "countess@example.com";
    let body = json!({ "email": new, "password": PASSWORD });
    let told = ada.post("/v1/email/change", &body).await;
    assert_eq!(told.status, 202, "{told:?}");
    let confirm = link_to(new, folder.path(), 2).await;
    let token = open(&service, &confirm, "email").await;
    let confirmed = ada
        .post("/v1/email/verify", &json!({ "token": token }))
        .await;
    assert_eq!(confirmed.status, 204, "{confirmed:?}");
    // Less than a profile lives in a cache.
    eventually(LIMIT, async || {
        let shown = ada.get("/v1/me").await;
        (shown.text("/user/email") == new)
            .then_some(())
            .ok_or(shown)
    })
    .await;
    let log = service.process.lines();
    let audit = log
        .iter()
        .filter(|line| line.contains(r#""target":"audit""#));
    let audit: Vec<_> = audit.collect();
    for told in ["SignedUp", "SessionBegun", "EmailChanged"] {
        assert!(audit.iter().any(|line| line.contains(told)), "{log:?}");
    }
    let shows = |line: &&&String| line.contains(ADA) || line.contains(new);
    assert_eq!(audit.iter().find(shows), None);
}

/// All that is stored of a mail whose first attempt failed.
async fn failed_mail(folder: &Path) -> Option<String> {
    for number in 1..=4 {
        let file = folder.join(format!(".maxscale/node-{number}.db"));
        let url = format!("sqlite://{}", file.display());
        let node = Database::open("asked", &url, &DatabaseOptions::default()).unwrap();
        let text = "SELECT args, last_error FROM ms_job
            WHERE kind = 'mail.send' AND last_error IS NOT NULL";
        let found = node.fetch_all(sql(text)).await.unwrap();
        node.close().await;
        if let Some(row) = found.first() {
            let text = |column| row.get::<String>(column).unwrap();
            return Some(text("args") + &text("last_error"));
        }
    }
    None
}
