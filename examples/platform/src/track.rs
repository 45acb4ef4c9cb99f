//! Tracks: an uploaded file, its row, and what a job finds out about it.
//!
//! The object is on disk before its row exists; the row and the job that will
//! measure it are written in one transaction. A crash in between leaves an
//! object without a row, which the [sweep](crate::sweep) removes.

use std::sync::Arc;

use maxscale_core::clock::Clock;
use maxscale_core::id::{Id, IdGenerator};
use maxscale_queue::{EnqueueOptions, JobId, Queue, QueueError};
use maxscale_shard::{
    FreshShard, Freshness, Router, Row, Shard, ShardError, Sql, Tx, TxOptions, Work,
};

use crate::audio::Analysis;
use crate::measure::Measure;
use crate::objects::Stored;
use crate::project::read_id;

/// The tracks of all projects, each on the shard of the user who owns it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracks {
    router: Router,
    queue: Queue,
    ids: Arc<IdGenerator>,
    clock: Clock,
}

/// A track.
#[derive(Clone, Debug)]
pub struct Track {
    /// Its id, drawn on its user's shard.
    pub id: Id,
    /// The name it was uploaded under.
    pub name: String,
    /// Where its file is.
    pub url: String,
    /// The job that measures it.
    pub job: Id,
    /// What the job found, once it is done.
    pub measured: Option<Measured>,
}

/// A file that was uploaded, and has no row yet.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "whoever uploads fills it")]
pub struct Upload<'u> {
    /// Whose it is.
    pub user: Id,
    /// What it is uploaded to.
    pub project: Id,
    /// The track's id, which names the object.
    pub track: Id,
    /// The name it was uploaded under.
    pub name: &'u str,
    /// Where its file is.
    pub stored: &'u Stored,
}

/// What a job found out about a track.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its length in seconds.
    pub duration_s: f64,
    /// The largest sample in dBFS; `None` for digital silence.
    pub peak_dbfs: Option<f64>,
    /// The integrated loudness in LUFS; `None` for silence.
    pub loudness_lufs: Option<f64>,
    /// Pairs of lowest and highest sample, to be drawn.
    pub waveform: Vec<u8>,
}

const INSERT: Sql = Sql::both(
    "INSERT INTO track (shard_id, project_id, track_id, name, url, bytes, job_id, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
);
const LOAD: Sql = Sql::both(
    "SELECT track_id, name, url, job_id, duration_s, peak_dbfs, loudness_lufs, waveform
     FROM track WHERE shard_id = $1 AND project_id = $2 AND track_id = $3",
);
const LIST: Sql = Sql::both(
    "SELECT track_id, name, url, job_id, duration_s, peak_dbfs, loudness_lufs, waveform
     FROM track WHERE shard_id = $1 AND project_id = $2 ORDER BY track_id DESC LIMIT 100",
);
const MEASURED: Sql = Sql::both(
    "UPDATE track SET duration_s = $4, peak_dbfs = $5, loudness_lufs = $6, waveform = $7
     WHERE shard_id = $1 AND project_id = $2 AND track_id = $3",
);

// === impl Tracks ===

impl Tracks {
    /// Tracks on the router's nodes, measured by jobs of `queue`.
    pub const fn new(router: Router, queue: Queue, ids: Arc<IdGenerator>, clock: Clock) -> Self {
        Self {
            router,
            queue,
            ids,
            clock,
        }
    }

    /// Draws the id of a track of `user`, to name its object with.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] for an id that is no user's.
    pub fn draw(&self, user: Id) -> Result<Id, ShardError> {
        Ok(self.ids.draw(self.router.route(user)?.virtual_shard()))
    }

