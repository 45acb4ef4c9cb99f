//! A test in a process of its own, which dies by `kill -9`.

use std::env;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{self, Command};

/// Kills this process as nothing can prevent.
pub(crate) fn kill_self() -> ! {
    let pid = process::id().to_string();
    let _ = Command::new("kill").args(["-9", &pid]).status();
    unreachable!("nobody survives that")
}

/// Runs `test` in a process of its own; true if it was killed, false if it ended well.
pub(crate) async fn was_killed(test: &str, order: (&str, String)) -> bool {
    let mut child = tokio::process::Command::new(env::current_exe().unwrap());
    let child = child
        .args(["--ignored", "--exact", test])
        .env(order.0, order.1);
    let ended = child.kill_on_drop(true).output().await.unwrap();
    let killed = ended.status.signal() == Some(9);
    let told = String::from_utf8_lossy(&ended.stdout);
    assert!(killed || ended.status.success(), "{told}");
    assert!(killed || told.contains("1 passed"), "{told}");
    killed
}

#[expect(
    clippy::disallowed_methods,
    reason = "how a test tells itself what to do"
)]
pub(crate) fn order(name: &str) -> Option<String> {
    env::var(name).ok()
}
