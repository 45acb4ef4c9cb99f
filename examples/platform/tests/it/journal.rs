//! What the databases themselves say about jobs: triggers write down each end.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maxscale_queue::Job as _;
use maxscale_shard::{Database, DatabaseOptions, Engine, Row, Sql, sql};
use maxscale_tests::eventually;
use platform::forget::Forget;
use platform::mail::SendMail;
use uuid::Uuid;

/// The nodes' databases, each with a table of what ended in it.
#[derive(Debug)]
pub(crate) struct Journal {
    nodes: Vec<Database>,
}

/// What all nodes hold together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) jobs: usize,
    /// Runs that were cut off.
    pub(crate) crashes: i64,
    pub(crate) most_attempts: i64,
    /// Files that no row owns.
    pub(crate) orphans: usize,
}

// Whatever leaves a job in a final state is an end, also of one that had ended.
const POSTGRES: [&str; 4] = [
    "CREATE TABLE journal (kind text NOT NULL, id uuid NOT NULL)",
    "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO journal VALUES (TG_ARGV[0],
            (CASE TG_ARGV[0] WHEN 'job' THEN to_jsonb(NEW) ->> 'job_id'
             ELSE to_jsonb(NEW) ->> 'track_id' END)::uuid);
        RETURN NULL; END $$",
    "CREATE TRIGGER note_job AFTER UPDATE ON ms_job FOR EACH ROW
     WHEN (NEW.state IN ('done', 'dead')) EXECUTE FUNCTION note('job')",
    "CREATE TRIGGER note_track AFTER UPDATE ON track FOR EACH ROW
     EXECUTE FUNCTION note('track')",
];
const SQLITE: [&str; 3] = [
    "CREATE TABLE journal (kind TEXT NOT NULL, id BLOB NOT NULL)",
    "CREATE TRIGGER note_job AFTER UPDATE ON ms_job WHEN NEW.state IN ('done', 'dead')
     BEGIN INSERT INTO journal VALUES ('job', NEW.job_id); END",
    "CREATE TRIGGER note_track AFTER UPDATE ON track
     BEGIN INSERT INTO journal VALUES ('track', NEW.track_id); END",
];

// === impl Journal ===

impl Journal {
    /// The databases at `urls`, looked at only.
    pub(crate) fn open(urls: &[String]) -> Self {
        let options = DatabaseOptions::default();
        let open = |url: &String| Database::open("node", url, &options).unwrap();
        Self {
            nodes: urls.iter().map(open).collect(),
        }
    }

    /// Has the databases write down every end from now on.
    pub(crate) async fn begin(&self) {
        for node in &self.nodes {
            let statements = match node.engine() {
                Engine::Postgres => POSTGRES.as_slice(),
                Engine::Sqlite => SQLITE.as_slice(),
            };
            for text in statements {
                node.execute(sql(text)).await.unwrap();
            }
        }
    }

    /// The one job there is beside mails: its state, attempt and crashes.
    pub(crate) async fn only_job(&self) -> Option<(String, i64, i64)> {
        let text = "SELECT state, attempt, crashes FROM ms_job WHERE kind <> 'mail.send'";
        let rows = self.rows(text).await;
        assert!(rows.len() <= 1, "{rows:?}");
        let row = rows.first()?;
        let number = |column| row.get(column).unwrap();
        Some((
            row.get("state").unwrap(),
            number("attempt"),
            number("crashes"),
        ))
    }

    /// When the last job ended, by the databases' clock, which is ours as well.
    pub(crate) async fn last_end(&self) -> SystemTime {
        let text = "SELECT max(finished_at) AS at FROM ms_job WHERE kind <> 'mail.send'";
        let rows = self.rows(text).await;
        let ends = rows.iter().map(|row| row.get::<Option<i64>>("at").unwrap());
        let micros = ends.flatten().max().unwrap();
        UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap())
    }

    /// Waits until no job is left to be done.
    pub(crate) async fn all_ended(&self, limit: Duration) {
        let text = "SELECT job_id FROM ms_job WHERE state NOT IN ('done', 'dead')";
        eventually(limit, async || {
            let left = self.rows(text).await.len();
            (left == 0).then_some(()).ok_or(left)
        })
        .await;
    }

    /// Each track has its file, and the one job whose end and effect were each
    /// committed once. Each other job told caches of a change or
    /// sent a mail, and ended once as well.
    pub(crate) async fn assert_one_end_each(&self, objects: &Path) -> Totals {
        let mut ends: HashMap<(String, Uuid), usize> = HashMap::new();
        for row in self.rows("SELECT kind, id FROM journal").await {
            let key = (row.get("kind").unwrap(), row.get("id").unwrap());
            *ends.entry(key).or_default() += 1;
        }
        let once = |kind: &str, id: Uuid| {
            let ends = ends.get(&(kind.to_owned(), id));
            assert_eq!(ends, Some(&1), "ends of {kind} {id}");
        };
        assert!(self.rows("SELECT job_id FROM ms_job_dead").await.is_empty());
        let mut totals = Totals::default();
        let mut jobs = HashMap::new();
        let text = "SELECT job_id, kind, args, state, attempt, crashes FROM ms_job";
        for row in self.rows(text).await {
            let (job, state): (Uuid, String) =
                (row.get("job_id").unwrap(), row.get("state").unwrap());
            assert_eq!(state, "done", "{job}");
            once("job", job);
            totals.crashes += row.get::<i64>("crashes").unwrap();
            totals.most_attempts = totals.most_attempts.max(row.get("attempt").unwrap());
            totals.jobs += 1;
            let kind: String = row.get("kind").unwrap();
            if ![Forget::KIND, SendMail::KIND].contains(&&*kind) {
                jobs.insert(job, row.get::<String>("args").unwrap());
            }
        }
        let mut files = files_below(objects);
        let fleet = std::fs::read_dir(objects).unwrap().next().unwrap();
        let fleet = fleet.unwrap().path();
        for row in self
            .rows("SELECT track_id, job_id, url, bytes FROM track")
            .await
        {
            let track: Uuid = row.get("track_id").unwrap();
            once("track", track);
            let args = jobs.remove(&row.get("job_id").unwrap());
            let args = args.unwrap_or_else(|| panic!("track {track} has no job of its own"));
            assert!(args.contains(&track.to_string()), "{track}: {args}");
            let url: String = row.get("url").unwrap();
            let path = fleet.join(url.strip_prefix("file://").unwrap());
            let size = std::fs::metadata(&path).map(|file| file.len());
            let told = row.get::<i64>("bytes").unwrap();
            assert_eq!(size.ok(), u64::try_from(told).ok(), "{}", path.display());
            files -= 1;
        }
        assert!(jobs.is_empty(), "jobs without their track: {jobs:?}");
        totals.orphans = files;
        totals
    }

    async fn rows(&self, text: &'static str) -> Vec<Row> {
        let mut all = Vec::new();
        for node in &self.nodes {
            let statement = Sql::both(text).statement();
            all.extend(node.fetch_all(statement).await.unwrap());
        }
        all
    }
}

/// How many files are below a folder, at any depth.
pub(crate) fn files_below(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let count = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => files_below(&entry.path()),
        false => 1,
    };
    entries.map(|entry| count(entry.unwrap())).sum()
}
