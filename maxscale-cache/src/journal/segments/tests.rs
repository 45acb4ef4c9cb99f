use super::*;

const LIMIT: u64 = 200;

fn open(folder: &Path) -> (Segments, Found) {
    Segments::open(folder, "user", LIMIT, 1).unwrap()
}

fn record(version: u64) -> Record {
    Record {
        id: format!("id-{version}"),
        version,
        value: Some(Bytes::from(vec![b'x'; 60])),
    }
}

fn versions(found: &Found) -> Vec<u64> {
    found.records.iter().map(|(it, _)| it.version).collect()
}

fn files(folder: &Path, extension: &str) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    entries
        .filter(|it| it.extension().is_some_and(|it| it == extension))
        .count()
}

#[test]
fn what_was_appended_is_found_and_later_versions_are_higher() {
    let folder = tempfile::tempdir().unwrap();
    let (mut segments, found) = open(folder.path());
    assert_eq!((versions(&found), found.last), (vec![], 0));
    for version in 5..=9 {
        segments.append(version, &[record(version)]).unwrap();
    }
    drop(segments);
    let (segments, found) = open(folder.path());
    assert_eq!((versions(&found), found.last), (vec![5, 6, 7, 8, 9], 9));
    drop(segments);
    // Nothing was written since, but a segment was begun with a number of its own.
    assert_eq!(open(folder.path()).1.last, 10);
}

#[test]
fn segments_are_removed_from_the_oldest_on_and_the_last_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(folder.path());
    let places: Vec<_> = (1..=12)
        .map(|version| segments.append(version, &[record(version)]).unwrap())
        .collect();
    assert!(files(folder.path(), NAME) > 3);
    segments.trim(Some(places[6])).unwrap();
    assert_eq!(segments.oldest(), Some(places[6]));
    segments.trim(None).unwrap();
    assert_eq!((files(folder.path(), NAME), segments.oldest()), (1, None));
    drop(segments);
    assert_eq!(open(folder.path()).1.last, 12);
}

#[test]
fn second_process_is_refused_while_the_first_one_lives() {
    let folder = tempfile::tempdir().unwrap();
    let held = open(folder.path());
    let refused = Segments::open(folder.path(), "user", LIMIT, 1);
    assert!(matches!(refused, Err(JournalError::InUse { .. })));
    drop(held);
    open(folder.path());
}

#[test]
fn torn_tail_is_cut_told_and_kept_aside_and_what_was_before_it_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(folder.path());
    segments.append(3, &[record(3), record(4)]).unwrap();
    let file = path(folder.path(), segments.active().start, NAME);
    drop(segments);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 5]).unwrap();

    let (segments, found) = open(folder.path());
    assert_eq!(versions(&found), [3]);
    assert!(found.torn > 5);
    assert_eq!(files(folder.path(), "torn"), 1);
    drop(segments);
    let (_, found) = open(folder.path());
    assert_eq!((versions(&found), found.torn), (vec![3], 0));
}

#[test]
fn damage_before_what_was_acknowledged_is_refused_and_nothing_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(folder.path());
    segments.append(3, &[record(3)]).unwrap();
    segments.append(4, &[record(4)]).unwrap();
    let file = path(folder.path(), segments.active().start, NAME);
    drop(segments);
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let refused = Segments::open(folder.path(), "user", LIMIT, 1);
    assert!(
        matches!(refused, Err(JournalError::Damaged { .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[test]
fn journal_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let refused = Segments::open(folder.path(), "order", LIMIT, 1);
    assert!(matches!(refused, Err(JournalError::Foreign { .. })));
}

#[test]
fn segment_that_was_never_begun_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(path(folder.path(), 9, "new"), b"MX").unwrap();
    let (_segments, found) = open(folder.path());
    assert_eq!((found.last, files(folder.path(), "new")), (0, 0));
}

#[test]
fn append_that_failed_leaves_nothing_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut segments, _) = open(folder.path());
    segments.append(3, &[record(3)]).unwrap();
    let file = path(folder.path(), segments.place(), NAME);
    // A disk that takes half of it.
    segments.active = File::open(&file).unwrap();
    let refused = segments.append(4, &[record(4)]);
    assert!(matches!(refused, Err(JournalError::Io { .. })));
    let mut torn = fs::read(&file).unwrap();
    torn.extend(b"MXJr half of it");
    fs::write(&file, torn).unwrap();

    segments.append(5, &[record(5)]).unwrap();
    drop(segments);
    let (_, found) = open(folder.path());
    assert_eq!((versions(&found), found.torn), (vec![3, 5], 0));
}
