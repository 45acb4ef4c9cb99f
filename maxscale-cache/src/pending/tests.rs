use std::path::Path;

use super::*;
use crate::message::Subject;

const OFF: Duration = Duration::from_secs(60);

fn order(name: &str, soft: bool) -> Order {
    Order {
        name: name.into(),
        target: Target::Value {
            kind: "kind".into(),
            part: name.into(),
            soft,
        },
    }
}

fn hard(name: &str) -> Order {
    order(name, false)
}

#[test]
fn mark_that_is_soft_does_not_soften_an_earlier_one() {
    let pending = Pending::new(10);
    drop(pending.mark(hard("k"), OFF));
    assert_eq!(pending.mark(order("k", true), OFF).order, hard("k"));
}

#[test]
fn confirming_an_earlier_invalidation_leaves_the_later_one() {
    let pending = Pending::new(10);
    let first = pending.mark(hard("k"), OFF);
    let second = pending.mark(hard("k"), OFF);
    first.confirm();
    assert!(pending.bars("k"));
    second.confirm();
    assert!(!pending.bars("k"));
}

#[test]
fn invalidation_counts_as_late_once_an_attempt_failed_and_until_it_is_confirmed() {
    let pending = Pending::new(10);
    let first = pending.mark(hard("k"), OFF);
    assert_eq!(pending.failed(), 0, "on its way");
    drop(first);
    assert_eq!(pending.failed(), 1);
    let again = pending.mark(hard("k"), OFF);
    assert_eq!(
        pending.failed(),
        1,
        "a later one of the key says nothing new"
    );
    again.confirm();
    assert_eq!(pending.failed(), 0);
}

#[test]
fn invalidation_given_up_is_due_until_confirmed() {
    let pending = Pending::new(10);
    drop(pending.mark(hard("k"), OFF));
    drop(pending.take_due());
    let mut due = pending.take_due();
    assert_eq!(due.len(), 1);
    assert!(pending.take_due().is_empty());
    due.remove(0).confirm();
    assert!(!pending.bars("k"));
    assert_eq!(pending.failed(), 0);
}

#[tokio::test(start_paused = true)]
async fn overflow_turns_everything_off_for_a_while() {
    let pending = Pending::new(1);
    let kept = pending.mark(hard("a"), OFF);
    let lost = pending.mark(hard("b"), OFF);
    kept.confirm();
    lost.confirm();
    assert!(pending.bars("b") && pending.bars("unrelated"));
    tokio::time::advance(OFF).await;
    assert!(!pending.bars("b"));
}

fn journaled(path: &Path) -> Pending {
    let (journal, notes) = open_journal(path).unwrap();
    let mut pending = Pending::new(2);
    pending.keep_in(journal, notes, "app");
    pending
}

fn order_of(news: News<'_>) -> Order {
    Order::new("app", Target::of(news))
}

#[tokio::test]
async fn what_was_noted_and_not_confirmed_is_due_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let it = |part| Subject { kind: "kind", part };
    let (soft, hard, tag) = (
        order_of(News::Stale(it("a"))),
        order_of(News::Drop(it("a"))),
        order_of(News::Tag(it("red"))),
    );
    let pending = journaled(&path);
    let mark = pending.mark(soft, OFF);
    drop(mark);
    pending.note("app:kind:a").await;
    drop(pending.mark(hard.clone(), OFF));
    pending.note("app:kind:a").await;
    drop(pending.mark(tag.clone(), OFF));
    pending.note(&tag.name).await;
    drop(pending);

    let pending = journaled(&path);
    assert!(pending.bars("app:kind:a") && pending.bars(&tag.name));
    let due = pending.take_due();
    assert_eq!(due.len(), 2);
    for mark in due {
        if mark.order == tag {
            mark.confirm();
        } else {
            assert_eq!(mark.order, hard);
        }
    }
    pending.tidy().await;
    for mark in pending.take_due() {
        mark.confirm();
    }
    pending.tidy().await;
    drop(pending);
    assert_eq!(open_journal(&path).unwrap().1, []);
}

#[tokio::test]
async fn what_did_not_fit_turns_l2_off_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let pending = journaled(&path);
    for name in ["app:kind:a", "app:kind:b", "app:kind:c"] {
        let part = name.rsplit_once(':').unwrap().1;
        drop(pending.mark(order_of(News::Drop(Subject { kind: "kind", part })), OFF));
        pending.note(name).await;
    }
    drop(pending);
    let pending = journaled(&path);
    assert_eq!(pending.failed(), 2);
    assert!(pending.bars("app:kind:unrelated"));
}

#[tokio::test]
async fn journal_of_another_release_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (journal, _) = Notes::open(&path).unwrap();
    journal.sync(journal.push("x:kind:a")).await.unwrap();
    drop(journal);
    assert!(matches!(
        open_journal(&path),
        Err(JournalError::Decode { .. })
    ));
}