    /// Stores the row of a file and the job that will measure it, where its user's
    /// rows lie by now: an upload takes a while.
    ///
    /// # Errors
    ///
    /// Returns [`QueueError`]; unless the database was unreachable, nothing is stored.
    pub async fn create(
        &self,
        freshness: &Freshness,
        upload: Upload<'_>,
    ) -> Result<JobId, QueueError> {
        let shard = freshness.on(&self.router.shard(upload.user)?);
        let job = Measure {
            user: upload.user.as_uuid(),
            project: upload.project.as_uuid(),
            track: upload.track.as_uuid(),
        };
        let (queue, job, id) = (&self.queue, &job, shard.id());
        let now = self.clock.now();
        let created = shard.write(TxOptions::new(), |tx| {
            Work::new(async move {
                let options = EnqueueOptions::default();
                let job = queue.enqueue_in(tx, job, options).await?.id();
                let row = INSERT
                    .statement()
                    .bind(id)
                    .bind(upload.project)
                    .bind(upload.track)
                    .bind(upload.name)
                    .bind(upload.stored.url.as_str())
                    .bind(i64::try_from(upload.stored.size).unwrap_or(i64::MAX))
                    .bind(job)
                    .bind(now);
                tx.execute(row).await?;
                Ok::<_, QueueError>(job)
            })
        });
        Ok(created.await?.value)
    }

    /// The track, if it is there, for who works on it. Whether `user` owns the project
    /// is not asked.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the user's shard cannot be asked.
    pub async fn find(
        &self,
        user: Id,
        project: Id,
        track: Id,
    ) -> Result<Option<Track>, ShardError> {
        let shard = self.router.shard(user)?;
        let statement = LOAD.statement().bind(shard.id()).bind(project).bind(track);
        let row = shard.fetch_optional(statement).await?;
        row.map(|row| Track::read(&row)).transpose()
    }

    /// The track, if it is there, as its user sees it on `shard`.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the user's shard cannot be asked.
    pub async fn see(
        &self,
        shard: &FreshShard,
        project: Id,
        track: Id,
    ) -> Result<Option<Track>, ShardError> {
        let statement = LOAD.statement().bind(shard.id()).bind(project).bind(track);
        let row = shard.fetch_optional(statement).await?;
        row.map(|row| Track::read(&row)).transpose()
    }

    /// The 100 newest tracks of `project`, on the shard of its user.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the user's shard cannot be asked.
    pub async fn list(&self, shard: &FreshShard, project: Id) -> Result<Vec<Track>, ShardError> {
        let rows = shard
            .fetch_all(LIST.statement().bind(shard.id()).bind(project))
            .await?;
        rows.iter().map(Track::read).collect()
    }

    /// Notes in `tx`, which was begun on `shard`, what was found; false if the
    /// track is gone.
    ///
    /// # Errors
    ///
    /// Returns [`ShardError`] when the database refuses.
    pub async fn note(
        tx: &mut Tx,
        shard: &Shard,
        project: Id,
        track: Id,
        found: &Analysis,
    ) -> Result<bool, ShardError> {
        let row = MEASURED
            .statement()
            .bind(shard.id())
            .bind(project)
            .bind(track)
            .bind(found.duration_seconds())
            .bind(found.peak_dbfs())
            .bind(found.loudness_lufs)
            .bind(found.waveform.as_bytes());
        Ok(tx.execute(row).await? == 1)
    }
}

// === impl Track ===

impl Track {
    fn read(row: &Row) -> Result<Self, ShardError> {
        let duration: Option<f64> = row.get("duration_s")?;
        let waveform: Option<Vec<u8>> = row.get("waveform")?;
        let (peak_dbfs, loudness_lufs) = (row.get("peak_dbfs")?, row.get("loudness_lufs")?);
        Ok(Self {
            id: read_id(row, "track_id")?,
            name: row.get("name")?,
            url: row.get("url")?,
            job: read_id(row, "job_id")?,
            measured: duration
                .zip(waveform)
                .map(|(duration_s, waveform)| Measured {
                    duration_s,
                    peak_dbfs,
                    loudness_lufs,
                    waveform,
                }),
        })
    }
}
