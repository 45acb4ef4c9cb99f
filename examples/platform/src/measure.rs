//! The job that decodes an uploaded track and stores what it measures.

use maxscale_core::id::Id;
use maxscale_queue::{Handler, Job, JobRequest, Outcome};
use maxscale_shard::Router;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audio::{self, Analysis, AudioError};
use crate::objects::Objects;
use crate::track::Tracks;

/// Measures one track.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measure {
    /// Who uploaded it, on whose shard all of it lies.
    pub user: Uuid,
    /// The track's project.
    pub project: Uuid,
    /// The track.
    pub track: Uuid,
}

/// Runs [`Measure`] jobs.
#[derive(Clone, Debug)]
pub struct Measurer {
    /// Where the rows are.
    pub router: Router,
    /// The tracks' rows.
    pub tracks: Tracks,
    /// The tracks' files.
    pub objects: Objects,
}

// === impl Measure ===

impl Job for Measure {
    const KIND: &'static str = "track.measure";
}

// === impl Measurer ===

impl Handler<Measure> for Measurer {
    async fn run(&self, job: JobRequest<Measure>) -> Outcome {
        match self.measure(&job).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Retry(error.into()),
        }
    }
}

impl Measurer {
    async fn measure(&self, job: &JobRequest<Measure>) -> Result<Outcome, maxscale_core::BoxError> {
        let Measure {
            user,
            project,
            track,
        } = *job.job();
        let (user, project, id) = (
            Id::from_uuid(user)?,
            Id::from_uuid(project)?,
            Id::from_uuid(track)?,
        );
        let Some(track) = self.tracks.find(user, project, id).await? else {
            return Ok(Outcome::Dead("the track was deleted".into()));
        };
        // Also of a missing file another attempt is made: its folder may not be there yet.
        let file = self.objects.open(&track.url).await?;
        let found: Result<Analysis, AudioError> =
            tokio::task::spawn_blocking(move || audio::analyse(file)).await?;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.is_permanent() => return Ok(Outcome::Dead(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        // The effect and the job's end are one commit: neither is there without the other.
        let shard = self.router.shard(user)?;
        let mut tx = shard.begin().await?;
        Tracks::note(&mut tx, &shard, project, id, &found).await?;
        job.complete_in(&mut tx).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}
