//! Guesses at a password: few, ever slower, and the owner logs in all the same.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::client::{Answer, PASSWORD, send};
use crate::service::Service;

const ADA: &str = "ada@example.com";

/// A login from the address `from`, as a proxy tells it.
async fn log_in(service: &Service, from: &str, email: &str, password: &str) -> Answer {
    let request = service.client().request(Method::POST, "/v1/login");
    let body = json!({ "email": email, "password": password });
    let request = request.header("x-forwarded-for", from).json(&body);
    send(request).await.unwrap()
}

async fn behind_a_proxy(folder: &tempfile::TempDir) -> Service {
    let builder = Service::builder(folder.path());
    let builder = builder.env("MAXSCALE__HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
    // Only what is tried at an account is to be refused here.
    let builder = builder.env("MAXSCALE__LIMITS__LOGINS_PER_MINUTE", "10000");
    Service::start(builder).await
}

#[tokio::test]
async fn who_guesses_waits_after_each_guess_also_where_there_is_no_account() {
    let folder = tempfile::tempdir().unwrap();
    let service = behind_a_proxy(&folder).await;
    service.client().sign_up(ADA).await;
    for email in [ADA, "nobody@example.com", "Nobody2@EXAMPLE.com "] {
        let wrong = log_in(&service, "203.0.113.1", email, "a wrong password").await;
        assert_eq!(wrong.status, 401, "{wrong:?}");
        let mut refused = None;
        for _ in 0..20 {
            let again = log_in(&service, "203.0.113.1", email, "another wrong one").await;
            if again.status == 429 {
                refused = Some(again);
                break;
            }
        }
        let refused = refused.unwrap();
        assert_eq!(refused.body["code"], "limited");
        let wait: u64 = refused.headers["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..=900).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn owner_logs_in_from_where_he_did_while_many_addresses_guess() {
    let folder = tempfile::tempdir().unwrap();
    let service = behind_a_proxy(&folder).await;
    service.client().sign_up(ADA).await;
    let home = log_in(&service, "198.51.100.7", ADA, PASSWORD).await;
    assert_eq!(home.status, 200, "{home:?}");
    let mut checked = 0;
    for round in 0..7 {
        let guesses = (0..10).map(|n| {
            let (service, from) = (&service, format!("203.0.113.{}", round * 10 + n));
            async move { log_in(service, &from, ADA, "a wrong password").await }
        });
        for answer in join_all(guesses).await {
            checked += usize::from(answer.status == 401);
            assert!(answer.status == 401 || answer.status == 429, "{answer:?}");
        }
    }
    assert_eq!(checked, 50, "passwords that were checked");
    // Another device waits, the owner at home does not, nor does anybody else.
    let away = log_in(&service, "198.51.100.99", ADA, PASSWORD).await;
    assert_eq!(away.status, 429, "{away:?}");
    let home = log_in(&service, "198.51.100.7", ADA, PASSWORD).await;
    assert_eq!(home.status, 200, "{home:?}");
}
