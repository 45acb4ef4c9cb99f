//! Programs of others verify our access tokens by the key set that we publish.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use maxscale_auth::jwt::{AccessTokens, Algorithm, Claims, KeyState, Keys, SigningKey};
use maxscale_auth::session::{Level, Roles};
use maxscale_core::clock::Clock;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::{IdGenerator, KeyspaceTag};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use uuid::Uuid;

const ISSUER: &str = "https://platform.example";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/strangers")
}

/// Runs it to its end; what it says.
async fn run(command: &mut Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A key set of both algorithms; two tokens that it verifies, and four that it does not.
fn asked() -> Value {
    let key = |algorithm| SigningKey::random(algorithm).unwrap();
    let [new, old] = [key(Algorithm::EdDsa), key(Algorithm::Es256)];
    let signing_by = |new_state, old_state| {
        let keys = [(new.clone(), new_state), (old.clone(), old_state)];
        Keys::new(keys).unwrap()
    };
    let before = signing_by(KeyState::Next, KeyState::Active);
    let after = signing_by(KeyState::Active, KeyState::Retiring);
    let unknown = Keys::new([(key(Algorithm::EdDsa), KeyState::Active)]).unwrap();

    let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
    let now = Clock::system().now();
    let claims = Claims {
        user: ids.draw(VirtualShard::new(5)),
        email: "ada@example.com".to_owned(),
        roles: Roles::new(["admin"]).unwrap(),
        session: ids.draw(VirtualShard::new(5)),
        epoch: 7,
        level: Level::Aal1,
        authenticated_at: now,
        token: Uuid::from_u128(1),
        issued_at: now,
        expires_at: now.after(AccessTokens::DEFAULT_LIFE),
    };
    let over = Claims {
        issued_at: now.before(Duration::from_secs(3_600)),
        expires_at: now.before(Duration::from_secs(2_700)),
        ..claims.clone()
    };
    let of = |audience: &str, claims: &Claims, keys: &Keys| {
        let tokens = AccessTokens::new(ISSUER, audience).unwrap();
        tokens.issue(claims, keys).unwrap()
    };
    let valid = of("platform", &claims, &after);
    let changed = {
        let (signed, signature) = valid.rsplit_once('.').unwrap();
        let other = of(
            "platform",
            &Claims {
                epoch: 8,
                ..claims.clone()
            },
            &after,
        );
        let (other, _) = other.rsplit_once('.').unwrap();
        assert_ne!(signed, other);
        format!("{other}.{signature}")
    };
    let tokens = [
        valid,
        of("platform", &claims, &before),
        changed,
        of("other", &claims, &after),
        of("platform", &over, &before),
        of("platform", &claims, &unknown),
    ];
    let jwks: Value = serde_json::from_str(&after.jwks()).unwrap();
    json!({ "jwks": jwks, "tokens": tokens, "issuer": ISSUER, "audience": "platform" })
}

fn judge(who: &str, said: &str) {
    let said: Vec<_> = said.lines().collect();
    let taken = said.iter().map(|line| *line == "taken");
    let expected = [true, true, false, false, false, false];
    assert!(taken.eq(expected), "{who}: {said:?}");
}

#[tokio::test]
#[ignore = "fetches a package of npm's"]
async fn jose_verifies_our_tokens_by_our_key_set() {
    let mut install = Command::new("npm");
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run(install.current_dir(folder()), "").await;
    let mut verify = Command::new("node");
    verify.arg("verify.mjs").current_dir(folder());
    judge("jose", &run(&mut verify, &asked().to_string()).await);
}

#[tokio::test]
#[ignore = "fetches packages of PyPI's"]
async fn pyjwt_verifies_our_tokens_by_our_key_set() {
    let packages = tempfile::tempdir().unwrap();
    let mut install = Command::new("python3");
    install.args(["-m", "pip", "install", "--quiet", "--target"]);
    install
        .arg(packages.path())
        .args(["--requirement", "requirements.txt"]);
    run(install.current_dir(folder()), "").await;
    let mut verify = Command::new("python3");
    verify.arg("verify.py").current_dir(folder());
    verify.env("PYTHONPATH", packages.path());
    judge("PyJWT", &run(&mut verify, &asked().to_string()).await);
}
