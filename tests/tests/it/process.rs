use std::{os::unix::process::ExitStatusExt, time::Duration};

use maxscale_tests::{Process, eventually, free_port};

const LIMIT: Duration = Duration::from_secs(60);

fn shell(script: &str) -> Process {
    Process::builder("sh").args(["-c", script]).start()
}

#[tokio::test]
async fn both_outputs_are_collected_to_the_last_line() {
    let process = shell("echo one; echo two >&2; printf three");

    let status = process.wait(LIMIT).await;

    assert!(status.success());
    assert_eq!(process.stdout(), ["one", "three"]);
    assert_eq!(process.stderr(), ["two"]);
}

#[tokio::test]
async fn a_program_gets_only_the_variables_that_it_is_given() {
    let process = Process::builder("sh")
        .args(["-c", "echo $GIVEN:$HOME:$CARGO_MANIFEST_DIR"])
        .env("GIVEN", "yes")
        .start();

    assert_eq!(process.wait_for_line(":", LIMIT).await, "yes::");
}

#[tokio::test]
async fn a_line_is_waited_for() {
    let process = shell("read x </dev/null; echo started; exec cat /dev/zero >/dev/null");

    process.wait_for_line("start", LIMIT).await;

    assert!(process.is_running());
}

#[tokio::test]
#[should_panic(expected = "ended without a line \"never\"")]
async fn a_program_that_ends_without_the_line_fails_the_test_at_once() {
    shell("echo other")
        .wait_for_line("never", LIMIT * 1_000)
        .await;
}

#[tokio::test]
async fn termination_is_a_signal_that_the_program_may_answer() {
    let process = shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done");
    process.wait_for_line("up", LIMIT).await;

    process.terminate();

    assert_eq!(process.wait(LIMIT).await.code(), Some(3));
    assert_eq!(process.stdout(), ["up", "bye"]);
}

#[tokio::test]
async fn a_kill_ends_what_the_program_started_too() {
    let process = shell("trap '' TERM; sleep 1000 & echo child $!; wait");
    let line = process.wait_for_line("child", LIMIT).await;
    let child = line.strip_prefix("child ").unwrap().to_owned();

    process.kill();

    assert_eq!(process.wait(LIMIT).await.signal(), Some(9));
    eventually(LIMIT, async || !super::left_behind::runs(&child)).await;
}

#[tokio::test]
#[should_panic(expected = "not within 50ms at tests/tests/it/process.rs")]
async fn a_condition_that_never_holds_fails_at_the_callers_line() {
    eventually(Duration::from_millis(50), async || false).await;
}

#[tokio::test]
#[should_panic(expected = "no answer")]
async fn a_condition_that_hangs_does_not_hang_the_test() {
    eventually(Duration::from_millis(50), async || {
        std::future::pending::<bool>().await
    })
    .await;
}

#[test]
fn no_port_is_given_twice() {
    let ports: std::collections::BTreeSet<_> = (0..1_000).map(|_| free_port()).collect();

    assert_eq!(ports.len(), 1_000);
}
