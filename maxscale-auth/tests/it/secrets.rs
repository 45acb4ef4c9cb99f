//! What a copy of the databases, and of all that is logged, gives away.

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maxscale_auth::MailKind;
use maxscale_shard::{Engine, sql};
use maxscale_tests::Process;
use tracing_subscriber::fmt::MakeWriter;

use crate::mail::at;
use crate::support::{Bench, LIMIT, PASSWORD};

const EMAIL: &str = "ada@example.org";
const OTHER: &str = "countess@example.org";
const NEW: &str = "another horse battery";

/// What was logged.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<u8>>>);

impl Write for Journal {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Journal {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// All rows, as text.
async fn dump(bench: &Bench) -> String {
    let mut dump = String::new();
    let postgres = [
        "SELECT t::text AS n FROM ms_user t",
        "SELECT t::text AS n FROM ms_mail_token t",
        "SELECT t::text AS n FROM ms_former_email t",
        "SELECT t::text AS n FROM ms_session t",
        "SELECT t::text AS n FROM ms_claim t",
        "SELECT t::text AS n FROM ms_claim_mark t",
    ];
    let sqlite = [
        "SELECT email || name || password_hash AS n FROM ms_user",
        "SELECT hex(token_hash) || email || payload AS n FROM ms_mail_token",
        "SELECT email AS n FROM ms_former_email",
        "SELECT hex(secret_hash) || device AS n FROM ms_session",
        "SELECT hex(value_hash) || kind AS n FROM ms_claim",
        "SELECT hex(value_hash) || kind AS n FROM ms_claim_mark",
    ];
    for node in bench.router().nodes().iter() {
        let texts = match node.database().engine() {
            Engine::Postgres => postgres,
            Engine::Sqlite => sqlite,
        };
        for text in texts {
            for row in node.database().fetch_all(sql(text)).await.unwrap() {
                dump.push_str(&row.get::<String>("n").unwrap().to_lowercase());
            }
        }
    }
    dump
}

/// Each form in which a token could lie somewhere: its text, and its secret in hex.
fn forms(token: &str) -> [String; 2] {
    let bytes = URL_SAFE_NO_PAD.decode(&token[4..]).unwrap();
    let secret = &bytes[bytes.len() - 48..bytes.len() - 16];
    let hex = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    [token.to_lowercase(), hex]
}

/// Runs every flow, and looks for what each had in secret, while it was good for something.
async fn look_through(journal: &Journal, engine: Engine) {
    let bench = Bench::new(engine).await;
    let accounts = bench.quiet();
    let mut secrets = vec![
        PASSWORD.to_owned(),
        NEW.to_owned(),
        "app.example/auth".to_owned(),
    ];
    let mut dumps = String::new();

    accounts
        .sign_up(EMAIL, PASSWORD, "Ada", &at("1"))
        .await
        .unwrap();
    let sign_up = bench.letters.token(MailKind::ConfirmSignUp, EMAIL).await;
    dumps += &dump(&bench).await;
    let ada = accounts
        .confirm_sign_up(&sign_up, PASSWORD, &at("1"))
        .await
        .unwrap();
    let own = bench.who(&ada.token).await.unwrap();
    let client = at("2").session(Some(&own)).device(Some(&ada.device));
    drop(accounts.log_in(EMAIL, NEW, &at("3")).await);
    accounts.send_magic_link(EMAIL, &at("4")).await.unwrap();
    accounts.forgot_password(EMAIL, &at("5")).await.unwrap();
    accounts
        .change_email(OTHER, Some(PASSWORD), &client)
        .await
        .unwrap();
    dumps += &dump(&bench).await;
    let confirm = bench.letters.token(MailKind::ConfirmEmail, OTHER).await;
    accounts.confirm_email(&confirm, &client).await.unwrap();
    let client = at("6").session(Some(&own));
    let rotated = accounts.change_password(Some(PASSWORD), NEW, &client).await;
    let rotated = rotated.unwrap().unwrap();
    dumps += &dump(&bench).await;

    let undo = bench.letters.token(MailKind::EmailChanged, EMAIL).await;
    let magic = bench.letters.token(MailKind::LogIn, EMAIL).await;
    let reset = bench.letters.token(MailKind::ResetPassword, EMAIL).await;
    for token in [
        sign_up, magic, reset, confirm, undo, ada.token, rotated, ada.device,
    ] {
        secrets.extend(forms(&token));
    }
    let journal = String::from_utf8_lossy(&journal.0.lock().unwrap()).to_lowercase();
    // There is something to look through.
    assert!(dumps.contains("$argon2id$") && dumps.contains(EMAIL));
    assert!(
        journal.contains("ms_mail_token"),
        "statements are logged at this level"
    );
    for secret in secrets {
        assert!(!dumps.contains(&secret), "{secret} is stored");
        assert!(!journal.contains(&secret), "{secret} is logged");
    }
}

/// The process that logs; run by the test below and by nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
async fn logging() {
    let journal = Journal::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(journal.clone())
        .finish();
    // Of all threads, also those of the drivers; so it has a process of its own.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    look_through(&journal, Engine::Sqlite).await;
    look_through(&journal, Engine::Postgres).await;
}

#[tokio::test]
async fn nothing_of_use_is_stored_or_logged() {
    let process = Process::builder(std::env::current_exe().unwrap())
        .args(["secrets::logging", "--exact", "--ignored"])
        .start();
    let ended = process.wait(6 * LIMIT).await;
    assert!(ended.success(), "{:?}", process.lines());
}
