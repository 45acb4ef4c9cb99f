//! Mails in a folder, and by a real conversation in SMTP.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use maxscale_auth::mail::{FileMailer, Mail, MailKind, Mailer as _, MailerError, SmtpMailer};
use maxscale_auth::mail::{Letter, english};
use maxscale_core::Chain;
use maxscale_core::clock::{Clock, Timestamp};
use maxscale_tests::{Certificate, Certificates, SmtpServer, free_port};
use tokio::task::JoinSet;

const FROM: &str = "Acme <no-reply@acme.example>";
const LINK: &str =
    "https://app.test/auth/password/reset?token=0123456789012345678901234567890123456789";

fn mail(to: &str) -> Mail {
    Mail::new(
        MailKind::ResetPassword,
        to.to_owned(),
        LINK.to_owned(),
        Some(Timestamp::from_micros(1_800_000_000_000_000)),
    )
}

fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| line.trim_end_matches('\r'))
        .collect()
}

fn assert_is_the_mail(text: &str) {
    let lines = lines(text);
    for line in [
        "From: Acme <no-reply@acme.example>",
        "To: someone@example.com",
        "Subject: Acme: set a new password",
        "Date: Tue, 14 Nov 2023 22:13:20 +0000",
        "Auto-Submitted: auto-generated",
        LINK,
    ] {
        assert!(lines.contains(&line), "no {line} in {text}");
    }
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_micros(1_700_000_000_000_000)).0
}

#[tokio::test]
async fn mail_becomes_a_file_that_only_its_owner_reads() {
    let at = tempfile::tempdir().unwrap();
    let folder = at.path().join("mails");
    let mailer = FileMailer::new(&folder, FROM, english("Acme")).unwrap();
    let mailer = mailer.clock(clock());
    mailer.send(&mail("someone@example.com")).await.unwrap();
    let files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|it| it.unwrap())
        .collect();
    let [file] = &*files else {
        panic!("{files:?}");
    };
    let name = file.file_name().into_string().unwrap();
    assert!(
        name.starts_with("00001700000000000000-") && name.ends_with(".eml"),
        "{name}"
    );
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_is_the_mail(&fs::read_to_string(file.path()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_at_one_moment_are_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mailer = FileMailer::new(folder.path(), FROM, english("Acme")).unwrap();
    let mailer = mailer.clock(clock());
    let mut sending = JoinSet::new();
    for _ in 0..50 {
        let mailer = mailer.clone();
        sending.spawn(async move { mailer.send(&mail("someone@example.com")).await.unwrap() });
    }
    sending.join_all().await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 50);
}

#[tokio::test]
async fn folder_that_is_gone_is_an_error_without_the_link() {
    let folder = tempfile::tempdir().unwrap();
    let mailer = FileMailer::new(folder.path(), FROM, english("Acme")).unwrap();
    folder.close().unwrap();
    let error = mailer.send(&mail("someone@example.com")).await.unwrap_err();
    assert!(matches!(error, MailerError::Folder { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("token"));
}

#[tokio::test]
async fn server_gets_the_mail() {
    let server = SmtpServer::start().await;
    let mailer = SmtpMailer::builder(server.url(), FROM, english("Acme")).unwrap();
    let mailer = mailer.clock(clock()).build().unwrap();
    mailer.send(&mail("someone@example.com")).await.unwrap();
    mailer.send(&mail("other@example.com")).await.unwrap();
    let taken = server.mails();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0].from, "no-reply@acme.example");
    assert_eq!(taken[0].to, ["someone@example.com"]);
    assert_eq!(taken[1].to, ["other@example.com"]);
    assert_is_the_mail(&taken[0].text);
    assert_eq!(taken[0].word("https://"), Some(LINK));
}

#[tokio::test]
async fn refusal_and_an_absent_server_are_errors_without_the_link() {
    let server = SmtpServer::start().await;
    server.refuse("550 no such user");
    let mailer = SmtpMailer::builder(server.url(), FROM, english("Acme")).unwrap();
    let refused = mailer
        .build()
        .unwrap()
        .send(&mail("someone@example.com"))
        .await;
    assert!(server.mails().is_empty());
    let nowhere = format!("smtp://127.0.0.1:{}", free_port());
    let mailer = SmtpMailer::builder(&nowhere, FROM, english("Acme")).unwrap();
    let mailer = mailer.timeout(Duration::from_secs(20)).build().unwrap();
    let absent = mailer.send(&mail("someone@example.com")).await;
    for error in [refused.unwrap_err(), absent.unwrap_err()] {
        assert!(matches!(error, MailerError::Refused(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("token"));
    }
}

/// A mailer that trusts the tests' CA.
fn trusting(url: &str, certificates: &Certificates) -> SmtpMailer {
    let mailer = SmtpMailer::builder(url, FROM, english("Acme")).unwrap();
    mailer.ca(certificates.ca()).build().unwrap()
}

/// One that wants TLS at once, and one that wants to be asked.
async fn both_with(certificate: &Certificate) -> [SmtpServer; 2] {
    [
        SmtpServer::start_with_tls(certificate).await,
        SmtpServer::start_with_starttls(certificate).await,
    ]
}

#[tokio::test]
async fn mail_arrives_over_tls() {
    let certificates = Certificates::new();
    for server in both_with(certificates.valid()).await {
        let mailer = trusting(server.url(), &certificates);
        mailer.send(&mail("someone@example.com")).await.unwrap();
        let taken = server.mails();
        assert!(taken[0].tls, "{}", server.url());
        assert_eq!(taken[0].word("https://"), Some(LINK));
    }
}

#[tokio::test]
async fn server_that_is_not_who_it_should_be_gets_no_mail() {
    let certificates = Certificates::new();
    let mut refused = Vec::new();
    for wrong in [
        certificates.wrong_name(),
        certificates.expired(),
        certificates.unknown_ca(),
    ] {
        for server in both_with(wrong).await {
            refused.push((trusting(server.url(), &certificates), server));
        }
    }
    // Its CA is none of the system's.
    for server in both_with(certificates.valid()).await {
        let mailer = SmtpMailer::builder(server.url(), FROM, english("Acme")).unwrap();
        refused.push((mailer.build().unwrap(), server));
    }
    // Somebody in between has taken STARTTLS out of what the server offers.
    let plain = SmtpServer::start().await;
    let url = format!("{}?tls=required", plain.url());
    refused.push((trusting(&url, &certificates), plain));

    for (mailer, server) in refused {
        let error = mailer.send(&mail("someone@example.com")).await.unwrap_err();
        assert!(matches!(error, MailerError::Refused(_)), "{error:?}");
        let told = format!("{error:?} {}", Chain(&error));
        assert!(!told.contains("token"), "{told}");
        assert!(server.mails().is_empty(), "{}", server.url());
    }
}

#[tokio::test]
async fn authority_is_a_file_of_certificates_and_needs_tls() {
    let certificates = Certificates::new();
    let builder = |url| SmtpMailer::builder(url, FROM, english("Acme")).unwrap();
    let absent = certificates.ca().with_extension("absent");
    for file in [&absent, certificates.valid().key()] {
        let error = builder("smtps://localhost").ca(file).build().unwrap_err();
        assert!(matches!(error, MailerError::Ca { .. }), "{error:?}");
    }
    for url in ["smtp://localhost", "smtp://localhost?tls=opportunistic"] {
        let error = builder(url).ca(certificates.ca()).plain().build();
        let error = error.unwrap_err();
        assert!(matches!(error, MailerError::Plain { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn subject_and_address_add_no_header() {
    let server = SmtpServer::start().await;
    let words = |_: &Mail| Letter {
        subject: "hello\r\nBcc: all@example.com\r\n\r\nü".to_owned(),
        text: ".\r\nRCPT TO:<all@example.com>\r\n".to_owned(),
    };
    let mailer = SmtpMailer::builder(server.url(), FROM, words).unwrap();
    let mailer = mailer.build().unwrap();
    mailer.send(&mail("someone@example.com")).await.unwrap();
    let taken = server.mails();
    assert_eq!(taken[0].to, ["someone@example.com"]);
    let headers = taken[0].text.split("\n\n").next().unwrap();
    assert!(
        !lines(headers).iter().any(|line| line.starts_with("Bcc")),
        "{headers}"
    );

    for to in ["a@example.com\r\nBcc: b@example.com", "a@example.com>", ""] {
        let refused = mailer.send(&mail(to)).await.unwrap_err();
        assert!(matches!(refused, MailerError::Recipient(_)), "{to:?}");
    }
}
